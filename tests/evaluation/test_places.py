"""Intervals of places hold the truth as often as they say, also where images come in bursts."""

import numpy as np
import pytest

from fgvc_jax.evaluation import intervals, places


def test_places_are_told_the_worst_first_with_their_groups():
    right = np.array([True, True, False, False, True, True])
    found = places.accuracy_by_place(list("aabbbc"), list("112234"), right)
    assert [each["name"] for each in found["places"]] == ["b", "a", "c"]
    worst, best, alone = found["places"]
    assert (worst["images"], worst["groups"]) == (3, 2)
    assert worst["accuracy"]["value"] == pytest.approx(1 / 3)
    assert best["groups"] == 1 and best["accuracy"] == {"value": 1.0, "low": None, "high": None}
    low, high = intervals.proportion(1, 1)
    assert alone["accuracy"] == {"value": 1.0, "low": low, "high": high}
    assert found["accuracy"]["value"] == pytest.approx(4 / 6)


def test_without_groups_it_is_the_interval_of_a_share():
    right = np.arange(20) < 13
    low, high = intervals.proportion(13, 20)
    assert places.by_group(np.arange(20), right) == {"value": 0.65, "low": low, "high": high}


def test_where_nothing_varies_it_is_as_of_one_image_a_group():
    low, high = intervals.proportion(5, 5)
    found = places.by_group(np.repeat(np.arange(5), 4), np.ones(20, bool))
    assert found == {"value": 1.0, "low": low, "high": high}


def test_of_bursts_it_holds_the_truth_where_that_of_single_images_does_not():
    """30 groups of 10 images, all of a group right or wrong together at 70 %."""
    random, held, alone = np.random.default_rng(0), 0, 0
    groups = np.repeat(np.arange(30), 10)
    for _ in range(300):
        right = np.repeat(random.random(30) < 0.7, 10)
        found = places.by_group(groups, right)
        held += found["low"] <= 0.7 <= found["high"]
        low, high = intervals.proportion(right.sum(), 300)
        alone += low <= 0.7 <= high
    assert held / 300 > 0.9 and alone / 300 < 0.6


def test_few_groups_are_worth_what_they_are():
    """20 groups of two images: sqrt(20 / 19 * 10) / 40, times Student's 2.0930 of 19."""
    right = np.repeat([[1, 1], [1, 0], [0, 0]], [5, 10, 5], axis=0).ravel().astype(bool)
    found = places.by_group(np.repeat(np.arange(20), 2), right)
    assert found["value"] == 0.5 and found["low"] == pytest.approx(0.5 - 0.16977, abs=1e-4)


def test_groups_that_are_alike_by_chance_do_not_promise_that_all_are():
    """Two groups of ten at 80 %: in one of five draws they have the same share, and its interval
    by groups alone is this very share."""
    low, high = intervals.proportion(2, 4)
    found = places.by_group(np.array([0, 0, 1, 1]), np.array([1, 0, 1, 0], bool))
    assert found == {"value": 0.5, "low": low, "high": high}
    random, held, groups = np.random.default_rng(0), 0, np.repeat(np.arange(2), 10)
    for _ in range(500):
        found = places.by_group(groups, random.random(20) < 0.8)
        held += found["low"] <= 0.8 <= found["high"]
    assert held / 500 > 0.95
