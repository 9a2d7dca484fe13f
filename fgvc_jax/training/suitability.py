"""Do pretrained weights belong to the network and to the normalisation that are named?

ResNets of both variants (a block's stride in its first convolution, or in its second) have the same
names and shapes, and a network takes images of any normalisation: nothing fails, and accuracy is
lost. But batch norms remember the variance of what they saw. Where the first images come nearer to
it in another variant, or under another normalisation, that one is named.
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from flax.typing import Collection

from fgvc_jax import networks
from fgvc_jax.data import augment
from fgvc_jax.data.images import decode
from fgvc_jax.networks import Network
from fgvc_jax.utils import compilation

if TYPE_CHECKING:  # which `embed` would wait for
    from fgvc_jax.training.run import Run

VARIANTS = {
    name: other
    for v15, v1 in (("resnet50", "resnet50_v1"), ("resnet101", "resnet101_v1"))
    for name, other in ((v15, v1), (v1, v15))
}
IMAGES, SIDE = 16, 160  # that are looked at, and how large at the most
NORMALIZATIONS = "half", "imagenet", "tensorflow"
# Another one is named where its distance is below so many times ours. With a ResNet-50's weights on
# birds of 160 to 400 px the right variant had 0.72 to 0.78 of the wrong one's distance (0.97 at 80
# px), the right normalisation 0.19 to 0.46 of a wrong one's. Drawings, whose contrast is not that
# of photographs, gave 0.87 to 1.02 and 0.28 to 0.49.
NEARER_VARIANT, NEARER_NORMALIZATION = 0.95, 0.5


def doubts(run: "Run") -> list[str]:
    """Lines on a run's weights from elsewhere that seem not to be for what it does with them."""
    asked: dict[tuple[str, str, str], int] = {}  # one of the members of which all of it is alike
    for number, network in enumerate(run.experiment.each, start=1):
        if network.weights and not network.weights.startswith("package:"):
            shown = run.experiment.of(number).data.normalize
            asked.setdefault((network.name, network.weights, shown), number)
    if not asked:
        return []
    images = _first_images(run)
    found: dict[str, None] = {}
    for (name, _, normalize), number in asked.items():
        given = run.start.pretrained(number)
        found |= dict.fromkeys(of_network(name, given, images, normalize))
    return list(found)


def _first_images(run: "Run") -> np.ndarray:
    """(B, side, side, 3) uint8: a few training images, evenly from all, and not large."""
    source, view = run.splits.train, run.experiment.data.view
    rows = np.linspace(0, len(source) - 1, IMAGES).astype(int)
    side = min(view.crop, SIDE)
    return np.stack([decode(source[int(row)], side, **view.reading) for row in rows])


def of_network(
    name: str, variables: Mapping[str, Any], images: np.ndarray, normalize: str
) -> list[str]:
    """What seems to be wrong with pretrained weights, a line each.

    Args:
        name: of the network that they were put in.
        variables: of its backbone: "params" and "batch_stats"; without batch norms nothing is said.
        images: (B, H, W, 3) uint8, as the network sees them; nothing is said by less than half of
            `IMAGES`.
        normalize: how they are normalised for it.
    """
    if not variables.get("batch_stats") or len(images) < IMAGES // 2:
        return []
    said, ours = [], Remembering(name, variables)
    seen = {
        kind: ours.distances(images, kind) for kind in dict.fromkeys((*NORMALIZATIONS, normalize))
    }
    first = ours.norms("stage2")
    stem = {kind: max(found[place] for place in first) for kind, found in seen.items()}
    usual = networks.normalization(name)
    nearest = min(stem, key=lambda kind: (stem[kind] > 1.05 * min(stem.values()), kind != usual))
    if stem[nearest] < NEARER_NORMALIZATION * stem[normalize]:
        said.append(
            f"the weights of {name} seem to have learned from images that were normalised "
            f"otherwise: try --data.normalize {nearest} in place of {normalize}"
        )
    if other := VARIANTS.get(name):
        theirs = Remembering(other, variables).distances(images, nearest)
        stage3 = ours.norms("stage3") - first
        near, far = (
            np.mean([found[place] for place in stage3]) for found in (theirs, seen[nearest])
        )
        if near < NEARER_VARIANT * far:
            said.append(
                f"the weights seem to be of a {other}, which has the names and shapes of a {name} "
                f"and its strides elsewhere: try --network.name {other}"
            )
    return said


class Remembering:
    """A network up to stage3, whose batch norms remember the variance of what they saw."""

    def __init__(self, name: str, variables: Mapping[str, Any]):
        self._network = networks.create(name, heads={}, dtype=jnp.float32, batch_norm_groups=1)
        self._variables = {
            kind: {"backbone": variables[kind]["backbone"]} for kind in ("params", "batch_stats")
        }

        def updated(variables, images):
            _, changed = self._network.apply(
                variables, images, method=partial(_backbone, train=True), mutable=["batch_stats"]
            )
            return changed["batch_stats"]

        self._updated = jax.jit(updated, compiler_options=compilation.cheaply())

    def distances(self, images: np.ndarray, normalize: str) -> dict[tuple[str, ...], float]:
        """|log of (the images' variance / the remembered one)|, the mean over channels, of every
        batch norm up to stage3 by its place."""
        seen = flatten_dict(self.remembered(images, normalize))
        known = flatten_dict(self._variables["batch_stats"])
        found = {}
        for place in self.norms("stage3"):
            before = np.asarray(known[place])
            least = 1e-3 * before.mean() + 1e-8  # a channel that is dead says nothing
            ratio = (seen[place] + least) / (before + least)
            found[place] = float(np.abs(np.log(ratio)).mean())
        return found

    def remembered(self, images: np.ndarray, normalize: str) -> Collection:
        """The "batch_stats" of weights that saw these images alone."""
        shown = augment.normalize(jnp.asarray(images, jnp.float32) / 255, normalize)
        after = jax.device_get(self._updated(self._variables, shown))
        # See `layers.BatchNorm` for the shares.
        return jax.tree.map(
            lambda new, old: np.maximum((new - 0.9 * np.asarray(old)) / 0.1, 0),
            after,
            self._variables["batch_stats"],
        )

    def norms(self, until: str) -> set[tuple[str, ...]]:
        """Where the variances of the batch norms up to a stage are."""
        one = jnp.zeros((1, 64, 64, 3))
        run = partial(self._network.init, method=partial(_backbone, train=False, until=until))
        shapes = jax.eval_shape(run, jax.random.key(0), one)
        return {place for place in flatten_dict(shapes["batch_stats"]) if place[-1] == "var"}


def _backbone(
    network: Network, images: jax.Array, *, train: bool, until: str = "stage3"
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    return network.backbone(images, train, until=until)
