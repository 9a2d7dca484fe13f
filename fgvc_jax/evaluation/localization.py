"""Whether a map of evidence lies on the object: two scores, and maps that know nothing.

A map without any evidence points nowhere, hence anywhere: it gets what a pixel drawn blindly would.
"""

import numpy as np

SPREAD = 0.25  # of the side: standard deviation of the centre's Gaussian


def pointing(values: np.ndarray, mask: np.ndarray) -> float:
    """The pointing game (Zhang et al., arXiv 1608.00507): 1 where the largest value is inside the
    region, 0 where it is not. Of equally large values, the share that is.

    Args:
        values: (S, S).
        mask: (S, S) in [0, 1], how much of each pixel is inside; from a half on, it is.
    """
    largest = values == values.max()
    return float((mask >= 0.5)[largest].mean())


def energy(values: np.ndarray, mask: np.ndarray) -> float:
    """The share of a map that is inside the region, 0 to 1 (Wang et al., arXiv 1910.01279).

    Args:
        values: (S, S); what is below 0 counts as 0.
        mask: (S, S) in [0, 1].
    """
    values = np.maximum(values, 0)
    total = values.sum(dtype=np.float64)
    return float((values * mask).sum(dtype=np.float64) / total) if total else float(mask.mean())


def centre(side: int) -> np.ndarray:
    """(side, side) float32: a Gaussian in the middle, where photographers put birds."""
    offsets = (np.arange(side, dtype=np.float32) - (side - 1) / 2) / side
    bell = np.exp(-0.5 * (offsets / SPREAD) ** 2)
    return bell[:, None] * bell


def noise(grid: tuple[int, int], *seed: int) -> np.ndarray:
    """(h, w) float32, uniform in [0, 1), the same for the same seeds."""
    return np.random.default_rng(seed).random(grid, np.float32)
