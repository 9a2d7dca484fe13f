"""KT on SoyGlobal with ResNet-50: five networks under the orthogonal loss.

Command:  python -m fgvc_jax.train --config configs/kt_soyglobal_resnet50.py \
              --data.source ultra:PATH
Cost:     not run. 4.65 million training images of 448 px, and with the attention passes 1.27
          times the work of plain training; an estimated 1.2 h on a GPU that trains ResNet-50 at
          1,400 of them per second.
Expected: nothing is published for KT on this set; compare with ce_soyglobal_resnet50.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment, Transfer


def get_config() -> Experiment:
    return replace(
        recipes.maskcov("soyglobal"),
        workdir="runs/kt_soyglobal_resnet50",
        members=5,
        transfer=Transfer(name="orthogonal", alpha=0.5, weighting="fixed"),
    )
