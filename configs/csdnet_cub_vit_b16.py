"""CSDNet (a reconstruction) on CUB-200-2011 with ViT-B/16.

Command:  python -m fgvc_jax.train --config configs/csdnet_cub_vit_b16.py \
              --data.source cub:PATH
Cost:     not run. 0.16 million training images of 448 px, each in two views.
Expected: CSDNet is a reconstruction from its abstract, which its authors made for few images per
          class. Compare with ce_cub_vit_b16.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment


def get_config() -> Experiment:
    return replace(recipes.transfg("cub"), workdir="runs/csdnet_cub_vit_b16", objective="csdnet")
