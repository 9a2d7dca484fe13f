"""Cross entropy for sets with a long tail: weights and adjustments by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgvc_jax.data.mixing import Mixing
from fgvc_jax.data.view import View
from fgvc_jax.objectives.base import Batch
from fgvc_jax.objectives.ce import CE, EFFECTIVE, class_weights

LABELS = np.repeat([0, 1, 2], [60, 30, 10])
LOGITS = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)


def loss(options, mixing=None):
    """Of four images of classes 0, 1, 2, 2."""
    made = options.settle(LABELS).make(classes=3, label_smoothing=0.0, view=View())
    batch = Batch(None, jnp.array([0, 1, 2, 2]), None, None, mixing=mixing)
    found = made.loss(lambda *_: ({}, {"logits": LOGITS}, {}), {}, batch, ())
    return float(found.loss)


def log_softmax(logits):
    return np.asarray(jax.nn.log_softmax(logits))


def test_weights_by_hand():
    """Their mean over the 100 training images is 1."""
    counts = np.array([60.0, 30, 10])
    np.testing.assert_allclose(class_weights(counts, "balanced"), 100 / (3 * counts))
    own = (1 - EFFECTIVE) / (1 - EFFECTIVE**counts)
    np.testing.assert_allclose(class_weights(counts, "effective"), own / (own * counts).sum() * 100)
    assert class_weights(counts, "none") is None


@pytest.mark.parametrize("kind", ["balanced", "effective"])
def test_an_image_weighs_as_its_class(kind):
    weights = class_weights(np.array([60.0, 30, 10]), kind)
    each = -log_softmax(LOGITS)[np.arange(4), [0, 1, 2, 2]]
    expected = (weights[[0, 1, 2, 2]] * each).mean()
    assert loss(CE(class_weights=kind)) == pytest.approx(expected, rel=1e-6)


def test_logits_are_adjusted_by_log_frequencies():
    shifted = LOGITS + 1.5 * np.log([0.6, 0.3, 0.1])
    expected = -log_softmax(shifted)[np.arange(4), [0, 1, 2, 2]].mean()
    assert loss(CE(logit_adjustment=1.5)) == pytest.approx(expected, rel=1e-6)


def test_a_mixed_image_weighs_as_its_parts():
    mixing = Mixing(jnp.float32(0.25), jnp.bool_(False), jnp.zeros((2, 2), int), 8)
    weights = class_weights(np.array([60.0, 30, 10]), "balanced")
    shares = 0.75 * np.eye(3)[[0, 1, 2, 2]] + 0.25 * np.eye(3)[[2, 0, 1, 2]]
    each = -(shares * log_softmax(LOGITS)).sum(-1)
    expected = (shares @ weights * each).mean()
    assert loss(CE(class_weights="balanced"), mixing) == pytest.approx(expected, rel=1e-6)


def test_plain_it_keeps_no_counts_and_is_what_it_was():
    assert CE().settle(LABELS) == CE()
    assert CE(logit_adjustment=1.0).settle(LABELS).counts == (60, 30, 10)
    expected = -log_softmax(LOGITS)[np.arange(4), [0, 1, 2, 2]].mean()
    assert loss(CE()) == pytest.approx(expected, rel=1e-6)
