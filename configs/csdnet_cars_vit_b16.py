"""CSDNet (a reconstruction) on Stanford Cars with ViT-B/16.

Command:  python -m fgvc_jax.train --config configs/csdnet_cars_vit_b16.py \
              --data.source cars:PATH
Cost:     not run. 0.16 million training images of 448 px, each in two views.
Expected: CSDNet is a reconstruction from its abstract, which its authors made for few images per
          class. Compare with ce_cars_vit_b16.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment


def get_config() -> Experiment:
    return replace(recipes.transfg("cars"), workdir="runs/csdnet_cars_vit_b16", objective="csdnet")
