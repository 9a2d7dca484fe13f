"""A perceptually even scale of colours, from dark blue over red to light yellow.

It is a path through OKLab (Ottosson, 2020) of rising lightness, walked in steps of equal length, so
that equal differences of a value look equally large, also in gray and to the colour-blind.
"""

from functools import cache

import numpy as np

LIGHTNESS = 0.20, 0.94  # at the ends
HUE = 275, 460  # degrees at the ends: blue, violet, red, yellow
CHROMA = 0.06, 0.12  # at the ends, and what is added in the middle
STEPS = 256

_FROM_LAB = np.array(
    [
        (1.0, 0.3963377774, 0.2158037573),
        (1.0, -0.1055613458, -0.0638541728),
        (1.0, -0.0894841775, -1.2914855480),
    ]
)
_TO_RGB = np.array(
    [
        (4.0767416621, -3.3077115913, 0.2309699292),
        (-1.2684380046, 2.6097574011, -0.3413193965),
        (-0.0041960863, -0.7034186147, 1.7076147010),
    ]
)


@cache
def scale() -> np.ndarray:
    """(256, 3) uint8 sRGB, from the lowest value to the highest."""
    fine = _path(np.linspace(0, 1, 4096))
    walked = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(fine, axis=0), axis=1))])
    even = np.interp(np.linspace(0, walked[-1], STEPS), walked, np.linspace(0, 1, len(fine)))
    return _srgb(_path(even))


def _path(t: np.ndarray) -> np.ndarray:
    """(n,) from 0 to 1 -> (n, 3) OKLab."""
    hue = np.deg2rad(HUE[0] + (HUE[1] - HUE[0]) * t)
    chroma = CHROMA[0] + CHROMA[1] * np.sin(np.pi * t)
    lightness = LIGHTNESS[0] + (LIGHTNESS[1] - LIGHTNESS[0]) * t
    return np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)


def _srgb(lab: np.ndarray) -> np.ndarray:
    linear = np.clip((lab @ _FROM_LAB.T) ** 3 @ _TO_RGB.T, 0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * curved).astype(np.uint8)
