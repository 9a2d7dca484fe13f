"""CSDNet (a reconstruction) on SoyLocal with ResNet-50.

Command:  python -m fgvc_jax.train --config configs/csdnet_soylocal_resnet50.py \
              --data.source ultra:PATH
Cost:     not run. 0.09 million training images of 448 px, each in two views; an estimated 2 min
          on a GPU that trains ResNet-50 at 1,400 of them per second.
Expected: CSDNet is a reconstruction from its abstract; 46.17 % is attributed to the original, it
          seems on ViT-B/16. Compare with ce_soylocal_resnet50.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment


def get_config() -> Experiment:
    return replace(
        recipes.maskcov("soylocal"),
        workdir="runs/csdnet_soylocal_resnet50",
        objective="csdnet",
    )
