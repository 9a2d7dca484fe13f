"""KT on CUB-200-2011 with VGG-16 with batch norm: five networks under the orthogonal loss.

Command:  python -m fgvc_jax.train --config configs/kt_cub_vgg16.py \
              --data.source cub:PATH
Cost:     not run. 2.99 million training images of 448 px, and with the attention passes 1.27
          times the work of plain training.
Expected: published 86.2 % for the ensemble of five; the published protocol selects the epoch by
          test accuracy: compare `best_on_test`.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment, Transfer


def get_config() -> Experiment:
    return replace(
        recipes.kt("cub", "vgg16_bn"),
        workdir="runs/kt_cub_vgg16",
        members=5,
        transfer=Transfer(name="orthogonal", alpha=0.5, weighting="fixed"),
    )
