"""What depends on the image size in a stored network, brought to another one as its authors, or
timm, do.

It runs once, when weights are read: no step is faster or slower by it.
"""

from math import isqrt

import jax
import numpy as np


def class_tokens(count: int) -> int:
    """How many of so many position embeddings are not of a square grid: the class token's, or
    none."""
    return int(count > 1 and isqrt(count - 1) ** 2 == count - 1)


def positions(stored: jax.typing.ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """Position embeddings (1,n*n,D), or (1,1+n*n,D) with the class token's first and untouched, ->
    `shape`.

    As timm's `resample_abs_pos_embed` and OpenCLIP's `resize_pos_embed`: bicubic with antialias
    (which in torch means a = -0.5).
    """
    stored, first = np.asarray(stored), class_tokens(shape[1])
    old, new = isqrt(stored.shape[1] - first), isqrt(shape[1] - first)
    if old == new:
        return stored
    width = stored.shape[2]
    grid = stored[0, first:].reshape(old, old, width)
    grid = jax.image.resize(grid, (new, new, width), "cubic", antialias=True)
    return np.concatenate([stored[:, :first], np.asarray(grid).reshape(1, -1, width)], axis=1)


def linear_positions(stored: jax.typing.ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """Position embeddings (1,n*n,D) -> `shape`, linearly between the grid's corners, which stay: as
    SigLIP's authors bring them to another image size (big_vision's `resample_posemb`)."""
    stored = np.asarray(stored)
    old, new = isqrt(stored.shape[1]), isqrt(shape[1])
    if old == new:
        return stored
    wanted = np.linspace(0, old - 1, new)
    shares = np.stack([np.interp(wanted, np.arange(old), row) for row in np.eye(old)], axis=1)
    grid = stored.reshape(old, old, -1)
    grid = np.einsum("ai,bj,ijd->abd", shares, shares, grid)
    return grid.reshape(1, new * new, -1).astype(stored.dtype)


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
