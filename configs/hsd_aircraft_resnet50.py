"""HSD (a reconstruction) on FGVC-Aircraft with ResNet-50.

Command:  python -m fgvc_jax.train --config configs/hsd_aircraft_resnet50.py \
              --data.source aircraft:PATH
Cost:     not run. 0.67 million training images of 448 px; an estimated 0.1 h on a GPU that trains
          ResNet-50 at 1,400 of them per second.
Expected: HSD is a reconstruction from its abstract, so there is no number to reproduce; its
          neighbour PMG is published with 93.4 %. Compare with ce_aircraft_resnet50.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment


def get_config() -> Experiment:
    return replace(
        recipes.kt("aircraft", "resnet50"),
        workdir="runs/hsd_aircraft_resnet50",
        objective="hsd",
    )
