import jax.numpy as jnp
import numpy as np

from fgvc_jax import metrics


def test_correct_counts_what_is_not_padding():
    logits = jnp.asarray([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.0, 1.0]])
    labels = jnp.asarray([1, 0, 0, 1])
    mask = jnp.asarray([True, True, True, False])
    assert metrics.correct(logits, labels, mask) == 2
    assert metrics.correct(logits, labels, mask).dtype == jnp.int32


def test_correct_keeps_leading_axes():
    logits = jnp.stack([jnp.eye(3), jnp.roll(jnp.eye(3), 1, axis=1)])
    counts = metrics.correct(logits, jnp.arange(3), jnp.ones(3, bool))
    np.testing.assert_array_equal(counts, [3, 0])


def test_accuracy_is_a_fraction():
    assert metrics.accuracy(jnp.eye(4), jnp.asarray([0, 1, 2, 0])) == 0.75
