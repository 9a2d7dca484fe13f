"""Sampling against SciPy and the definition: every platform's form, on the CPU."""

import math
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import first_quick
from jax import lax
from scipy.ndimage import map_coordinates

from fgvc_jax.data import augment
from fgvc_jax.data.sampling import bilinear


def turned(size, degrees, scale=1.0, centre=0.0, mirrored=False):
    """Coordinates (1,h,w) of a square of `size` px, turned about the middle, some px off it."""
    v, u = (np.mgrid[: size[0], : size[1]] - np.reshape(size, (2, 1, 1)) / 2 + 0.5) * scale
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    u = -u if mirrored else u
    middle = (np.array(size) - 1) / 2 + centre
    return tuple(
        jnp.float32(a)[None] for a in (middle[0] + cos * v + sin * u, middle[1] - sin * v + cos * u)
    )


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "size",
    first_quick([((50, 70),), ((9, 7),), ((64, 64),), ((48, 48),), ((33, 32),), ((2, 2),)], 2),
)
def test_bilinear_is_scipys(platform, size):
    """Also beyond the border, for what is no multiple of a tile, and for images below one."""
    image = np.random.default_rng(0).random((*size, 3), np.float32)
    sampled = jax.jit(partial(bilinear, reach=math.sqrt(2)))
    ways = (1.0, 0.0, False), (0.37, 5.3, True), (1.0, -size[0], False)
    for degrees, way in product((0, 15, 45, 90, 180, -137.0, 359.0), ways):
        y, x = turned(size, degrees, *way)
        found = sampled(jnp.asarray(image)[None], y, x)
        places = [np.asarray(a[0], float) for a in (y, x)]
        wanted = [
            map_coordinates(image[..., c].astype(float), places, order=1, mode="nearest")
            for c in range(3)
        ]
        np.testing.assert_allclose(found[0], np.stack(wanted, -1), atol=1e-5, err_msg=str(degrees))


def test_the_patch_is_as_small_as_the_reach_allows(platform):
    """Coordinates that move exactly `reach` a pixel, from any start within one."""
    image = np.random.default_rng(1).random((90, 90, 1), np.float32)
    for reach in (0.3, 1.0, 1.2247, math.sqrt(2)):
        sampled = jax.jit(partial(bilinear, reach=reach))
        for start in (0.0, 0.999, 7.5):
            y, x = (start + reach / 2 * np.add(*np.mgrid[:40, :40]) for _ in "yx")
            found = sampled(jnp.asarray(image)[None], jnp.float32(y)[None], jnp.float32(x)[None])
            wanted = map_coordinates(image[..., 0].astype(float), [y, x], order=1, mode="nearest")
            np.testing.assert_allclose(found[0, ..., 0], wanted, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("degrees", [15.0, 45.0, 359.0])
def test_a_view_is_the_same_on_every_platform(degrees):
    """The whole random affine: as a TPU computes it, and as all others do."""
    images = jnp.asarray(np.random.default_rng(2).random((24, 50, 50, 3), np.float32))
    keys = augment.image_keys(0, 0, jnp.arange(24))

    def view(keys, images):
        return augment.random_affine(
            keys, images, area=(0.1, 1.0), ratio=(3 / 4, 4 / 3), degrees=degrees, flip=True
        )

    here = view(keys, images)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lax, "platform_dependent", lambda *xs, tpu, **_: tpu(*xs))
        there = view(keys, images)
    assert np.mean(here == augment.GRAY) > 0.01 and np.mean(here != there) > 0.01
    np.testing.assert_allclose(here, there, atol=1e-5)


def test_a_tpu_gathers_no_single_pixels():
    """The program that a TPU gets, lowered without one: patches only, and products."""

    def slices(platform):
        shapes = [(2, 64, 64, 3), (2, 64, 64), (2, 64, 64)]
        operands = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        traced = jax.jit(lambda *xs: bilinear(*xs, reach=1.2247)).trace(*operands)
        return traced.lower(lowering_platforms=(platform,)).as_text()

    assert "slice_sizes = array<i64: 1, 40, 40, 3>" in slices("tpu")
    for platform in ("cpu", "cuda"):
        assert "slice_sizes = array<i64: 1, 1, 1, 3>" in slices(platform)
