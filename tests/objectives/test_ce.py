"""Cross entropy, the objective that every other one contains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgvc_jax.objectives.base import Batch, cross_entropy
from fgvc_jax.objectives.ce import ce

LABELS = np.array([2, 0, 6, 3])
LOGITS = np.random.default_rng(0).normal(0, 2, (4, 7))


def golden(logits, labels, smoothing):
    """float64, one image and one class at a time."""
    total = 0.0
    for z, label in zip(np.asarray(logits, np.float64), labels, strict=True):
        log_p = z - z.max() - np.log(np.exp(z - z.max()).sum())
        for c, value in enumerate(log_p):
            target = (1 - smoothing) * (c == label) + smoothing / len(z)
            total -= target * value
    return total / len(labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_is_golden_jitted_or_not(smoothing):
    expected = golden(LOGITS, LABELS, smoothing)
    arguments = jnp.float32(LOGITS), jnp.asarray(LABELS)
    assert cross_entropy(*arguments, smoothing=smoothing) == pytest.approx(expected, rel=1e-6)
    jitted = jax.jit(cross_entropy, static_argnames="smoothing")
    assert jitted(*arguments, smoothing=smoothing) == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_of_equal_logits_is_log_of_classes_at_any_smoothing():
    for smoothing in (0.0, 0.3):
        value = cross_entropy(jnp.full((2, 7), 5.0), jnp.array([1, 4]), smoothing=smoothing)
        assert value == pytest.approx(np.log(7), rel=1e-6)


def test_cross_entropy_gradient_is_probability_minus_target():
    gradient = jax.grad(cross_entropy)(jnp.float32(LOGITS), jnp.asarray(LABELS), smoothing=0.2)
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    target = 0.8 * np.eye(7)[LABELS] + 0.2 / 7
    np.testing.assert_allclose(gradient, (p - target) / 4, atol=1e-6)


def test_cross_entropy_of_half_precision_is_computed_in_float32():
    half = jnp.asarray(LOGITS, jnp.bfloat16)
    value = cross_entropy(half, jnp.asarray(LABELS), smoothing=0.1)
    assert value.dtype == jnp.float32
    assert value == pytest.approx(golden(half.astype(jnp.float32), LABELS, 0.1), rel=1e-6)


def test_cross_entropy_of_huge_logits_is_finite():
    logits = jnp.array([[1e4, -1e4, 0.0]])
    value, gradient = jax.value_and_grad(cross_entropy)(logits, jnp.array([1]), smoothing=0.1)
    assert value == pytest.approx(golden(logits, [1], 0.1), rel=1e-6)
    assert jnp.isfinite(gradient).all()


def test_objective_is_the_main_heads_cross_entropy():
    objective = ce(label_smoothing=0.1)
    taps = {"stage5": jnp.ones((4, 2, 2, 3))}
    outputs = {"logits": jnp.float32(LOGITS), "features": jnp.ones((4, 3))}

    def forward(variables, images, keys):
        assert (variables, images, keys) == ("variables", "images", "keys")
        return taps, outputs, "new statistics"

    right = LOGITS.argmax(1)
    labels = np.where(np.arange(4) < 3, right, (right + 1) % 7)  # three of four
    batch = Batch("images", jnp.asarray(labels), "keys", jnp.float32(0))
    step = objective.loss(forward, "variables", batch, ())

    assert step.loss == pytest.approx(golden(LOGITS, labels, 0.1), rel=1e-6)
    assert step.metrics == {"cross_entropy": step.loss, "accuracy": 0.75}
    assert step.taps is taps and step.batch_stats == "new statistics" and step.memory == ()
    assert objective.heads == {} and objective.init_memory("variables", outputs) == ()
    assert objective.predict(outputs) is outputs["logits"]
