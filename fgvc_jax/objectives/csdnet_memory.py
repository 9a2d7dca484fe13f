"""The memory of CSDNet (DDL, dynamic discrepancy learning): a queue of past features, and what a
batch is compared with. See `csdnet`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fgvc_jax.utils.lazy import lazily

if TYPE_CHECKING:
    import jax
    import jax.numpy as jnp
    from jax import lax
else:
    jax, jnp, lax = map(lazily, ("jax", "jax.numpy", "jax.lax"))


class Queue(NamedTuple):
    """Features of past images, the oldest overwritten first."""

    features: jax.Array  # (L, D) float32, L2-normalised; (L, 2, D) of two views, augmented and raw
    labels: jax.Array  # (L,) int32, -1 where nothing has been stored yet
    pointer: jax.Array  # () int32: the slot that is written next


def empty_queue(length: int, *shape: int) -> Queue:
    """A queue of `length` free slots for features of `shape`, see `Queue`."""
    return Queue(
        jnp.zeros((length, *shape), jnp.float32), jnp.full(length, -1, jnp.int32), jnp.int32(0)
    )


def enqueue(queue: Queue, features: jax.Array, labels: jax.Array) -> Queue:
    """Store a batch over the oldest entries; of a batch longer than the queue, the last images.

    Args:
        queue: of length L.
        features: (B, D) or (B, 2, D) float32, of the global batch: every device sees the same
            queue.
        labels: (B,) int32.
    """
    length, batch = len(queue.labels), len(labels)
    slots = (queue.pointer + jnp.arange(batch, dtype=jnp.int32)) % length
    newest = slice(max(0, batch - length), None)
    return Queue(
        queue.features.at[slots[newest]].set(features[newest], unique_indices=True),
        queue.labels.at[slots[newest]].set(labels[newest], unique_indices=True),
        (queue.pointer + batch) % length,
    )


def unit(features: jax.Array) -> jax.Array:
    """(B, D) -> (B, D) float32 of length 1; zeros stay zeros, with a finite gradient."""
    features = features.astype(jnp.float32)
    square = jnp.sum(features**2, axis=-1, keepdims=True)
    return features * lax.rsqrt(jnp.maximum(square, 1e-12))


def contrast(
    queries: jax.Array, labels: jax.Array, keys: jax.Array, queue: Queue
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Cosines of the batch's raw features to the queue's and to the batch's augmented features.

    An image's own augmented view is one of its keys, of the same class. Free slots of the queue
    are in no pair.

    Args:
        queries: (B, D), L2-normalised.
        labels: (B,) int32.
        keys: (B, D), L2-normalised, without gradient.
        queue: of length L, as it was before this batch.

    Returns:
        cosines s (B, L + B) float32, and two masks of that shape: same class, other class.
    """
    key_labels = jnp.concatenate([queue.labels, labels])
    keys = jnp.concatenate([queue.features, keys])
    similarity = jnp.matmul(queries, keys.T, precision=lax.Precision.HIGHEST)
    same = labels[:, None] == key_labels
    return similarity, same, ~same & (key_labels >= 0)


def without_itself(
    similarity: jax.Array, same: jax.Array, other: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What `contrast` gives, where the batch's keys are of the view of its queries: without the
    pairs of an image with itself, whose cosine is 1 and says nothing."""
    itself = jnp.eye(len(same), same.shape[1], k=same.shape[1] - len(same), dtype=bool)
    return similarity, same & ~itself, other


def margin_contrast(
    similarity: jax.Array, same: jax.Array, other: jax.Array, *, margin: float
) -> jax.Array:
    """L_qc = mean over same-class pairs of 1 - s  +  mean over other-class pairs of max(s - xi, 0).

    Args:
        similarity: (B, M) cosines s.
        same: (B, M) bool, pairs of one class.
        other: (B, M) bool, pairs of two classes.
        margin: xi.

    Returns:
        float32 scalar. The mean over no pairs is 0.
    """
    return _mean(1 - similarity, same) + _mean(jax.nn.relu(similarity - margin), other)


def joint_contrast(
    similarity: jax.Array, same: jax.Array, other: jax.Array, *, margin: float
) -> jax.Array:
    """As `margin_contrast`, but one mean over all pairs (TransFG, He et al., arXiv 2103.07976)."""
    apart = jax.nn.relu(similarity - margin)
    return _mean(jnp.where(same, 1 - similarity, apart), same | other)


def supervised_contrast(
    similarity: jax.Array, same: jax.Array, other: jax.Array, *, temperature: float
) -> jax.Array:
    """SupCon (Khosla et al., arXiv 2004.11362, eq. 2): minus the mean log-probability of the
    same-class keys among all keys, averaged over the queries that have any.

    Args:
        similarity: (B, M) cosines s; the probabilities are the softmax of s / temperature.
        same: (B, M) bool, pairs of one class.
        other: (B, M) bool, pairs of two classes.
        temperature: above 0.

    Returns:
        float32 scalar; 0 if no query has a same-class key.
    """
    logits = jnp.where(same | other, similarity / temperature, jnp.finfo(jnp.float32).min)
    surprise = -jnp.where(same, jax.nn.log_softmax(logits, axis=-1), 0.0)
    count = same.sum(axis=-1)
    return _mean(surprise.sum(axis=-1) / jnp.maximum(count, 1), count > 0)


def _mean(values: jax.Array, where: jax.Array) -> jax.Array:
    """The mean where `where` holds; 0 if it holds nowhere."""
    return jnp.where(where, values, 0.0).sum() / jnp.maximum(where.sum(), 1)
