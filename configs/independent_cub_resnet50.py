"""Five independent ResNet-50 on CUB-200-2011: the ensemble that KT has to beat.

Command:  python -m fgvc_jax.train --config configs/independent_cub_resnet50.py \
              --data.source cub:PATH
Cost:     not run. 2.99 million training images of 448 px; an estimated 0.6 h on a GPU that trains
          ResNet-50 at 1,400 of them per second.
Expected: published (by KT's authors) 88.6 % for the ensemble of five, single networks 86.6 to
          87.2 %; the published protocol selects the epoch by test accuracy: compare
          `best_on_test`.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment


def get_config() -> Experiment:
    return replace(
        recipes.kt("cub", "resnet50"),
        workdir="runs/independent_cub_resnet50",
        members=5,
    )
