"""One ViT-B/16 on Stanford Cars with plain cross entropy: the baseline.

Command:  python -m fgvc_jax.train --config configs/ce_cars_vit_b16.py \
              --data.source cars:PATH
Cost:     not run. 0.16 million training images of 448 px.
Expected: no published number of this protocol without its part selection; the yardstick of
          csdnet_cars_vit_b16.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment


def get_config() -> Experiment:
    return replace(recipes.transfg("cars"), workdir="runs/ce_cars_vit_b16")
