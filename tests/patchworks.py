"""What tests of evidence share: pictures of patches, and a network that sees only them."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from fgvc_jax import networks
from fgvc_jax.data.view import View
from fgvc_jax.inference.architecture import Member
from fgvc_jax.inference.model import Model
from fgvc_jax.networks.heads import Heads, LinearHead
from fgvc_jax.utils import devices

VIEW = View(resize=40, crop=32, pad=0)


HEAD = LinearHead(classes=3, pool="avg")


class Patches(nn.Module):
    """A backbone without weights: what is red, green and blue in each patch of 8 or 4 pixels."""

    def __call__(self, x, train, after="", until="stage5", keys=None):
        x = x["map"] if after else nn.avg_pool(jnp.maximum(x, 0), (4, 4), (4, 4))
        taps = {"stage3": x, "stage5": nn.avg_pool(x, (2, 2), (2, 2))}
        return {name: tap for name, tap in taps.items() if after < name <= until}, {"map": x}


def model_of(
    network, members, predict=lambda outputs: outputs["logits"], trunk=None,
    classes=("red", "green", "blue"), kind=Model,
):  # fmt: skip
    return kind(
        classes=classes, view=VIEW, members=[Member(network, v, VIEW) for v in members],
        identities=[str(n) for n in range(len(members))], logits_of=predict, fusion="probabilities",
        mesh=devices.create_mesh(2), trunk=trunk,
    )  # fmt: skip


def linear(kernel):
    kernel = jnp.asarray(kernel, jnp.float32)
    return {"params": {"heads": {"logits": {"fc": {"kernel": kernel, "bias": jnp.zeros(3)}}}}}


def patchwork(frozen="", heads=None):
    constructors = {
        name: lambda parent, name=name, head=head: head.clone(parent=parent, name=name)
        for name, head in (heads or {"logits": HEAD}).items()
    }
    return networks.Network(backbone=Patches(), heads=Heads(constructors), frozen=frozen)


def picture(**corners):
    """(40, 40, 3), black but for corners: red at the top left, 12 pixels of which are seen, ..."""
    image = np.zeros((40, 40, 3), np.uint8)
    for name, value in corners.items():
        rows = slice(0, 16) if name in ("red", "green") else slice(24, 40)
        columns = slice(0, 16) if name in ("red", "blue") else slice(24, 40)
        image[rows, columns, ("red", "green", "blue").index(name)] = value
    return image
