"""One ResNet-50 on CUB-200-2011 with plain cross entropy: the baseline.

Command:  python -m fgvc_jax.train --config configs/ce_cub_resnet50.py \
              --data.source cub:PATH
Cost:     not run. 0.60 million training images of 448 px; an estimated 0.1 h on a GPU that trains
          ResNet-50 at 1,400 of them per second.
Expected: published (by KT's authors) 87.2 %, 84.1 % in earlier publications; the published
          protocol selects the epoch by test accuracy: compare `best_on_test`.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment


def get_config() -> Experiment:
    return replace(recipes.kt("cub", "resnet50"), workdir="runs/ce_cub_resnet50")
