"""Independent networks: the ensemble that KT has to beat.

Command:  python -m fgvc_jax.train --config independent:cub,resnet50 --data.source cub:PATH
Cost:     the benchmarks were not run. Hours are estimated for a GPU that trains ResNet-50 at 1,400
          images of 448 px a second. The drawn birds take minutes on two cores: the default
          experiment without its teachers.
Expected: what KT's authors publish on CUB, of the epoch with the best *test* accuracy: compare
          `best_on_test`. Elsewhere nothing is published; the yardstick of `kt`. On drawn birds an
          ensemble at least as good as its best member, whose members' attention overlaps more than
          in kt:sketchbirds.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment
from fgvc_jax.recipes import Row

TABLE = {  # published accuracy in percent, millions of training images, hours
    "cub,resnet50": Row("88.6, ensemble of five; single networks 86.6 to 87.2", 2.99, 0.59),
    "cars,resnet50": Row("-", 4.06, 0.81),
    "aircraft,resnet50": Row("-", 3.33, 0.66),
    "sketchbirds": Row("-", 0.06),
}


def get_config(*arguments: str) -> Experiment:
    return replace(
        recipes.protocol("independent", TABLE, arguments),
        members=3 if arguments == ("sketchbirds",) else 5,
    )
