"""Five independent ResNet-50 on Stanford Cars: the ensemble that KT has to beat.

Command:  python -m fgvc_jax.train --config configs/independent_cars_resnet50.py \
              --data.source cars:PATH
Cost:     not run. 4.06 million training images of 448 px; an estimated 0.8 h on a GPU that trains
          ResNet-50 at 1,400 of them per second.
Expected: nothing is published; the yardstick of kt_cars_resnet50.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment


def get_config() -> Experiment:
    return replace(
        recipes.kt("cars", "resnet50"),
        workdir="runs/independent_cars_resnet50",
        members=5,
    )
