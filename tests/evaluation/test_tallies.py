"""Members and ensembles judged on a few images whose numbers are known by hand."""

import math

import numpy as np
import pytest

from fgvc_jax.evaluation.tallies import (
    attention_overlap,
    is_flat,
    judge_ensembles,
    mean_overlap,
    tallies,
)

LABELS = np.array([0, 1, 1, 0])
# (4, 2) probabilities of two members: one is right in 3 of 4, the other in 2, together in 3.
ONE = np.log([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6]]).astype(np.float16)
OTHER = np.log([[0.8, 0.2], [0.6, 0.4], [0.4, 0.6], [0.1, 0.9]]).astype(np.float16)


def test_accuracies_of_members_and_of_growing_ensembles():
    found = judge_ensembles(LABELS, [ONE, OTHER], [], how="probabilities")
    assert found["images"] == 4 and found["attention_overlap"] == []
    assert found["single"] == [0.75, 0.5] and found["ensemble"] == [0.75, 0.75]
    accuracies = [each["accuracy"]["value"] for each in found["metrics"]["ensemble"]]
    assert accuracies == found["ensemble"]


def test_disagreement_and_mutual_information_are_of_two_or_more():
    found = tallies(LABELS, [ONE, OTHER], how="probabilities")
    assert found.disagreement[0].tolist() == [0, 0, 0, 0]
    assert found.disagreement[1].tolist() == [0, 1, 0, 0]
    np.testing.assert_array_equal(found.mutual_information[0], 0)
    mixed, own = (0.4, 0.6), ((0.2, 0.8), (0.6, 0.4))  # of the second image
    entropy = [-sum(p * math.log(p) for p in each) for each in (mixed, *own)]
    expected = entropy[0] - sum(entropy[1:]) / 2
    assert found.mutual_information[1, 1] == pytest.approx(expected, abs=1e-3)
    alone, together = found.metrics()["ensemble"]
    assert "disagreement" not in alone and together["disagreement"]["value"] == 0.25


def test_members_that_are_alike_tell_nothing_of_each_other():
    found = tallies(LABELS, [ONE, ONE, ONE], how="logits")
    np.testing.assert_array_equal(found.disagreement, 0)
    np.testing.assert_allclose(found.mutual_information, 0, atol=1e-6)
    assert found.accuracies()["ensemble"] == [0.75] * 3


def test_the_overlap_is_of_a_teachers_magnitude_and_where_the_student_is_bright():
    teacher = np.array([[[-2.0, 1.0], [0.0, 1.0]]])
    student = np.array([[[1.0, -1.0], [3.0, 2.0]]])
    first, second = attention_overlap([teacher, student])
    assert first == [pytest.approx((1 + 1) / 4), pytest.approx((2 * 1 + 1 * 2) / 4)]
    assert second == [pytest.approx((1 + 2) / 4), pytest.approx((1 + 9 + 4) / 4)]


def test_maps_of_several_sizes_are_compared_on_the_students_grid():
    coarse, fine = np.full((2, 2, 2), 2.0), np.ones((2, 4, 4))
    np.testing.assert_allclose(attention_overlap([coarse, fine]), [[4, 2], [2, 1]], rtol=1e-6)


def test_the_mean_overlap_leaves_out_that_with_oneself():
    assert mean_overlap([[9.0, 0.25], [0.5, 9.0]]) == 0.375
    assert mean_overlap([[9.0]]) is None and mean_overlap([]) is None


def test_flat_maps_do_not_overlap_with_themselves():
    varied = np.array([[[-1.0, 1.0], [1.0, -1.0]]])
    level = np.zeros((1, 2, 2))
    assert is_flat(attention_overlap([level, level])) and not is_flat([])
    assert not any(is_flat(attention_overlap(maps)) for maps in ([varied, level], [varied]))
