"""What one network learns from a batch: one method per file, and the one list of them."""

from fgvc_jax.objectives.base import Method
from fgvc_jax.objectives.ce import CE
from fgvc_jax.objectives.csdnet import CSDNet
from fgvc_jax.objectives.hsd import HSD
from fgvc_jax.objectives.kd import KD
from fgvc_jax.objectives.knn import KNN
from fgvc_jax.objectives.linear import Linear

# By the name that --objective takes. The options of a method are `--NAME.field`.
OBJECTIVES: dict[str, type[Method]] = {
    "ce": CE,
    "hsd": HSD,
    "csdnet": CSDNet,
    "kd": KD,
    "linear": Linear,
    "knn": KNN,
}
