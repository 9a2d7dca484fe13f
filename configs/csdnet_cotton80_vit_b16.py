"""CSDNet (a reconstruction) on Cotton80 with ViT-B/16.

Command:  python -m fgvc_jax.train --config configs/csdnet_cotton80_vit_b16.py \
              --data.source ultra:PATH
Cost:     not run. 0.16 million training images of 448 px, each in two views.
Expected: CSDNet is a reconstruction from its abstract; 57.92 % is attributed to the original,
          39.03 % to ViT-B/16 alone.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment


def get_config() -> Experiment:
    return replace(
        recipes.transfg("cotton80"),
        workdir="runs/csdnet_cotton80_vit_b16",
        objective="csdnet",
    )
