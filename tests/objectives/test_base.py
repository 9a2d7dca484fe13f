"""The losses that objectives share, from float64, and what a method says of itself by default."""

from dataclasses import fields

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from fgvc_jax.data.view import View
from fgvc_jax.objectives import OBJECTIVES
from fgvc_jax.objectives.base import Method, distillation, ramped

STUDENT, TEACHER = np.random.default_rng(0).normal(0, 3, (2, 4, 5))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distillation_is_golden(temperature):
    p, q = (log_softmax(logits / temperature, -1) for logits in (TEACHER, STUDENT))
    expected = temperature**2 * (np.exp(p) * (p - q)).sum(-1).mean()
    arguments = jnp.float32(STUDENT), jnp.float32(TEACHER)
    value = distillation(*arguments, temperature=temperature)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    half = distillation(*(jnp.bfloat16(x) for x in arguments), temperature=temperature)
    assert half.dtype == jnp.float32


def test_no_gradient_reaches_the_teacher():
    arguments = jnp.float32(STUDENT), jnp.float32(TEACHER)
    student, teacher = jax.grad(distillation, (0, 1))(*arguments, temperature=2.0)
    assert np.abs(student).max() > 0 and not teacher.any()


def test_nothing_is_learned_from_a_teacher_who_agrees():
    """Logits that differ by a constant are one prediction."""
    same = jnp.float32(TEACHER)
    value, gradient = jax.value_and_grad(distillation)(same + 7, same, temperature=3.0)
    np.testing.assert_allclose(value, 0, atol=1e-5)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_a_ramp_rises_to_one_and_stays():
    progress = jnp.linspace(0, 1, 11)
    np.testing.assert_allclose(ramped(progress, 0.5), np.minimum(progress * 2, 1), rtol=1e-6)
    assert ramped(jnp.float32(0), 0.0) == 1


def test_a_method_asks_for_nothing_unless_it_says_so():
    view, labels = View(), np.array([0, 1, 1])
    method = Method()
    method.check(view)
    method.check_frozen()
    assert method.asks is None and method.parts(view) == [] and method.settle(labels) is method
    with pytest.raises(NotImplementedError):
        method.make(classes=2, label_smoothing=0.0, view=view)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_method_is_made_of_its_defaults(name):
    """Its options settle once, and what it makes does not need another head called logits."""
    method, labels = OBJECTIVES[name](), np.repeat(np.arange(3), 4)
    settled = method.settle(labels)
    assert settled.settle(labels) == settled
    made = settled.make(classes=3, label_smoothing=0.1, view=View())
    assert "logits" not in made.heads
    assert all(hasattr(settled, spec.name) for spec in fields(method))
    logits = jnp.float32(STUDENT)
    outputs = {"logits": logits, **{head: logits for head in made.heads}}
    prediction = jax.nn.log_softmax(made.predict(outputs))
    np.testing.assert_allclose(prediction, jax.nn.log_softmax(logits), rtol=1e-5)
