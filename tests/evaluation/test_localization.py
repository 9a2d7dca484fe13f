"""The pointing game and the energy inside, on maps whose scores are known."""

import numpy as np
import pytest

from fgvc_jax.evaluation import localization
from fgvc_jax.evaluation.localization import energy, pointing

MASK = np.zeros((8, 8), np.float32)
MASK[:4, :4] = 1


def test_evidence_in_the_corner_where_the_object_is():
    values = np.zeros((8, 8))
    values[1, 2], values[6, 6] = 3, 1
    assert pointing(values, MASK) == 1 and energy(values, MASK) == 0.75
    assert pointing(values[::-1, ::-1], MASK) == 0 and energy(values[::-1, ::-1], MASK) == 0.25


def test_a_pixel_half_inside_counts_half_of_its_energy():
    values = np.zeros((8, 8))
    values[0, 4] = 2
    half = MASK.copy()
    half[0, 4] = 0.4
    assert pointing(values, half) == 0 and energy(values, half) == pytest.approx(0.4)
    half[0, 4] = 0.5
    assert pointing(values, half) == 1


def test_of_equal_places_each_has_its_share():
    values = np.zeros((8, 8))
    values[0, 0] = values[7, 7] = values[7, 0] = values[0, 7] = 1
    assert pointing(values, MASK) == 0.25


@pytest.mark.parametrize("values", [np.zeros((8, 8)), np.full((8, 8), 5.0)])
def test_a_map_that_says_nothing_scores_as_a_blind_guess(values):
    assert pointing(values, MASK) == energy(values, MASK) == 0.25


def test_less_than_nothing_is_no_energy():
    values = np.full((8, 8), -1.0)
    values[0, 0] = 1
    assert energy(values, MASK) == 1


def test_maps_that_know_nothing():
    bell = localization.centre(9)
    assert bell[4, 4] == bell.max() == 1 and (bell == bell.T).all() and (bell == bell[::-1]).all()
    assert bell[4, 0] == pytest.approx(np.exp(-0.5 * (4 / 9 / 0.25) ** 2))
    np.testing.assert_array_equal(
        localization.noise((3, 4), 0, 1), localization.noise((3, 4), 0, 1)
    )
    assert (localization.noise((3, 4), 0, 1) != localization.noise((3, 4), 0, 2)).all()
