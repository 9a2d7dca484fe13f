"""Logistic regression: the minimum itself, whatever the shape of the embeddings."""

from types import SimpleNamespace

import numpy as np
import pytest

from fgvc_jax.ensemble import log_softmax
from fgvc_jax.objectives import linear
from fgvc_jax.objectives.linear import Linear
from fgvc_jax.utils.errors import ArgumentError


def drawn(count=60, numbers=7, classes=4, seed=0):
    """(embeddings, labels) of scales and means of their own; the first number tells classes."""
    x = np.random.default_rng(seed).normal(size=(count, numbers))
    x = x * np.arange(1, numbers + 1) + np.arange(numbers)
    labels = np.arange(count) % classes
    x[:, 0] += labels * 1.5
    return x.astype(np.float32), labels


def solve(x, labels, decay=0.0, watch=lambda said: None, seed=0):
    options = Linear(weight_decay=decay)
    groups, classes = np.arange(len(x)), labels.max() + 1
    return options.solve(x, labels, groups, classes=classes, seed=seed, watch=watch)


# scikit-learn 1.9.1: LogisticRegression(C=1 / (decay * 60), tol=1e-12) on the standardised drawing.
@pytest.mark.parametrize(
    ("decay", "loss", "cross_entropy"),
    [(0.1, 1.042311383877466, 0.9154741985368375), (0.003, 0.7208692237835231, 0.6768120995502684)],
)
def test_the_loss_is_that_of_scikit_learn(decay, loss, cross_entropy):
    found = solve(*drawn(), decay).metrics
    assert found["loss"] == pytest.approx(loss, abs=1e-6)
    assert found["cross_entropy"] == pytest.approx(cross_entropy, abs=1e-4)


@pytest.mark.parametrize("numbers", [5, 40])  # fewer and more than images
def test_it_is_a_minimum_of_the_loss_in_the_embeddings_themselves(numbers):
    x, labels = drawn(24, numbers)
    x[:, 1] = 3.0  # says nothing, and has no deviation to divide by
    found, decay = solve(x, labels, 0.02), 0.02
    wide = x.astype(np.float64)
    scale = np.maximum(wide.std(0), np.sqrt(wide.var(0).mean() / 24))
    kernel, bias = (found.params["fc"][name].astype(np.float64) for name in ("kernel", "bias"))

    def loss(kernel, bias):
        logits = wide @ kernel + bias
        logits -= logits.max(-1, keepdims=True)
        each = np.log(np.exp(logits).sum(-1)) - logits[np.arange(24), labels]
        return each.mean() + decay / 2 * ((kernel * scale[:, None]) ** 2).sum()

    least, random = loss(kernel, bias), np.random.default_rng(0)
    assert least == pytest.approx(found.metrics["loss"], abs=1e-6)
    for _ in range(20):
        step = 1e-2 * random.normal(size=kernel.shape) / scale[:, None]
        assert loss(kernel + step, bias + 1e-2 * random.normal(size=bias.shape)) > least


def test_the_gradient_is_that_of_the_loss():
    x, labels = drawn()
    of = linear._Regression(x, labels, 4, np.float64)
    random = np.random.default_rng(0)
    weights, step = random.normal(size=(2, *of.start.shape))
    ahead, behind = (of.loss(weights + sign * 1e-6 * step, 0.3)[0] for sign in (1, -1))
    assert (of.loss(weights, 0.3)[1] * step).sum() == pytest.approx((ahead - behind) / 2e-6)


def test_the_decay_is_the_one_that_images_left_out_ask_for():
    """Labels that nothing tells ask for the strongest, those that are sure for a weak one."""
    x, labels = drawn(200)
    noise = np.random.default_rng(1).permutation(labels)
    sure = x.copy()
    sure[:, 0] += 20 * labels
    assert solve(x, noise).metrics["weight_decay"] == 1.0
    assert solve(sure, labels).metrics["weight_decay"] < 0.01


def test_images_are_left_out_evenly():
    labels = np.repeat(np.arange(7), [1, 2, 3, 5, 8, 13, 21])
    groups = np.arange(len(labels))
    fold = linear.folds(labels, groups, seed=3)
    assert max(np.bincount(fold)) - min(np.bincount(fold, minlength=linear.FOLDS)) <= 1
    for label in range(7):
        own = np.bincount(fold[labels == label], minlength=linear.FOLDS)
        assert max(own) - min(own) <= 1
    assert np.array_equal(fold, linear.folds(labels, groups, seed=3))
    assert not np.array_equal(fold, linear.folds(labels, groups, seed=4))


def test_groups_are_left_out_whole():
    random = np.random.default_rng(0)
    groups = random.integers(0, 30, 120)
    labels = groups % 4
    fold = linear.folds(labels, groups, seed=0)
    assert all(len(set(fold[groups == group])) == 1 for group in groups)
    assert np.bincount(fold, minlength=linear.FOLDS).min() >= 15


def test_what_is_held_out_was_not_learned_from():
    """Labels at random cannot be known where they were held out, and each image is, once."""
    random = np.random.default_rng(0)
    x, labels = random.normal(size=(80, 100)).astype(np.float32), random.integers(0, 4, 80)
    found = solve(x, labels, 1e-3)
    assert found.metrics["accuracy"] == 1.0
    assert found.held_out.rows.tolist() == list(range(80))
    shares = np.exp(found.held_out.log_probabilities)
    assert shares.sum(-1) == pytest.approx(np.ones(80), abs=1e-5)
    assert (shares.argmax(-1) == labels).mean() < 0.45


def test_what_hardly_varies_in_training_does_not_decide_on_new_images():
    """40 of 60 numbers are nearly always 0, as those of a network that ends in a ReLU."""
    random = np.random.default_rng(0)
    labels = np.arange(440) % 4
    x = random.normal(size=(4, 60))[labels] + 3 * random.normal(size=(440, 60))
    x[:, 20:] = np.maximum(x[:, 20:], 0)
    x[:40, 20:] *= 1e-3
    found = solve(x[:40].astype(np.float32), labels[:40])
    layer = found.params["fc"]
    said = log_softmax(x[40:] @ layer["kernel"] + layer["bias"])
    new = -said[np.arange(400), labels[40:]].mean()
    held_out = found.held_out.log_probabilities
    assert new < 2 * -held_out[np.arange(40), labels[found.held_out.rows]].mean()


@pytest.mark.parametrize("decay", [1e-3, 1e-4, 1e-5])
def test_heads_of_held_out_images_are_those_of_their_decay(decay):
    """Of classes that lie apart a weak decay lets W grow, slowly: what stops early is not as sure
    as the last head, for which it is to stand."""
    random = np.random.default_rng(0)
    labels = np.arange(48) % 4
    x = random.normal(size=(4, 300))[labels] * 0.3 + random.normal(size=(48, 300))
    x, _ = linear._standardised(x.astype(np.float32))
    fold = linear.folds(labels, np.arange(48), 0)
    chosen, found = linear.cross_fitted(x, labels, fold, classes=4, watch=print, decay=decay)
    assert chosen == decay
    said, exact = found.log_probabilities - found.energy[:, None], np.zeros((48, 4))
    for left_out in range(linear.FOLDS):
        rows = fold == left_out
        alone, others = (linear._Regression(x[r], labels[r], 4, np.float64) for r in (~rows, rows))
        head = alone.minimum(decay, alone.start, lambda said: None)
        exact[rows] = others.logits(head)
    assert (said * exact).sum() / (exact**2).sum() == pytest.approx(1, abs=0.025)


def test_of_many_images_a_fifth_is_held_out(monkeypatch):
    x, labels = drawn()
    monkeypatch.setattr(linear, "LARGE", len(x))
    found = solve(x, labels).held_out
    assert len(found.rows) == len(found.log_probabilities) == 12
    assert np.array_equal(linear.folds(labels, np.arange(60), 0)[found.rows], np.zeros(12))


def test_images_of_one_group_cannot_be_held_out():
    """As of one site: nothing was learned without them, and their answers were not numbers."""
    (x, labels), group = drawn(), np.zeros(60, int)
    options = {"classes": 4, "seed": 0, "watch": lambda said: None}
    with pytest.raises(ArgumentError, match="of one group.*give one, such as 0.01"):
        Linear().solve(x, labels, group, **options)
    found = Linear(weight_decay=0.1).solve(x, labels, group, **options)
    assert found.metrics["loss"] == pytest.approx(1.042311383877466, abs=1e-6)
    assert np.exp(found.held_out.log_probabilities) == pytest.approx(np.full((60, 4), 1 / 4))


def test_it_is_stopped_by_what_watches():
    calls = SimpleNamespace(left=30)

    def watch(said):
        calls.left -= 1
        if not calls.left:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        solve(*drawn(), watch=watch)
    assert calls.left == 0


def test_the_same_images_are_answered_by_heads_of_fewer_images():
    x, labels = drawn(200)
    found = solve(x, labels)
    assert list(found.fewer) == [0.25, 0.5]
    for each in found.fewer.values():
        assert np.array_equal(each.rows, found.held_out.rows)
        assert np.array_equal(each.heads, linear.folds(labels, np.arange(200), 0))
    losses = [
        linear._cross_entropy(each.log_probabilities, labels)
        for each in (*found.fewer.values(), found.held_out)
    ]
    assert losses == sorted(losses, reverse=True)  # the more is learned from, the better


@pytest.mark.parametrize("numbers", [5, 90])  # fewer and more than images
def test_fewer_images_are_those_of_the_next_folds(numbers):
    """A head of one fold is the one that is solved for its images alone."""
    x, labels = drawn(60, numbers)
    wide, _ = linear._standardised(x)
    fold = linear.folds(labels, np.arange(60), 0)
    _, held_out = linear.cross_fitted(
        wide, labels, fold, classes=4, watch=lambda said: None, decay=0.1, others=1
    )
    for left_out in range(linear.FOLDS):
        seen, asked = fold == (left_out + 1) % linear.FOLDS, fold == left_out
        alone = linear._Regression(wide[seen], labels[seen], 4, np.float64)
        weights = alone.minimum(0.1, alone.start, lambda said: None)
        logits = linear._Regression(wide[asked], labels[asked], 4, np.float64).logits(weights)
        answers, _ = linear._normalised(logits)
        assert held_out.log_probabilities[asked] == pytest.approx(answers, abs=2e-2)


def test_of_few_groups_nothing_is_said_of_fewer_images():
    x, labels = drawn(40)
    groups = np.arange(40) // 10  # four
    found = Linear(weight_decay=0.1).solve(
        x, labels, groups, classes=4, seed=0, watch=lambda said: None
    )
    assert found.fewer == {}
