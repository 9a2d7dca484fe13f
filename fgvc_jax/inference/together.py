"""Which members one program asks together (`ensemble.vmapped`), and which one after the other."""

from jax.sharding import Mesh

from fgvc_jax.config import MembersAtOnce
from fgvc_jax.networks import Network
from fgvc_jax.networks.efficientnet import EfficientNet
from fgvc_jax.networks.swin import SwinTransformer
from fgvc_jax.networks.vit import VisionTransformer

MOST = 8  # members in a group, so that memory is bounded
# Vectorised over members, a product of matrices stays one, and so does a depthwise convolution; any
# other becomes a grouped convolution.
FAST = VisionTransformer, SwinTransformer, EfficientNet


def at_once(asked: MembersAtOnce, network: Network, mesh: Mesh, *, kept: bool) -> int:
    """How many members of one architecture a program vectorises over; 1: one program for each.

    Args:
        asked: a number, or "auto": what measured fastest, see `scripts/BENCHMARKS.md` (ensemble).
        network: of the members.
        mesh: devices that they are on.
        kept: whether the answers are kept. On the CPU these are then asked for one by one, so that
            they are the same to the bit whichever members were there when they were asked.
    """
    if asked != "auto":
        return asked
    if mesh.devices.flat[0].platform == "cpu" and kept:
        return 1
    return MOST if isinstance(network.backbone, FAST) else 1
