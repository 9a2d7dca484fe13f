"""The scale of colours is even to the eye, in colour and in gray."""

import numpy as np

from fgvc_jax.figures.colours import scale


def lab(rgb):
    """sRGB -> CIELAB (D65), another space than the one that the scale is made in."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = np.array(
        [(0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)]
    )
    ratio = linear @ matrix.T / (0.9505, 1.0, 1.089)
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], -1)


def test_the_scale_rises_evenly():
    colours = scale()
    assert colours.shape == (256, 3) and colours.dtype == np.uint8
    found = lab(colours / 255)
    lightness = found[::8, 0]
    steps = np.diff(lightness)
    assert lightness[0] < 12 and lightness[-1] > 88
    assert steps.min() > 0 and steps.max() < 1.8 * steps.min()
    # Its saturated middle is the hardest to keep even: CIELAB itself is no better than this there.
    distances = np.linalg.norm(np.diff(found[::16], axis=0), axis=1)
    assert distances.max() < 2.5 * distances.min()
