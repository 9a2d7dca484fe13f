"""One ViT-B/16 on FGVC-Aircraft with plain cross entropy: the baseline.

Command:  python -m fgvc_jax.train --config configs/ce_aircraft_vit_b16.py \
              --data.source aircraft:PATH
Cost:     not run. 0.16 million training images of 448 px.
Expected: no published number of this protocol without its part selection; the yardstick of
          csdnet_aircraft_vit_b16.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment


def get_config() -> Experiment:
    return replace(recipes.transfg("aircraft"), workdir="runs/ce_aircraft_vit_b16")
