"""The pure parts of an objective, what they hand each other, and the losses that they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from fgvc_jax.data.view import View
from fgvc_jax.utils.lazy import lazily

if TYPE_CHECKING:
    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen as nn

    from fgvc_jax.data.mixing import Mixing
    from fgvc_jax.networks import Inputs
    from fgvc_jax.networks.weights import Variables
else:
    jax, jnp, optax = map(lazily, ("jax", "jax.numpy", "optax"))

Tree = Any  # a pytree of arrays
Forward = Callable[["Variables", "Inputs", "jax.Array | None"], tuple[dict, dict, Tree]]


class Batch(NamedTuple):
    """One global training batch, augmented. Images are float32 in [0, 1], not yet normalised.

    Behind a frozen trunk there are its features in place of images (`networks.Network.features`).
    """

    image: Inputs  # (B, H, W, 3)
    label: jax.Array  # (B,) int32, of the view before it is mixed
    key: jax.Array  # (B,) random keys of (seed, view, id, member, step)
    progress: jax.Array  # () float32: step / steps of the whole run of this member
    second: Inputs | None = (
        None  # as `image`: what the objective's second view shows, where it has one
    )
    # What the ensemble that the objective asks says of the view: {"logits": (B, K) float16}, see
    # `ensemble.softened`.
    taught: Mapping[str, jax.Array] | None = None
    # How `image` was mixed of views; `label` and `taught` are of unmixed ones. None: it was not.
    mixing: Mixing | None = None

    def targets(self, classes: int) -> jax.Array:
        """(B, K) float32: the share of each class in an image."""
        alone = jax.nn.one_hot(self.label, classes)
        return self.mixing.of_images(alone) if self.mixing else alone

    @property
    def main_label(self) -> jax.Array:
        """(B,) int32: the class that has the largest share in an image."""
        return self.mixing.main(self.label) if self.mixing else self.label


class LossOutput(NamedTuple):
    """What an objective's loss returns."""

    loss: jax.Array  # () float32
    metrics: dict[str, jax.Array]  # scalars to log
    taps: dict[str, jax.Array]  # the raw view's feature maps, for the transfer
    batch_stats: Tree  # running statistics after this step
    memory: Tree  # what the objective remembers after this step


class SecondView(NamedTuple):
    """Another view of every image that a loss compares the first with, pure in the image's key."""

    show: Callable[[jax.Array, jax.Array], jax.Array]  # (keys, images in [0, 1]) -> the same
    options: Mapping[str, Any]  # all that it depends on, as JSON has it


class TeacherQuery(NamedTuple):
    """A trained ensemble, which an objective asks about every view that it shows."""

    workdir: str
    which: str  # "final" or "selected"
    members: int  # from the first; 0: all
    temperature: float  # at which its answers are softened


class HeldOut(NamedTuple):
    """What is said of training images by heads that were solved without them."""

    rows: np.ndarray  # (n,) int, increasing
    log_probabilities: np.ndarray  # (n, K) float32
    energy: np.ndarray  # (n,) float32, -log sum exp of what these are the softmax of
    heads: np.ndarray  # (n,) int, which of the heads said it


# Vectors (n, D) and their labels below K, and K -> vectors (m, D) -> logits (m, K) of a head that
# is solved for the former alone.
Refit = Callable[[np.ndarray, np.ndarray, int], Callable[[np.ndarray], np.ndarray]]


class Solved(NamedTuple):
    """The head that a solver found for the training images' embeddings."""

    params: Tree  # of the head "logits", numpy: what `Method.solve` determines of it
    metrics: dict[str, float]  # to log
    held_out: HeldOut
    refit: Refit | None = None  # where what a head says of new classes is worth a try
    # The same images, by heads that learned from a share of what those of `held_out` did.
    fewer: Mapping[float, HeldOut] = MappingProxyType({})


class Objective(NamedTuple):
    """A method, as a tuple of pure parts.

    heads: (heads beside "logits" that the method needs), by name.
    init_memory: (variables, outputs of one image as ShapeDtypeStructs) -> pytree of arrays.
    loss: (forward, variables, batch, memory) -> LossOutput, where forward(variables, images, keys)
        -> (taps, outputs, batch_stats) normalises the images and runs the network in training mode;
        the images' `keys` decide which blocks stochastic depth leaves out, without them (None, as
        for a teacher) none.
    predict: outputs -> (B, K) logits whose softmax is the prediction.
    second: what `Batch.second` shows; None for nothing.
    head: takes the pooling (`networks.heads`) as `pool` and gives the main head, in place of the
        one that the network's options name.
    """

    heads: Mapping[str, nn.Module]
    init_memory: Callable[[Variables, dict], Tree]
    loss: Callable[[Forward, Variables, Batch, Tree], LossOutput]
    predict: Callable[[dict], jax.Array]
    second: SecondView | None = None
    head: Callable[..., nn.Module] | None = None


@dataclass(frozen=True)
class Method:
    """The options of an objective, which also make it: the base class of every objective's own.

    A subclass declares its fields with `fgvc_jax.utils.options.option` and makes the objective of
    them. One entry in `objectives.OBJECTIVES` puts it on the command line.

    A method that `solves` is not trained by steps: its member is the pretrained network with the
    head that `solve` finds for the embeddings of the training images.
    """

    solves = False

    def check(self, view: View) -> None:
        """Raise an ArgumentError where options do not fit each other or the images."""

    def check_frozen(self) -> None:
        """Raise an ArgumentError where the method cannot learn from a frozen trunk's features."""

    def check_mixed(self) -> None:
        """Raise an ArgumentError where the method cannot learn from images of two labels."""

    @property
    def asks(self) -> TeacherQuery | None:
        """The ensemble whose answers come as `Batch.taught`; None for none."""
        return None

    def settle(self, labels: np.ndarray) -> Self:
        """These options with what is automatic decided by the labels (N,) of the training images.

        Raises ArgumentError where the method cannot learn from such a set.
        """
        return self

    def parts(self, view: View) -> list[str]:
        """Parts of `digests.NUMERICS` that the method computes with, beside the step."""
        return []

    def make(self, *, classes: int, label_smoothing: float, view: View) -> Objective:
        """The objective of `classes` classes; its options are settled.

        What it makes of the views of an image keeps to `view` as they do.
        """
        raise NotImplementedError(type(self))

    def solve(
        self,
        embeddings: np.ndarray,
        labels: np.ndarray,
        groups: np.ndarray,
        *,
        classes: int,
        seed: int,
        watch: Callable[[str], None],
    ) -> Solved:
        """The main head of a method that `solves`; its options are settled.

        Args:
            embeddings: (N, D), one of each training image.
            labels: (N,) int.
            groups: (N,) int; images of one group are held out together.
            classes: number of them, K.
            seed: of what is random.
            watch: told often what is being done; what it raises ends the solving.
        """
        raise NotImplementedError(type(self))


def cross_entropy(
    logits: jax.Array, labels: jax.Array, *, smoothing: float, weights: jax.Array | None = None
) -> jax.Array:
    """Mean cross entropy against labels mixed with the uniform distribution.

    Args:
        logits: (B, K).
        labels: (B,) int, or (B, K) the share of each class.
        smoothing: weight of the uniform distribution, in [0, 1).
        weights: (B,) of the images; None: all are 1.

    Returns:
        float32 scalar.
    """
    shares = jax.nn.one_hot(labels, logits.shape[-1]) if labels.ndim == 1 else labels
    targets = optax.smooth_labels(shares, smoothing)
    each = optax.softmax_cross_entropy(logits.astype(jnp.float32), targets)
    return (each if weights is None else weights * each).mean()


def distillation(student: jax.Array, teacher: jax.Array, *, temperature: float) -> jax.Array:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)), the mean over the batch.

    Hinton et al., arXiv 1503.02531. No gradient reaches the teacher.

    Args:
        student: (B, K) logits.
        teacher: (B, K) logits.
        temperature: T, above 0.

    Returns:
        float32 scalar, at least 0 but for rounding.
    """

    def softened(logits):
        return jax.nn.log_softmax(logits.astype(jnp.float32) / temperature)

    target = jax.lax.stop_gradient(softened(teacher))
    divergence = optax.losses.kl_divergence_with_log_targets(softened(student), target)
    return temperature**2 * divergence.mean()


def ramped(progress: jax.Array, ramp: float) -> jax.Array:
    """A term's share of its weight: from 0 to 1 over the first `ramp` of the training, then 1."""
    return jnp.clip(progress / ramp, 0.0, 1.0) if ramp else jnp.float32(1.0)
