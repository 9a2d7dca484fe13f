"""TrivialAugment's operations against Pillow's, which the paper's authors use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy.ndimage import map_coordinates

from fgvc_jax.data import augment, trivial
from fgvc_jax.data.trivial import OPERATIONS

SIZE = 48
OPERATE = jax.jit(trivial.operate)


def pixels():
    """A smooth picture with noise, whose channels have different ranges."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    noise = np.random.default_rng(0).random((SIZE, SIZE, 3))
    waves = np.stack([0.5 + 0.4 * np.sin(7 * y + 3 * x), 0.2 + 0.6 * x * y, 0.9 - 0.5 * y], -1)
    return np.uint8(np.clip(waves + 0.1 * (noise - 0.5), 0, 1) * 255)


def operated(name, strength, sign=1.0):
    """What an operation makes of the picture, of 255."""
    image = jnp.asarray(pixels(), jnp.float32)[None] / 255
    arguments = np.int32([OPERATIONS.index(name)]), np.float32([strength]), np.float32([sign])
    return np.asarray(OPERATE(image, *arguments)[0], float) * 255


def sheared(v, along_x):
    matrix = (1, v, 0, 0, 1, 0) if along_x else (1, 0, 0, v, 1, 0)
    return lambda image: image.transform(image.size, Image.Transform.AFFINE, matrix)


def shifted(x, y):
    return lambda image: image.transform(image.size, Image.Transform.AFFINE, (1, 0, x, 0, 1, y))


EXACT = {
    "posterize": (1 / 3, lambda image: ImageOps.posterize(image, 6)),
    "solarize": (0.5, lambda image: ImageOps.solarize(image, 128)),
    "autocontrast": (0, ImageOps.autocontrast),
    "equalize": (0, ImageOps.equalize),
    "translate_x": (0.25, shifted(8, 0)),
    "translate_y": (0.5, shifted(0, 16)),
    "brightness": (0.5, lambda image: ImageEnhance.Brightness(image).enhance(1 + 0.99 / 2)),
    "color": (0.5, lambda image: ImageEnhance.Color(image).enhance(1 + 0.99 / 2)),
    "contrast": (0.5, lambda image: ImageEnhance.Contrast(image).enhance(1 + 0.99 / 2)),
    "sharpness": (0.5, lambda image: ImageEnhance.Sharpness(image).enhance(1 + 0.99 / 2)),
}


@pytest.mark.parametrize("name", EXACT)
def test_an_operation_is_pillows(name):
    """Within what Pillow rounds on its way: a level or two."""
    strength, pillow = EXACT[name]
    expected = np.asarray(pillow(Image.fromarray(pixels())), float)
    found = operated(name, strength)
    if name.startswith("translate"):  # what is uncovered is gray here, black there
        uncovered = (expected == 0).all(-1)
        np.testing.assert_array_equal(found[uncovered], 255 * augment.GRAY)
        found, expected = found[~uncovered], expected[~uncovered]
    assert np.abs(found - expected).max() <= (2 if name == "sharpness" else 1.5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("name", ["shear_x", "shear_y", "rotate"])
def test_geometry_is_bilinear_at_pillows_places(name, sign):
    """Against SciPy in float64; Pillow, which takes the nearest pixel, tells the direction."""
    strength, image = 0.3, pixels().astype(float)
    centre = np.mgrid[:SIZE, :SIZE] + 0.5
    turn, sheared_by = np.radians(sign * strength * trivial.ROTATE), sign * strength * trivial.SHEAR
    cos, sin = np.cos(turn), np.sin(turn)
    matrix, origin = {
        "shear_x": (np.array([[1, 0], [sheared_by, 1]]), 0),
        "shear_y": (np.array([[1, sheared_by], [0, 1]]), 0),
        "rotate": (np.array([[cos, sin], [-sin, cos]]), SIZE / 2),
    }[name]  # fmt: skip
    source = np.einsum("ij,jyx->iyx", matrix, centre - origin) + origin
    places = source - 0.5
    expected = np.stack(
        [map_coordinates(image[..., c], places, order=1, mode="nearest") for c in range(3)], -1
    )
    found, off = operated(name, strength, sign), np.abs(source - SIZE / 2).max(0) - SIZE / 2
    np.testing.assert_allclose(found[off < -1e-3], expected[off < -1e-3], atol=0.01)
    np.testing.assert_array_equal(found[off > 1e-3], 255 * augment.GRAY)
    assert 0.05 < np.mean(off > 0) < 0.6

    picture = Image.fromarray(pixels())
    pillow = {
        "shear_x": sheared(sheared_by, True),
        "shear_y": sheared(sheared_by, False),
        "rotate": lambda image: image.rotate(np.degrees(turn)),
    }[name](picture)
    pillow = np.asarray(pillow.filter(ImageFilter.BoxBlur(1)), float)
    smooth = np.asarray(Image.fromarray(np.uint8(expected)).filter(ImageFilter.BoxBlur(1)), float)
    inner = off < -3
    assert np.abs(pillow - smooth)[inner].mean() < 4


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_weakest_changes_nothing(name):
    if name not in ("autocontrast", "equalize"):
        np.testing.assert_allclose(operated(name, 0.0), pixels(), atol=1e-3)


def test_a_channel_of_one_level_stays():
    flat = jnp.full((1, SIZE, SIZE, 3), 100 / 255)
    for name in ("autocontrast", "equalize"):
        found = OPERATE(flat, np.int32([OPERATIONS.index(name)]), np.ones(1), np.ones(1))
        np.testing.assert_allclose(found, flat, atol=1e-6)


def test_signs_go_both_ways():
    for name in OPERATIONS[1:10]:
        one, other = (operated(name, 0.5, sign) for sign in (1.0, -1.0))
        assert np.abs(one - other).max() > 5, name


@pytest.mark.slow
def test_operations_and_strengths_are_drawn_alike(monkeypatch):
    drawn = {}
    monkeypatch.setattr(trivial, "operate", lambda images, *words: drawn.update(of=words) or images)
    count = 4200
    trivial.trivial_augment(augment.image_keys(0, 0, jnp.arange(count)), None)
    operation, strength, sign = map(np.asarray, drawn["of"])
    counts = np.bincount(operation, minlength=14)
    assert len(OPERATIONS) == len(counts) == 14
    assert counts.min() > 230 and counts.max() < 375  # of 300
    steps = np.bincount(np.rint(strength * 30).astype(int))
    assert len(steps) == 31 and steps.min() > 90 and steps.max() < 185  # of 135
    assert abs(sign.mean()) < 0.06 and set(sign) == {-1.0, 1.0}


def test_levels_are_counted_and_looked_up_exactly_by_products():
    levels = jnp.asarray(pixels()[..., 1].ravel(), jnp.int32)
    counts = np.bincount(levels, minlength=256)
    np.testing.assert_array_equal(trivial._count_by_products(levels), counts)
    table = jnp.asarray(np.random.default_rng(0).permutation(256), jnp.int32)
    found = trivial._look_up_by_products(table, levels)
    np.testing.assert_array_equal(found, table[levels])


@pytest.mark.sampled(1)
@pytest.mark.slow
@pytest.mark.parametrize("platform", ["tpu", "cuda", "cpu"], indirect=True)
def test_a_view_is_the_same_on_every_platform(platform):
    image = jnp.asarray(pixels(), jnp.float32)[None]
    images = jnp.tile(image, (len(OPERATIONS), 1, 1, 1)) / 255
    names = np.arange(len(OPERATIONS))
    found = trivial.operate(images, names, np.full(14, 0.4, np.float32), np.ones(14, np.float32))
    for name, one in zip(OPERATIONS, found, strict=True):
        np.testing.assert_allclose(one * 255, operated(name, 0.4), atol=2e-2, err_msg=name)
