"""What members disagree on is worth a label, and what is chosen is spread out."""

import numpy as np
import pytest

from fgvc_jax.evaluation import acquisition


def test_members_that_disagree_are_uncertain_and_what_all_find_hard_is_not():
    sure, other, hard = [0.98, 0.01, 0.01], [0.01, 0.98, 0.01], [1 / 3] * 3
    each = np.log([[sure, sure, hard], [sure, other, hard]])
    found = acquisition.uncertainty(each)
    assert found.argmax() == 1 and found[[0, 2]] == pytest.approx([0, 0], abs=1e-9)
    entropy = -np.sum(np.array([0.495, 0.495, 0.01]) * np.log([0.495, 0.495, 0.01]))
    assert found[1] == pytest.approx(entropy + np.sum(np.array(sure) * np.log(sure)))


def test_of_one_member_it_is_the_entropy():
    logs = np.log([[[0.5, 0.5], [1.0, 1e-300]]])
    assert acquisition.uncertainty(logs) == pytest.approx([np.log(2), 0], abs=1e-9)


def test_what_is_chosen_is_far_from_what_is_labelled_and_from_each_other():
    angles = np.radians([0, 1, 90, 91, 180])
    vectors = np.stack([np.cos(angles), np.sin(angles)], -1)
    assert acquisition.spread(vectors, None, 3).tolist() == [0, 4, 2]
    near = vectors @ vectors[0]  # the first is labelled
    assert acquisition.spread(vectors, near, 2).tolist() == [4, 2]
    assert sorted(acquisition.spread(vectors, None, 9).tolist()) == [0, 1, 2, 3, 4]
    assert len(set(acquisition.spread(np.ones((4, 1)), np.ones(4), 4).tolist())) == 4
