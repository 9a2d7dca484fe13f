"""CSDNet (a reconstruction) on SoyGene with ResNet-50.

Command:  python -m fgvc_jax.train --config configs/csdnet_soygene_resnet50.py \
              --data.source ultra:PATH
Cost:     not run. 2.04 million training images of 448 px, each in two views; an estimated 0.8 h
          on a GPU that trains ResNet-50 at 1,400 of them per second.
Expected: CSDNet is a reconstruction from its abstract; 70.82 % is attributed to the original, it
          seems on ViT-B/16. Compare with ce_soygene_resnet50.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment


def get_config() -> Experiment:
    return replace(
        recipes.maskcov("soygene"),
        workdir="runs/csdnet_soygene_resnet50",
        objective="csdnet",
    )
