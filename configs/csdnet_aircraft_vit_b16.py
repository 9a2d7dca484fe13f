"""CSDNet (a reconstruction) on FGVC-Aircraft with ViT-B/16.

Command:  python -m fgvc_jax.train --config configs/csdnet_aircraft_vit_b16.py \
              --data.source aircraft:PATH
Cost:     not run. 0.16 million training images of 448 px, each in two views.
Expected: CSDNet is a reconstruction from its abstract, which its authors made for few images per
          class. Compare with ce_aircraft_vit_b16.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment


def get_config() -> Experiment:
    return replace(
        recipes.transfg("aircraft"),
        workdir="runs/csdnet_aircraft_vit_b16",
        objective="csdnet",
    )
