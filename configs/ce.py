"""One network with plain cross entropy: the baseline of the others.

Command:  python -m fgvc_jax.train --config ce:cub,resnet50 --data.source cub:PATH
Cost:     the benchmarks were not run. Hours are estimated for a GPU that trains ResNet-50 at 1,400
          images of 448 px a second. The drawn birds take minutes on two cores: a third of the
          default experiment, whose network and optimizer they have.
Expected: numbers of KT's authors, which are of the epoch with the best *test* accuracy (compare
          `best_on_test`), of other publications, and of ViT-B/16 alone in CSDNet's tables. Of
          ViT-B/16 on birds, cars and aircraft no number of this protocol is published without its
          part selection. SoyAgeing is five sets; whether its number is of one, of all together or a
          mean is unknown; the recipe takes all together. On drawn birds well above chance (4 %).
"""

from fgvc_jax import recipes
from fgvc_jax.config import Experiment
from fgvc_jax.recipes import Row

TABLE = {  # published accuracy in percent, millions of training images, hours
    "cub,resnet50": Row("87.2 by KT's authors, 84.1 in earlier publications", 0.60, 0.12),
    "cub,vit_b16": Row("-", 0.16),
    "cub,efficientnet_lite0": Row("-", 0.60),
    "cub,convnext_base": Row("-", 0.18),
    "cub,swin_base": Row("-", 0.18),
    "cars,resnet50": Row("91.7, fine-tuned under other protocols", 0.81, 0.16),
    "cars,vit_b16": Row("-", 0.16),
    "cars,convnext_base": Row("-", 0.24),
    "cars,swin_base": Row("-", 0.24),
    "aircraft,resnet50": Row("88.5, fine-tuned under other protocols", 0.67, 0.13),
    "aircraft,vit_b16": Row("-", 0.16),
    "aircraft,convnext_base": Row("-", 0.20),
    "aircraft,swin_base": Row("-", 0.20),
    "cotton80,resnet50": Row("-", 0.04, 0.01),
    "cotton80,vit_b16": Row("39.03, beside CSDNet", 0.16),
    "soylocal,resnet50": Row("-", 0.09, 0.02),
    "soylocal,vit_b16": Row("28.72, beside CSDNet", 0.16),
    "soygene,resnet50": Row("-", 2.04, 0.40),
    "soygene,vit_b16": Row("21.31, beside CSDNet", 0.17),
    "soygene,convnext_base": Row("-", 0.38),
    "soygene,swin_base": Row("-", 0.38),
    "soyageing,resnet50": Row("-", 0.79, 0.16),
    "soyageing,vit_b16": Row("48.61, beside CSDNet", 0.16),
    "soyageing,convnext_base": Row("-", 0.15),
    "soyageing,swin_base": Row("-", 0.15),
    "soyglobal,resnet50": Row("-", 0.93, 0.18),
    "soyglobal,vit_b16": Row("24.97, beside CSDNet", 0.16),
    "sketchbirds": Row("-", 0.02),
}


def get_config(*arguments: str) -> Experiment:
    return recipes.protocol("ce", TABLE, arguments)
