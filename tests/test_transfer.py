"""The orthogonal loss against an independent float64 implementation, and its invariants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgvc_jax import transfer


def reference_map(features):
    """Eq. 1-2 of KT in float64, as written there: one channel after the other."""
    features = np.asarray(features, np.float64)
    maps = np.zeros(features.shape[:3])
    for image, out in zip(features, maps, strict=True):
        for c in range(image.shape[2]):
            out += image[:, :, c].mean() * image[:, :, c]
        out /= image.shape[2]
    return maps


def reference_loss(student, teacher):
    """Eq. 3-5 of KT in float64 with numpy's sample deviation."""

    def z(features):
        return np.stack([(m - m.mean()) / m.std(ddof=1) for m in reference_map(features)])

    return np.mean(np.abs(z(teacher)) * np.maximum(z(student), 0))


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    shape = (3, 5, 4, 7)
    return rng.normal(0.3, 1.0, shape), rng.normal(0.3, 1.0, shape)


def test_attention_map_is_the_papers(features):
    ours = transfer.attention_map(jnp.asarray(features[0], jnp.float32))
    np.testing.assert_allclose(ours, reference_map(features[0]), atol=1e-6)


def test_loss_equals_float64_reference(features):
    ours = transfer.orthogonal_loss(*(jnp.asarray(f, jnp.float32) for f in features))
    assert abs(float(ours) - reference_loss(*features)) < 1e-6


def test_jit_equals_eager(features):
    student, teacher = (jnp.asarray(f, jnp.float32) for f in features)
    eager = transfer.orthogonal_loss(student, teacher)
    jitted = jax.jit(transfer.orthogonal_loss)(student, teacher)
    np.testing.assert_allclose(jitted, eager, rtol=1e-6)


def test_gradient_equals_finite_differences(features):
    student, teacher = features
    gradient = jax.grad(transfer.orthogonal_loss)(
        jnp.asarray(student, jnp.float32), jnp.asarray(teacher, jnp.float32)
    )
    rng = np.random.default_rng(1)
    for _ in range(5):
        direction = rng.normal(size=student.shape)
        h = 1e-6
        numeric = (
            reference_loss(student + h * direction, teacher)
            - reference_loss(student - h * direction, teacher)
        ) / (2 * h)
        np.testing.assert_allclose(np.sum(gradient * direction), numeric, rtol=1e-3, atol=1e-6)


def test_no_gradient_reaches_the_teacher(features):
    gradient = jax.grad(transfer.orthogonal_loss, argnums=1)(*map(jnp.asarray, features))
    assert not np.any(gradient)


def test_shift_of_the_map_and_scale_of_the_features_change_nothing(features):
    student, teacher = (jnp.asarray(f, jnp.float32) for f in features)
    maps = transfer.attention_map(student)
    np.testing.assert_allclose(
        transfer.standardize(maps + 0.7), transfer.standardize(maps), atol=1e-4
    )
    loss = transfer.orthogonal_loss(student, teacher)
    np.testing.assert_allclose(transfer.orthogonal_loss(8.0 * student, teacher), loss, rtol=1e-5)
    np.testing.assert_allclose(transfer.orthogonal_loss(student, 0.1 * teacher), loss, rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1234.567])
def test_a_constant_map_gives_zero_and_a_finite_gradient(features, value):
    constant = jnp.full((3, 5, 4, 7), value, jnp.float32)
    teacher = jnp.asarray(features[1], jnp.float32)
    loss, gradient = jax.value_and_grad(transfer.orthogonal_loss)(constant, teacher)
    assert loss == 0
    assert np.all(np.isfinite(gradient))
    assert transfer.orthogonal_loss(teacher, constant) == 0


def test_one_constant_image_does_not_disturb_the_others(features):
    student, teacher = (jnp.asarray(f, jnp.float32) for f in features)
    mixed = student.at[0].set(1.0)
    gradient = jax.grad(transfer.orthogonal_loss)(mixed, teacher)
    whole = jax.grad(transfer.orthogonal_loss)(student, teacher)
    np.testing.assert_allclose(gradient[1:], whole[1:], rtol=1e-5, atol=1e-8)


def test_a_network_that_copies_its_teacher_pays_the_known_price():
    """For a map symmetric around its mean OR = 0.5 * (n - 1) / n."""
    values = np.array([-3.0, -1.0, 1.0, 3.0, -2.0, 2.0]) + 5.0
    features = jnp.asarray(values, jnp.float32).reshape(1, 2, 3, 1)
    loss = transfer.orthogonal_loss(features, features)
    np.testing.assert_allclose(loss, 0.5 * 5 / 6, rtol=1e-5)


def test_mean_over_teachers_is_linear_in_the_attention(features):
    """The collapse: OR against the mean |Z| equals the mean of the teachers' ORs."""
    rng = np.random.default_rng(2)
    teachers = jnp.asarray(rng.normal(size=(4, 3, 5, 4, 7)), jnp.float32)
    student = jnp.asarray(features[0], jnp.float32)
    attended = transfer.mean_teacher_attention(
        lambda variables: variables, teachers, jnp.int32(3), (3, 5, 4)
    )
    losses = [transfer.orthogonal_loss(student, teacher) for teacher in teachers[:3]]
    np.testing.assert_allclose(transfer.overlap(student, attended), np.mean(losses), rtol=1e-5)


def test_no_teacher_yet_costs_nothing(features):
    teachers = jnp.ones((2, 3, 5, 4, 7))
    attended = transfer.mean_teacher_attention(lambda v: v, teachers, jnp.int32(0), (3, 5, 4))
    assert transfer.overlap(jnp.asarray(features[0], jnp.float32), attended) == 0


def test_weighting_fixed_and_ratio():
    loss, orthogonal = jnp.float32(2.0), jnp.float32(0.4)
    assert transfer.weigh(loss, orthogonal, alpha=0.5, weighting="fixed") == pytest.approx(2.2)
    value, slope = jax.value_and_grad(
        lambda o: transfer.weigh(loss, o, alpha=0.5, weighting="ratio")
    )(orthogonal)
    assert value == pytest.approx(3.0)
    rewarded = transfer.weigh(loss, orthogonal, alpha=-0.5, weighting="fixed")
    assert rewarded == pytest.approx(1.8)
    assert slope == pytest.approx(0.5 * 2.0 / 0.4)  # the factor is a constant for the gradient


def test_ratio_of_nothing_is_nothing():
    value, gradient = jax.value_and_grad(
        lambda o: transfer.weigh(jnp.float32(2.0), o, alpha=0.5, weighting="ratio")
    )(jnp.float32(0.0))
    assert value == 2.0
    assert np.isfinite(gradient)


def test_ratio_never_rewards_overlap_when_the_loss_is_negative():
    loss, orthogonal = jnp.float32(-1.0), jnp.float32(0.4)
    assert transfer.weigh(loss, orthogonal, alpha=0.5, weighting="ratio") == -1.0
