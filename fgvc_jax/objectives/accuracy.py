"""Exact counts and accuracies of a batch, as they run in a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgvc_jax.utils.lazy import lazily

if TYPE_CHECKING:
    import jax
    import jax.numpy as jnp
else:
    jnp = lazily("jax.numpy")


def correct(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> jax.Array:
    """Number of images whose highest logit is the label's.

    Args:
        logits: (..., B, K).
        labels: (B,) int.
        mask: (B,) bool, False for padding.

    Returns:
        (...) int32.
    """
    return jnp.sum((jnp.argmax(logits, axis=-1) == labels) & mask, axis=-1, dtype=jnp.int32)


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Fraction of a full batch that is right: (..., B, K), (B,) -> (...) float32."""
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels, axis=-1, dtype=jnp.float32)
