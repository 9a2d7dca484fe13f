"""Nearest neighbours: the votes of those, and of no others."""

import jax.numpy as jnp
import numpy as np
import pytest

from fgvc_jax.networks.heads import NeighbourHead
from fgvc_jax.objectives import KNN


def solve(options, embeddings, labels, groups, classes=3):
    return options.solve(
        embeddings, labels, groups, classes=classes, seed=0, watch=lambda said: None
    )


def shares(asked, embeddings, labels, classes=3, **options):
    """(B, K) probabilities for vectors that are the tap themselves."""
    head = NeighbourHead(classes, len(labels), **{"neighbours": 2, "temperature": 0.1} | options)
    solved = solve(KNN(), embeddings, labels, np.arange(len(labels)), classes)
    taps = {"stage5": jnp.asarray(asked, jnp.float32)[:, None, None]}
    return np.exp(head.apply({"params": solved.params}, taps, False))


def test_a_vote_weighs_as_the_cosine_says_and_one_is_everybodys():
    angles = np.radians([0, 20, 60, 90])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1) * [[1], [5], [2], [3]]
    labels = np.array([0, 1, 2, 2])
    weights = np.exp(np.cos(np.radians([0, 20])) / 0.1)
    votes = 2 / 3 * weights / weights.sum()
    expected = [votes[0] + 1 / 9, votes[1] + 1 / 9, 1 / 9]
    assert shares([[7, 0]], embeddings, labels) == pytest.approx(np.array([expected]), rel=2e-2)


def test_more_neighbours_than_images_are_all():
    embeddings, labels = np.eye(3), np.arange(3)
    few = shares(np.eye(3), embeddings, labels, neighbours=3)
    assert shares(np.eye(3), embeddings, labels, neighbours=50) == pytest.approx(few)
    assert few.argmax(-1).tolist() == [0, 1, 2]
    assert few.sum(-1) == pytest.approx(np.ones(3), rel=1e-3)


def test_vectors_of_zeros_have_no_direction_and_no_preference():
    found = shares([[0, 0]], np.array([[0, 0], [1, 0], [0, 1]]), np.arange(3), neighbours=3)
    assert found == pytest.approx(np.full((1, 3), 1 / 3), rel=1e-3)


def test_its_options_say_how_many_images_vote():
    assert KNN().settle(np.zeros(17)).voters == 17


def test_neither_an_image_nor_its_group_votes_on_it():
    embeddings = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]])
    labels, groups = np.array([0, 0, 1, 2]), np.array([0, 0, 1, 2])
    found = solve(KNN(neighbours=1), embeddings, labels, groups)
    assert found.held_out.rows.tolist() == [0, 1, 2, 3]
    assert found.held_out.log_probabilities.argmax(-1).tolist() == [2, 2, 2, 1]


def test_where_nobody_may_vote_all_classes_are_alike():
    found = solve(KNN(), np.eye(3), np.arange(3), np.zeros(3, int)).held_out.log_probabilities
    assert np.exp(found) == pytest.approx(np.full((3, 3), 1 / 3))
