"""A student's loss: the numbers of Hinton et al., where its gradient goes, what it refuses."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import rel_entr, softmax

from fgvc_jax.data.mixing import Mixing
from fgvc_jax.data.view import View
from fgvc_jax.objectives.base import Batch, TeacherQuery
from fgvc_jax.objectives.kd import KD
from fgvc_jax.training import experiments
from fgvc_jax.utils.errors import UserError

LABELS = np.array([1, 0, 4, 1])


@cache
def values(seed):
    return np.random.default_rng(seed).normal(0, 2, (4, 5))


def loss_of(logits, teachers, mixing=None, **options):
    """(value, metrics) of the student's (4, 5) logits, given the teachers'."""
    options = KD(teacher="runs/kt", **options)
    options.check(View())
    objective = options.make(classes=5, label_smoothing=0.0, view=View())
    taught = {"logits": jnp.float16(teachers)}
    batch = Batch(None, jnp.asarray(LABELS), None, jnp.float32(0.5), taught=taught, mixing=mixing)
    step = objective.loss(lambda v, *_: ({}, {"logits": v}, {}), jnp.float32(logits), batch, ())
    return step.loss, step.metrics


def test_golden_value():
    """By scipy in float64: 16 * rel_entr(softmax(t / 4), softmax(z / 4)), and the cross entropy."""
    kd, cross_entropy = 1.6651860098822515, 2.8501521415907356
    value, metrics = loss_of(values(0), values(1), temperature=4.0, weight=0.7, label_weight=0.3)
    assert metrics["kd"] == pytest.approx(kd, rel=1e-5)
    assert metrics["cross_entropy"] == pytest.approx(cross_entropy, rel=1e-5)
    assert value == pytest.approx(0.3 * cross_entropy + 0.7 * kd, rel=1e-5)
    assert metrics["teacher_accuracy"] == np.mean(values(1).argmax(-1) == LABELS)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mixed_images_are_taught_mixed_probabilities_and_labels(share):
    """By NumPy in float64; mixed by the share, whether mixup or CutMix. Also where a teacher is as
    sure as float16 lets it be."""
    teachers = values(1).copy()
    teachers[0, 1:] = -65504
    mixing = Mixing(jnp.float32(share), jnp.bool_(True), jnp.zeros((2, 2), jnp.int32), 8)
    value, metrics = loss_of(values(0), teachers, mixing, temperature=4.0)

    def mixed(rows):
        return (1 - share) * rows + share * np.roll(rows, 1, 0)

    target = mixed(softmax(np.float16(teachers).astype(float) / 4, axis=-1))
    divergence = rel_entr(target, softmax(values(0) / 4, axis=-1)).sum(-1).mean()
    log_p = np.log(softmax(values(0), axis=-1))
    cross_entropy = -(mixed(np.eye(5)[LABELS]) * log_p).sum(-1).mean()
    assert metrics["kd"] == pytest.approx(16 * divergence, rel=1e-4)
    assert metrics["cross_entropy"] == pytest.approx(cross_entropy, rel=1e-5)
    main = np.roll(LABELS, 1) if share > 0.5 else LABELS
    assert metrics["accuracy"] == np.mean(values(0).argmax(-1) == main)
    assert np.isfinite(value)


def test_jit_equals_eager():
    def loss(z):
        return loss_of(z, values(1))[0]

    z = jnp.float32(values(0))
    value, gradient = jax.jit(jax.value_and_grad(loss))(z)
    eager, eager_gradient = jax.value_and_grad(loss)(z)
    assert value == pytest.approx(float(eager), rel=1e-6)
    np.testing.assert_allclose(gradient, eager_gradient, rtol=1e-5, atol=1e-7)


def test_a_student_that_answers_as_its_teachers_has_nothing_to_learn_of_them():
    teachers = np.float16(values(0))
    assert loss_of(teachers, teachers)[1]["kd"] == pytest.approx(0, abs=1e-6)
    gradient = jax.grad(lambda z: loss_of(z, teachers, label_weight=0.0)[0])(jnp.float32(teachers))
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


@pytest.mark.parametrize("temperature", [100.0, 200.0])
def test_the_gradient_keeps_its_size_when_the_temperature_changes(temperature):
    """The point of T^2 (Hinton et al., section 2.1): for high T it is that of matching logits."""

    def loss(z):
        return loss_of(z, values(1), temperature=temperature, label_weight=0.0)[0]

    apart = values(0) - values(1)
    matching = (apart - apart.mean(-1, keepdims=True)) / apart.size
    gradient = jax.grad(loss)(jnp.float32(values(0)))
    np.testing.assert_allclose(gradient, matching, atol=0.02 * np.abs(matching).max())


def test_whom_it_asks():
    options = KD(teacher="runs/kt", which="selected", members=2, temperature=5.0)
    assert options.asks == TeacherQuery("runs/kt", "selected", 2, 5.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "--kd.teacher is empty: name the workdir"),
        ("--kd.teacher runs/kt --kd.temperature 0", "--kd.temperature is 0.0: it must be above 0"),
        ("--kd.teacher runs/kt --kd.weight 0 --kd.label-weight 0", "nothing is learned"),
        ("--kd.teacher runs/kt --kd.members -1", "--kd.members is -1: it must be at least 0"),
    ],
)
def test_mistakes_are_one_line(arguments, words):
    with pytest.raises(UserError) as error:
        experiments.parse(["--objective", "kd", *arguments.split()])
    assert words in str(error.value) and "\n" not in str(error.value)
