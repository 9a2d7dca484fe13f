"""One ResNet-50 on Stanford Cars with plain cross entropy: the baseline.

Command:  python -m fgvc_jax.train --config configs/ce_cars_resnet50.py \
              --data.source cars:PATH
Cost:     not run. 0.81 million training images of 448 px; an estimated 0.2 h on a GPU that trains
          ResNet-50 at 1,400 of them per second.
Expected: published 91.7 % (fine-tuned ResNet-50, other protocols).
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment


def get_config() -> Experiment:
    return replace(recipes.kt("cars", "resnet50"), workdir="runs/ce_cars_resnet50")
