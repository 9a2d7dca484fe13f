"""One ViT-B/16 on SoyGene with plain cross entropy: the baseline.

Command:  python -m fgvc_jax.train --config configs/ce_soygene_vit_b16.py \
              --data.source ultra:PATH
Cost:     not run. 0.17 million training images of 448 px.
Expected: 21.31 % is published for ViT-B/16 alone, beside CSDNet.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment


def get_config() -> Experiment:
    return replace(recipes.transfg("soygene"), workdir="runs/ce_soygene_vit_b16")
