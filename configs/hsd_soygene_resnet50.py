"""HSD (a reconstruction) on SoyGene with ResNet-50.

Command:  python -m fgvc_jax.train --config configs/hsd_soygene_resnet50.py \
              --data.source ultra:PATH
Cost:     not run. 2.04 million training images of 448 px; an estimated 0.4 h on a GPU that trains
          ResNet-50 at 1,400 of them per second.
Expected: HSD is a reconstruction from its abstract, so there is no number to reproduce. Compare
          with ce_soygene_resnet50.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment


def get_config() -> Experiment:
    return replace(recipes.maskcov("soygene"), workdir="runs/hsd_soygene_resnet50", objective="hsd")
