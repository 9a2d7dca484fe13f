"""HSD (a reconstruction): hierarchical self-distillation in one network.

Command:  python -m fgvc_jax.train --config hsd:cub,resnet50 --data.source cub:PATH
Cost:     the benchmarks were not run. Hours are estimated for a GPU that trains ResNet-50 at 1,400
          images of 448 px a second. The drawn birds take minutes on two cores, little more than
          ce:sketchbirds.
Expected: HSD is a reconstruction from its abstract, so there is no number to reproduce; the
          published numbers are those of PMG, its neighbour. Compare with `ce`;
          scripts/studies/hsd.py does so part by part.
          On Swin-B and ConvNeXt-B the number is that of CAL in FGIR-Backbones (arXiv 2605.18700),
          the neighbour to beat, under a recipe of its own. SoyAgeing is five sets; whether its
          number is of one, of all together or a mean is unknown; the recipe takes all together.
"""

from dataclasses import replace

from fgvc_jax import recipes
from fgvc_jax.config import Experiment
from fgvc_jax.recipes import Row

TABLE = {  # published accuracy in percent, millions of training images, hours
    "cub,resnet50": Row("89.6, of PMG", 0.60, 0.12),
    "cub,convnext_base": Row("-", 0.18),
    "cub,swin_base": Row("90.9, of CAL", 0.18),
    "cars,resnet50": Row("95.1, of PMG", 0.81, 0.16),
    "cars,convnext_base": Row("-", 0.24),
    "cars,swin_base": Row("94.3, of CAL", 0.24),
    "aircraft,resnet50": Row("93.4, of PMG", 0.67, 0.13),
    "aircraft,convnext_base": Row("-", 0.20),
    "aircraft,swin_base": Row("92.2, of CAL", 0.20),
    "cotton80,resnet50": Row("-", 0.04, 0.01),
    "soylocal,resnet50": Row("-", 0.09, 0.02),
    "soygene,resnet50": Row("-", 2.04, 0.40),
    "soygene,convnext_base": Row("-", 0.38),
    "soygene,swin_base": Row("-", 0.38),
    "soyageing,resnet50": Row("-", 0.79, 0.16),
    "soyageing,convnext_base": Row("82.8, of CAL", 0.15),
    "soyageing,swin_base": Row("-", 0.15),
    "soyglobal,resnet50": Row("-", 0.93, 0.18),
    "sketchbirds": Row("-", 0.02),
}


def get_config(*arguments: str) -> Experiment:
    return replace(recipes.protocol("hsd", TABLE, arguments), objective="hsd")
