"""CSDNet (a reconstruction) on SoyGlobal with ViT-B/16.

Command:  python -m fgvc_jax.train --config configs/csdnet_soyglobal_vit_b16.py \
              --data.source ultra:PATH
Cost:     not run. 0.16 million training images of 448 px, each in two views.
Expected: CSDNet is a reconstruction from its abstract; 56.3 % is attributed to the original,
          24.97 % to ViT-B/16 alone.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment


def get_config() -> Experiment:
    return replace(
        recipes.transfg("soyglobal"),
        workdir="runs/csdnet_soyglobal_vit_b16",
        objective="csdnet",
    )
