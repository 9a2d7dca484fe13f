"""Scores of strangeness are judged as by counting pairs, and false alarms are as seldom as told."""

import numpy as np
import pytest

from fgvc_jax.evaluation import novelty
from fgvc_jax.evaluation.novelty import Novelty

RANDOM = np.random.default_rng(0)


def test_scores_are_those_of_the_publications():
    logits, distance = np.array([[1.0, 2.0], [0.0, -3.0]]), np.array([0.25, 0.5])
    found = novelty.scores(logits, distance)
    np.testing.assert_allclose(found[:, 0], -np.log(np.exp(logits).sum(1)), rtol=1e-6)
    assert found[:, 1].tolist() == [-2, 0] and found[:, 2].tolist() == [0.25, 0.5]
    assert np.isfinite(novelty.scores(np.full((1, 3), 1e4), distance[:1])).all()


def test_areas_are_the_share_of_pairs_and_equal_ones_count_half():
    known, unknown = RANDOM.integers(0, 9, 40), RANDOM.integers(3, 12, 30)
    higher = unknown[:, None] > known
    pairs = (higher + (unknown[:, None] == known) / 2).mean()
    assert novelty.auroc(known, unknown) == pytest.approx(pairs)
    assert novelty.auroc(np.zeros(3), np.zeros(5)) == 0.5
    assert novelty.auroc(np.zeros(1), np.ones(1)) == 1


def test_unknown_ones_that_pass_are_those_below_what_95_percent_of_known_are():
    known = np.arange(100.0)
    assert novelty.false_positives(known, np.array([94.0, 94.5, 95, 200])) == 0.25
    assert novelty.false_positives(known, np.array([-1.0])) == 1
    assert novelty.false_positives(np.zeros(4), np.zeros(4)) == 1  # nothing is told apart


def test_intervals_hold_the_value_and_the_truth():
    truth = 0.7602  # of normal scores that lie one apart: Phi(1 / sqrt 2)
    held = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        found = novelty.separation(random.normal(0, 1, 150), random.normal(1, 1, 120), seed=seed)
        for each in found.values():
            assert each["low"] <= each["value"] <= each["high"]
        held += found["auroc"]["low"] <= truth <= found["auroc"]["high"]
    assert held >= 17


def test_false_alarms_are_as_seldom_as_told():
    """On average over the known images, as of any p-value: exactly the rate of 1 in (N + 1)."""
    alarms = []
    for _ in range(400):
        known, new = RANDOM.normal(size=19), RANDOM.normal(size=50)
        found = Novelty("energy", known, "19 validation images", {})
        alarms.append((found.typicality(new) <= 0.1).mean())
    assert np.mean(alarms) == pytest.approx(0.1, abs=0.015)
    assert found.least_rate == 0.05 and found.typicality(np.array([99.0])) == 0.05
    assert found.typicality(np.array([-99.0])) == 1


def test_words_say_how_the_score_was_found():
    fixed = Novelty("max_logit", np.zeros(3), "3 validation images", {})
    assert "as fixed before" in fixed.about and fixed.column == 1
    chosen = Novelty("distance", np.zeros(3), "3 held-out images", {"distance": 0.9})
    assert "solved without (AUROC: distance 0.900)" in chosen.about


def test_images_that_are_as_strange_count_as_such():
    """Else equal scores would break the promise of a rate of false alarms."""
    known = Novelty("energy", np.array([1.0, 1, 2]), "images", {})
    assert known.typicality(np.array([0, 1, 2, 3])).tolist() == [1, 1, 0.5, 0.25]
