"""Orthogonal transfer: what a network learns from the frozen networks trained before it.

"Knowledge Transfer Based Fine-Grained Visual Classification", Zhang, Du, Chang, Ma, Guo, ICME 2021,
arXiv 2012.11389.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from fgvc_jax.utils.errors import ArgumentError
from fgvc_jax.utils.lazy import lazily

if TYPE_CHECKING:
    import jax
    import jax.numpy as jnp
else:
    jax, jnp = map(lazily, ("jax", "jax.numpy"))

Tree = TypeVar("Tree")  # of arrays


@dataclass(frozen=True)
class Transfer:
    """What a network learns from the networks trained before it."""

    name: Literal["none", "orthogonal"] = "orthogonal"
    """none gives an ordinary, independent ensemble; orthogonal is KT."""
    alpha: float = 0.5
    """Weight of the orthogonal loss; below 0 (fixed) rewards overlap."""
    weighting: Literal["fixed", "ratio"] = "fixed"
    """fixed: loss + alpha * OR, the orthogonal loss (the paper); ratio: OR is rescaled to alpha
    times the objective's loss (the authors' code)."""
    maps: Literal["online", "precomputed"] = "precomputed"
    """Run the teachers in every step, or look their attention up, computed once per view."""

    def check(self) -> None:
        """Raise an ArgumentError for an `alpha` that this `weighting` does not allow."""
        if self.alpha < 0 and self.weighting == "ratio":
            raise ArgumentError(
                f"`alpha` {self.alpha:g} rewards overlap, which a share of the loss (`weighting` "
                "ratio) cannot: take `weighting` fixed"
            )


def attention_map(features: jax.Array) -> jax.Array:
    """The mean of the channels, each weighted by its mean activation (KT, eq. 1-2, before it is
    normalised).

    w_c = mean over space of F_c,  M = mean over c of w_c * F_c.

    Args:
        features: (B, H, W, C) last convolutional features, any float type.

    Returns:
        (B, H, W) float32 maps M.
    """
    features = features.astype(jnp.float32)
    channel_weight = features.mean(axis=(1, 2))
    weighted = jnp.einsum(
        "bhwc,bc->bhw", features, channel_weight, precision=jax.lax.Precision.HIGHEST
    )
    return weighted / features.shape[-1]


def standardize(maps: jax.Array) -> jax.Array:
    """Zero mean and unit sample deviation (ddof 1, no epsilon, as the authors' code) per image.

    Args:
        maps: (B, H, W).

    Returns:
        (B, H, W) float32 maps Z. A constant map, which has no deviation, gives 0 and gradient 0;
        constant means a deviation below 1e-6 of the largest value, float32's rounding.
    """
    maps = maps.astype(jnp.float32)
    centred = maps - maps.mean(axis=(1, 2), keepdims=True)
    # Once more, because the mean itself was rounded: of a constant map nothing may remain.
    centred = centred - centred.mean(axis=(1, 2), keepdims=True)
    positions = maps.shape[1] * maps.shape[2]
    variance = jnp.sum(centred**2, axis=(1, 2), keepdims=True) / max(positions - 1, 1)
    rounding = 1e-6 * jnp.max(jnp.abs(maps), axis=(1, 2), keepdims=True)
    varies = variance > rounding**2
    # The inner `where` keeps the gradient of the branch that is not taken finite.
    return jnp.where(varies, centred / jnp.sqrt(jnp.where(varies, variance, 1.0)), 0.0)


def teacher_attention(features: jax.Array) -> jax.Array:
    """|Z| of a teacher: (B, H, W, C) -> (B, H, W) float32."""
    return jnp.abs(standardize(attention_map(features)))


def on_grid(maps: jax.Array | np.ndarray, grid: tuple[int, int]) -> jax.Array:
    """|Z| of a network on another one's grid: an antialiased resize that keeps constants (ours).

    It is not standardised again: so the loss is linear in it, and the sum over the teachers is
    enough.

    Args:
        maps: (B, h, w).
        grid: (H, W).

    Returns:
        (B, H, W) float32; on their own grid the maps as they are.
    """
    return jax.image.resize(maps, (len(maps), *grid), "linear", antialias=True)


def overlap(student_features: jax.Array, attended: jax.Array) -> jax.Array:
    """mean over batch and space of A * max(Z_student, 0): eq. 3-5 with A = |Z_teacher|.

    The loss is linear in |Z_teacher|: for several teachers A is the mean of their |Z|.

    Args:
        student_features: (B, H, W, C).
        attended: (B, H, W), taken as a constant.

    Returns:
        float32 scalar.
    """
    student = jax.nn.relu(standardize(attention_map(student_features)))
    return jnp.mean(jax.lax.stop_gradient(attended) * student)


def orthogonal_loss(student_features: jax.Array, teacher_features: jax.Array) -> jax.Array:
    """OR_n = mean of |Z_n| * max(Z_s, 0) of one teacher n (KT, eq. 3-5; the mean is the code's).

    The teacher's absolute value marks what it attends to and what it takes for background alike;
    only the student's high responses there cost. No gradient reaches the teacher. A training step
    has several teachers and calls `overlap` with the mean of their maps.

    Args:
        student_features: (B, H, W, C).
        teacher_features: (B, H, W, C'), same B, H, W.

    Returns:
        float32 scalar.
    """
    return overlap(student_features, teacher_attention(teacher_features))


def weigh(loss: jax.Array, orthogonal: jax.Array, *, alpha: float, weighting: str) -> jax.Array:
    """The total of KT, eq. 6, from the objective's loss and the mean orthogonal loss.

    Args:
        loss: scalar, the objective's.
        orthogonal: scalar, mean over teachers.
        alpha: weight; below 0, which is ours, it rewards responses where |Z| of the earlier members
            is large: object and background alike.
        weighting: "fixed": loss + alpha * OR (the paper); "ratio": loss + sg(alpha*loss/OR) * OR
            (the authors' code), so that both terms keep the proportion alpha; OR = 0 adds nothing,
            nor does a loss below 0 (HSD's entropy term can bring it there), which would reward
            overlap.

    Returns:
        float32 scalar.
    """
    if weighting == "fixed":
        return loss + alpha * orthogonal
    present = orthogonal > 0
    ratio = jnp.where(present, alpha * loss / jnp.where(present, orthogonal, 1.0), 0.0)
    return loss + jax.lax.stop_gradient(jnp.maximum(ratio, 0.0)) * orthogonal


def mean_teacher_attention(
    features_of: Callable[[Tree], jax.Array],
    teachers: Tree,
    count: jax.Array,
    shape: tuple[int, ...],
) -> jax.Array:
    """A = mean over the first `count` teachers of |Z_n|; zero without teachers.

    One compiled loop serves every member of a run, whatever the number of its teachers.

    Args:
        features_of: variables of one teacher -> (B, H, W, C) features.
        teachers: variables stacked along a leading axis of at least `count`.
        count: int32 scalar.
        shape: (B, H, W) of the maps.

    Returns:
        (B, H, W) float32.
    """

    def add(n, total):
        teacher = jax.tree.map(lambda leaf: leaf[n], teachers)
        return total + teacher_attention(features_of(teacher))

    total = jax.lax.fori_loop(0, count, add, jnp.zeros(shape, jnp.float32))
    return total / jnp.maximum(count, 1)
