"""Nearest neighbours: the votes of those, and of no others."""

import jax.numpy as jnp
import numpy as np
import pytest

from fgvc_jax.networks.heads import NeighbourHead
from fgvc_jax.objectives import KNN


def shares(asked, embeddings, labels, classes=3, **options):
    """(B, K) probabilities for vectors that are the tap themselves."""
    head = NeighbourHead(classes, len(labels), **{"neighbours": 2, "temperature": 0.1} | options)
    solved = KNN().solve(embeddings, labels, classes=classes, seed=0, watch=lambda said: None)
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
    assert KNN().settle(np.zeros(17)).images == 17
