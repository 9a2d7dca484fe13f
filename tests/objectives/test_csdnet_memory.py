"""The memory of CSDNet: contrastive losses from float64, pair by pair, and the queue."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgvc_jax.objectives import csdnet_memory as m


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def pairs(seed=0, queries=4, keys=7):
    """Cosines and labels of keys, of which -1 is a free slot."""
    similarity = np.tanh(normal(queries, keys, seed=seed))
    labels, key_labels = np.array([0, 1, 0, 2]), np.array([0, -1, 1, 1, 0, -1, 3])
    same = labels[:, None] == key_labels
    return similarity, same, ~same & (key_labels >= 0)


def margin_reference(similarity, same, other, margin):
    close = [1 - s for s in similarity[same]]
    apart = [max(s - margin, 0) for s in similarity[other]]
    return close, apart


def supcon_reference(similarity, same, other, temperature):
    losses = []
    for s, positive, negative in zip(similarity, same, other, strict=True):
        if positive.any():
            total = np.log(np.sum(np.exp(s[positive | negative] / temperature)))
            losses.append(np.mean([total - s[p] / temperature for p in np.flatnonzero(positive)]))
    return np.mean(losses)


@pytest.mark.parametrize("call", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_contrastive_losses(call):
    similarity, same, other = pairs()
    close, apart = margin_reference(similarity, same, other, 0.4)
    arguments = jnp.float32(similarity), same, other
    np.testing.assert_allclose(
        call(partial(m.margin_contrast, margin=0.4))(*arguments),
        np.mean(close) + np.mean(apart), rtol=1e-6,
    )  # fmt: skip
    np.testing.assert_allclose(
        call(partial(m.joint_contrast, margin=0.4))(*arguments), np.mean(close + apart), rtol=1e-6
    )
    np.testing.assert_allclose(
        call(partial(m.supervised_contrast, temperature=0.07))(*arguments),
        supcon_reference(similarity, same, other, 0.07), rtol=1e-5,
    )  # fmt: skip
    assert not same[3].any()  # a query without a same-class key was among them


FORMS = {
    "margin": partial(m.margin_contrast, margin=0.4),
    "joint": partial(m.joint_contrast, margin=0.4),
    "supcon": partial(m.supervised_contrast, temperature=0.07),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["none", "same", "other"])
def test_a_mean_over_no_pairs_is_zero(form, kind):
    similarity = jnp.full((2, 3), 0.9)
    every, none = np.ones((2, 3), bool), np.zeros((2, 3), bool)
    same, other = every if kind == "same" else none, every if kind == "other" else none
    value, gradient = jax.value_and_grad(FORMS[form])(similarity, same, other)
    apart = 0.0 if form == "supcon" else 0.5
    close = np.log(3) if form == "supcon" else 0.1
    np.testing.assert_allclose(value, {"none": 0.0, "same": close, "other": apart}[kind], rtol=1e-5)
    assert np.isfinite(gradient).all()


def test_unit():
    x = normal(3, 4)
    expected = x / np.linalg.norm(x, axis=-1, keepdims=True)
    np.testing.assert_allclose(m.unit(jnp.float32(x)), expected, rtol=1e-6)
    zero, gradient = jax.value_and_grad(lambda x: m.unit(x).sum())(jnp.zeros((2, 3)))
    assert zero == 0 and np.isfinite(gradient).all()


# -- the queue -----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [2, 3, 5, 12], ids=lambda b: f"batch {b}")
def test_queue_is_first_in_first_out(batch):
    """Like a deque of the last 5, whatever the batch: smaller, not a divisor, equal, larger."""
    queue, everything = m.empty_queue(5, 2), []
    put = jax.jit(m.enqueue)
    for step in range(6):
        labels = np.arange(batch, dtype=np.int32) + step * batch
        features = np.stack([labels, -labels], -1).astype(np.float32)
        queue = put(queue, jnp.asarray(features), jnp.asarray(labels))
        everything += labels.tolist()
        stored = everything[-5:]
        held = np.asarray(queue.labels)
        assert sorted(held[held >= 0].tolist()) == stored
        assert (held == -1).sum() == 5 - len(stored)
        known = held >= 0
        np.testing.assert_array_equal(queue.features[known], np.stack([held, -held], -1)[known])
        if len(stored) == 5:  # from the pointer on, the oldest first
            np.testing.assert_array_equal(np.roll(held, -int(queue.pointer)), stored)
    assert queue.features.dtype == jnp.float32
    assert queue.labels.dtype == queue.pointer.dtype == jnp.int32


def test_comparison_ignores_free_slots_and_holds_the_own_augmented_view():
    stored = m.unit(jnp.float32(normal(2, 4)))
    queue = m.enqueue(m.empty_queue(3, 4), stored, jnp.array([1, 0]))
    queries, keys = (m.unit(jnp.float32(normal(2, 4, seed=s))) for s in (1, 2))
    similarity, same, other = m.contrast(queries, jnp.array([0, 1]), keys, queue)
    np.testing.assert_allclose(
        similarity[:, :2], np.asarray(queries) @ np.asarray(stored).T, atol=1e-6
    )
    np.testing.assert_allclose(
        similarity[:, 3:], np.asarray(queries) @ np.asarray(keys).T, atol=1e-6
    )
    np.testing.assert_array_equal(
        same, [[False, True, False, True, False], [True, False, False, False, True]]
    )
    np.testing.assert_array_equal(
        other, [[True, False, False, False, True], [False, True, False, True, False]]
    )


def test_an_image_is_not_compared_with_itself():
    """All other pairs of one class stay: with the queue, and within the batch."""
    queue = m.enqueue(m.empty_queue(2, 4), m.unit(jnp.float32(normal(2, 4))), jnp.array([1, 0]))
    features = m.unit(jnp.float32(normal(3, 4, seed=1)))
    compared = m.contrast(features, jnp.array([0, 1, 0]), features, queue)
    similarity, same, other = m.without_itself(*compared)
    np.testing.assert_array_equal(
        same,
        [
            [False, True, False, False, True],
            [True, False, False, False, False],
            [False, True, True, False, False],
        ],
    )
    np.testing.assert_array_equal(similarity, compared[0])
    np.testing.assert_array_equal(other, compared[2])
