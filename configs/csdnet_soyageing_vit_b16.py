"""CSDNet (a reconstruction) on SoyAgeing with ViT-B/16.

Command:  python -m fgvc_jax.train --config configs/csdnet_soyageing_vit_b16.py \
              --data.source ultra:PATH
Cost:     not run. 0.16 million training images of 448 px, each in two views.
Expected: CSDNet is a reconstruction from its abstract; 75.39 % is attributed to the original,
          48.61 % to ViT-B/16 alone.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment


def get_config() -> Experiment:
    return replace(
        recipes.transfg("soyageing"),
        workdir="runs/csdnet_soyageing_vit_b16",
        objective="csdnet",
    )
