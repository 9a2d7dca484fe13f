"""One ResNet-50 on SoyLocal with plain cross entropy: the baseline.

Command:  python -m fgvc_jax.train --config configs/ce_soylocal_resnet50.py \
              --data.source ultra:PATH
Cost:     not run. 0.09 million training images of 448 px; an estimated 1 min on a GPU that trains
          ResNet-50 at 1,400 of them per second.
Expected: no number at hand; the yardstick of the other methods on this set.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment


def get_config() -> Experiment:
    return replace(recipes.maskcov("soylocal"), workdir="runs/ce_soylocal_resnet50")
