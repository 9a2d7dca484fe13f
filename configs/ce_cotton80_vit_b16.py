"""One ViT-B/16 on Cotton80 with plain cross entropy: the baseline.

Command:  python -m fgvc_jax.train --config configs/ce_cotton80_vit_b16.py \
              --data.source ultra:PATH
Cost:     not run. 0.16 million training images of 448 px.
Expected: 39.03 % is published for ViT-B/16 alone, beside CSDNet.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment


def get_config() -> Experiment:
    return replace(recipes.transfg("cotton80"), workdir="runs/ce_cotton80_vit_b16")
