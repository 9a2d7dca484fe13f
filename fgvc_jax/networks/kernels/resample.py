"""What depends on the image size in a stored network, brought to another one as timm does.

It runs once, when weights are read: no step is faster or slower by it.
"""

from math import isqrt

import jax
import numpy as np


def positions(stored: jax.typing.ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """Position embeddings (1,1+n*n,D) -> `shape`, the class token's first and untouched.

    As timm's `resample_abs_pos_embed`: bicubic with antialias (which in torch means a = -0.5).
    """
    stored = np.asarray(stored)
    old, new = isqrt(stored.shape[1] - 1), isqrt(shape[1] - 1)
    if old == new:
        return stored
    width = stored.shape[2]
    grid = stored[0, 1:].reshape(old, old, width)
    grid = jax.image.resize(grid, (new, new, width), "cubic", antialias=True)
    return np.concatenate([stored[:, :1], np.asarray(grid).reshape(1, -1, width)], axis=1)


def relative_biases(stored: jax.typing.ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """A window's biases by relative position ((2*n-1)^2, heads) -> `shape`.

    As timm's `resize_rel_pos_bias_table`, after BEiT: the stored places are a geometric progression
    from the middle, so that near ones stay near, and what lies between them is linear.
    """
    stored = np.asarray(stored)
    old, new = isqrt(stored.shape[0]), isqrt(shape[0])
    if old == new:
        return stored
    half = _progression(old // 2, new // 2)
    places = np.concatenate([-half[::-1], [0], half])
    wanted = np.arange(new) - new // 2
    shares = np.stack([np.interp(wanted, places, row) for row in np.eye(old)], axis=1)
    grid = stored.reshape(old, old, -1)
    grid = np.einsum("ai,bj,ijh->abh", shares, shares, grid)
    return grid.reshape(new * new, -1).astype(stored.dtype)


def _progression(count: int, last: float) -> np.ndarray:
    """1, 1+q, 1+q+q^2, ...: `count` places that end at `last`, with q from 1.01 to 1.5."""
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        q = (low + high) / 2
        low, high = (low, q) if (1 - q**count) / (1 - q) > last else (q, high)
    return np.cumsum(q ** np.arange(count))
