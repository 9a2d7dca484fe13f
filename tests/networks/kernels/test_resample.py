"""Resampling against values that torch and timm gave."""

import numpy as np
import pytest
import scipy.ndimage

from fgvc_jax.networks.kernels.resample import (
    class_tokens,
    linear_positions,
    positions,
    relative_biases,
)


def test_positions_are_timms():
    # torch.nn.functional.interpolate(mode="bicubic", antialias=True) of the same 3x3 grid.
    smaller = [0.33652, 0.63866, -0.08117, -0.57698, 0.10467, 0.58677, 0.16597, -0.42935]
    larger = """
        -0.03192 0.88894 0.69011 0.47328 0.34314 -0.32834 -0.85532 -1.01339 -0.21541 0.76587 0.65498
        0.55147 0.44023 -0.21555 -0.72503 -1.05432 -0.46764 0.55751 0.57672 0.63916 0.55965 -0.04551
        -0.50814 -1.06727 -0.63049 0.39448 0.50439 0.68138 0.62654 0.07517 -0.34062 -1.04412
    """
    grid = np.sin(np.arange(18.0)).reshape(1, 9, 2)
    stored = np.concatenate([np.full((1, 1, 2), 7.0), grid], axis=1)
    for tokens, expected in ((5, smaller), (17, [float(x) for x in larger.split()])):
        got = positions(stored, (1, tokens, 2))
        np.testing.assert_array_equal(got[0, 0], [7, 7])
        np.testing.assert_allclose(got[0, 1:].ravel(), expected, atol=2e-5)
    assert positions(stored, (1, 10, 2)) is stored


def test_relative_biases_are_timms():
    # timm's resize_rel_pos_bias_table of 7x7 places to 3x3.
    stored = np.sin(np.arange(98.0)).reshape(49, 2)
    expected = """
        0.55143 0.99991 0.52908 -0.42818 -0.99178 -0.64354 0.90179 0.12357 -0.76825 -0.95375
        -0.26237 0.67023 -0.30481 -0.96612 -0.73918 0.16736 0.92003 0.82683
    """
    got = relative_biases(stored, (9, 2))
    np.testing.assert_allclose(got.ravel(), [float(x) for x in expected.split()], atol=1e-5)
    assert relative_biases(stored, (49, 2)) is stored


def test_relative_biases_of_a_larger_window_keep_the_middle_and_the_corners():
    """From 3x3 to 7x7 places; the stored ones lie a geometric progression from the middle."""
    stored = np.arange(9.0)[:, None]
    grid = relative_biases(stored, (49, 1)).reshape(7, 7)
    np.testing.assert_allclose(grid[3, 3], 4)
    np.testing.assert_allclose(grid[[0, 0, 6, 6], [0, 6, 0, 6]], [0, 2, 6, 8], atol=1e-4)


@pytest.mark.parametrize("side", [2, 4, 7])
def test_linear_positions_are_those_of_siglips_authors(side):
    stored = np.sin(np.arange(50.0)).reshape(1, 25, 2)
    zoomed = scipy.ndimage.zoom(stored.reshape(5, 5, 2), (side / 5, side / 5, 1), order=1)
    got = linear_positions(stored, (1, side * side, 2))
    np.testing.assert_allclose(got, zoomed.reshape(1, -1, 2), atol=1e-12)
    assert linear_positions(stored, (1, 25, 2)) is stored


def test_positions_without_a_class_token_are_a_square():
    assert [class_tokens(count) for count in (1, 2, 4, 5, 16, 17)] == [0, 1, 0, 1, 0, 1]
    grid = np.sin(np.arange(18.0)).reshape(1, 9, 2)
    stored = np.concatenate([np.zeros((1, 1, 2)), grid], axis=1)
    np.testing.assert_array_equal(positions(grid, (1, 16, 2)), positions(stored, (1, 17, 2))[:, 1:])
