"""The score that new classes are told by is the one that tells classes that were left out."""

import numpy as np
import pytest

from fgvc_jax.objectives.linear import Linear
from fgvc_jax.training import novel

RANDOM = np.random.default_rng(0)


def clusters(classes, each, width=16):
    centers = 4 * RANDOM.standard_normal((classes, width))
    labels = np.repeat(np.arange(classes), each)
    return centers[labels] + RANDOM.standard_normal((len(labels), width)), labels


def test_every_score_tells_clusters_that_lie_apart():
    x, labels = clusters(8, 10)
    alone = np.arange(len(labels))
    solved = Linear(weight_decay=0.01).solve(
        x, labels, alone, classes=8, seed=0, watch=lambda said: None
    )
    found = novel.choose(x, labels, alone, solved.refit, 0)
    assert list(found) == ["energy", "max_logit", "distance"]
    assert all(0.6 < value <= 1 for value in found.values()) and found["distance"] > 0.95
    assert found == novel.choose(x, labels, alone, solved.refit, 0)


def test_a_head_is_solved_for_what_it_is_given():
    x, labels = clusters(3, 12)
    solved = Linear(weight_decay=0.1).solve(
        x, labels, np.arange(36), classes=3, seed=0, watch=lambda said: None
    )
    layer = solved.params["fc"]
    logits = solved.refit(x, labels, 3)(x)
    np.testing.assert_allclose(logits, x @ layer["kernel"] + layer["bias"], atol=2e-2)


def test_few_classes_say_nothing_of_others():
    x, labels = clusters(7, 4)
    assert novel.choose(x, labels, np.arange(28), None, 0) == {}


def test_distances_are_one_less_the_cosine_and_leave_out_what_does_not_count():
    x = np.array([[1.0, 0], [0, 2], [3, 3]])
    assert novel.distances(x, x).tolist() == pytest.approx([0, 0, 0], abs=1e-12)
    found = novel.distances(x, x, np.eye(3, dtype=bool))
    assert found == pytest.approx([1 - 0.5**0.5] * 3)
    assert novel.distances(np.zeros((1, 2)), x).tolist() == [1]


def test_classes_whose_only_group_is_held_out_are_no_known_ones():
    x, labels = clusters(8, 10)
    assert novel.choose(x, labels, labels, Linear.refit(0.01), 0) == {}
