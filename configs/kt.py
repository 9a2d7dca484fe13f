"""KT: networks one after the other, each under the orthogonal loss of those before it.

Command:  python -m fgvc_jax.train --config kt:cub,resnet50 --data.source cub:PATH
Cost:     the benchmarks were not run. Hours are estimated for a GPU that trains ResNet-50 at 1,400
          images of 448 px a second; the attention passes make 1.27 times the work of plain
          training. The drawn birds take minutes on two cores.
Expected: the ensembles that KT's authors publish, of the epoch with the best *test* accuracy:
          compare `best_on_test`. What KT adds is the difference to `independent`, published as 0.5
          points on CUB with ResNet-50. On the leaf sets nothing is published for KT; compare with
          `ce`. On drawn birds an ensemble at least as good as its best member, whose members'
          attention overlaps less than in independent:sketchbirds.
          On Swin-B and ConvNeXt-B the number is that of CAL in FGIR-Backbones (arXiv 2605.18700),
          the neighbour to beat, under a recipe of its own. SoyAgeing is five sets; whether its
          number is of one, of all together or a mean is unknown; the recipe takes all together.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment, Transfer
from fgvc_jax.recipes import Row

TABLE = {  # published accuracy in percent, millions of training images, hours
    "cub,resnet50": Row("89.1, ensemble of five; single networks 86.1 to 87.2", 2.99, 0.75),
    "cub,vgg16": Row("86.2, ensemble of five", 2.99),
    "cub,efficientnet_lite0": Row("-", 2.99),
    "cub,convnext_base": Row("-", 0.90),
    "cub,swin_base": Row("90.9, of CAL", 0.90),
    "cars,resnet50": Row("94.1, ensemble of five", 4.06, 1.02),
    "cars,vgg16": Row("91.9, ensemble of five", 4.06),
    "cars,convnext_base": Row("-", 1.22),
    "cars,swin_base": Row("94.3, of CAL", 1.22),
    "aircraft,resnet50": Row("93.3, ensemble of five", 3.33, 0.84),
    "aircraft,vgg16": Row("90.5, ensemble of five", 3.33),
    "aircraft,convnext_base": Row("-", 1.00),
    "aircraft,swin_base": Row("92.2, of CAL", 1.00),
    "cotton80,resnet50": Row("-", 0.19, 0.05),
    "soylocal,resnet50": Row("-", 0.47, 0.12),
    "soygene,resnet50": Row("-", 10.20, 2.57),
    "soygene,convnext_base": Row("-", 1.91),
    "soygene,swin_base": Row("-", 1.91),
    "soyageing,resnet50": Row("-", 3.96, 1.00),
    "soyageing,convnext_base": Row("82.8, of CAL", 0.74),
    "soyageing,swin_base": Row("-", 0.74),
    "soyglobal,resnet50": Row("-", 4.65, 1.17),
    "sketchbirds": Row("-", 0.06),
}


def get_config(*arguments: str) -> Experiment:
    return replace(
        recipes.protocol("kt", TABLE, arguments),
        members=3 if arguments == ("sketchbirds",) else 5,
        transfer=Transfer(name="orthogonal", alpha=0.5, weighting="fixed"),
    )
