"""Augmentation: pure in (seed, view, id), and what the definitions say."""

import re
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import first_quick
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

from fgvc_jax.data import augment
from fgvc_jax.data.view import SETS, View
from fgvc_jax.utils.errors import ArgumentError

BOX = {"area": (0.15, 0.45), "ratio": (0.3, 3.3)}
EVERYTHING = View(resize=16, crop=12, augment="strong", jitter=0.3, blur=0.5, erase=1.0)
CROP = {"area": (0.67, 1.0), "ratio": (3 / 4, 4 / 3)}


def keys_of(count, view=0):
    return augment.image_keys(0, view, jnp.arange(count))


def pixels(count, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


def unit_images(count, size):
    return jnp.asarray(pixels(count, size), jnp.float32) / 255


OPERATIONS = {
    "jitter": lambda k, x: augment.color_jitter(k, x, strength=0.3),
    "erase": lambda k, x: augment.random_erase(k, x, **BOX),
    "shuffle": lambda k, x: augment.patch_shuffle(k, x, grid=2),
    "crop": lambda k, x: augment.random_crop(
        k, (x * 255).astype(jnp.uint8), crop=12, pad=2, flip=True
    ),
    "affine": lambda k, x: augment.random_affine(k, x, **CROP, degrees=15.0, flip=True),
    "resized crop": lambda k, x: augment.random_resized_crop(
        k, (x * 255).astype(jnp.uint8), crop=12, **CROP, flip=True
    ),
    "blur": augment.gaussian_blur,
    # Jitted in any case, as all of TrivialAugment's small operations take long one by one.
    "everything": jax.jit(
        lambda k, x: augment.training_view(EVERYTHING, k, (x * 255).astype(jnp.uint8))
    ),
}


VIEW = View(resize=16, crop=12)


def test_views_of_a_mirrored_image_are_those_of_the_image_the_other_way_round():
    images = pixels(3, VIEW.test_side)
    one, mirrored = augment.test_views(VIEW, images, "flip")
    np.testing.assert_array_equal(one, augment.test_view(VIEW, images))
    again = augment.test_views(VIEW, images[:, :, ::-1], "flip")
    np.testing.assert_array_equal(again, [mirrored, one])


def test_five_views_are_the_centre_and_the_corners():
    images = pixels(2, VIEW.test_side)
    found = augment.test_views(VIEW, images, "five")
    cut = (
        images[:, 2:14, 2:14],
        images[:, :12, :12],
        images[:, :12, 4:],
        images[:, 4:, :12],
        images[:, 4:, 4:],
    )
    for view, expected in zip(found, cut, strict=True):
        np.testing.assert_allclose(view, expected / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "sides"), [({}, [12, 14, 10]), ({"test_view": "whole"}, [12, 10])]
)
def test_scales_are_the_middle_at_several_sizes(changes, sides):
    """At the test view's own size it is the test view, to the bit."""
    view = replace(VIEW, **changes)
    images = pixels(2, view.test_side)
    first, *others = augment.test_views(view, images, "scales")
    np.testing.assert_array_equal(first, augment.test_view(view, images))
    for shown, side in zip(others, sides[1:], strict=True):
        middle = augment.center_crop(images, crop=side)
        expected = augment.normalize(augment.resized(middle, 12), "half")
        np.testing.assert_array_equal(shown, expected)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", first_quick(OPERATIONS, 2))
def test_operation_is_a_pure_function_of_seed_view_and_id(name):
    """An image's view is the same in any batch, jitted or eager; other views differ."""
    operation, images = jax.jit(OPERATIONS[name]), unit_images(6, 16)
    whole = operation(keys_of(6), images)
    assert whole.dtype == jnp.float32
    assert whole.min() >= 0 and whole.max() <= 1

    order = jnp.array([4, 0, 5])
    part = OPERATIONS[name](augment.image_keys(0, 0, order), images[order])
    np.testing.assert_allclose(part, whole[order], atol=1e-5)

    for seed, view in ((1, 0), (0, 1)):
        other = operation(augment.image_keys(seed, view, jnp.arange(6)), images)
        assert np.abs(other - whole).max() > 0
    same_image = jnp.broadcast_to(images[:1], images.shape)
    assert len(np.unique(np.asarray(operation(keys_of(6), same_image)), axis=0)) > 1


def test_keys_are_folded_from_seed_view_and_id():
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(3), 5), 7)
    keys = augment.image_keys(3, jnp.int32(5), jnp.array([1, 7]))
    np.testing.assert_array_equal(jax.random.key_data(keys[1]), jax.random.key_data(key))


# -- the plain recipe ----------------------------------------------------------------------------


def coordinates(size):
    """An image that tells where each of its pixels was: red is y + 1, green is x + 1."""
    y, x = np.mgrid[1 : size + 1, 1 : size + 1]
    return np.stack([y, x, np.full_like(y, 9)], -1).astype(np.uint8)


def places(count, size, *, crop, pad, flip=True):
    """(y, x, mirrored) of the crops of `count` images, read off their pixels."""
    images = np.broadcast_to(coordinates(size), (count, size, size, 3))
    crops = jax.jit(partial(augment.random_crop, crop=crop, pad=pad, flip=flip))(
        keys_of(count), images
    )
    found = []
    for one in np.rint(np.asarray(crops) * 255).astype(int):
        row, column = np.argwhere(one[..., 2] == 9)[0]
        mirrored = one[row, column, 1] > one[row, column + 1, 1] > 0
        one = one[:, ::-1] if mirrored else one
        row, column = np.argwhere(one[..., 2] == 9)[0]
        y, x = one[row, column, :2] - 1 + pad - (row, column)
        padded = np.pad(coordinates(size), ((pad, pad), (pad, pad), (0, 0)))
        np.testing.assert_array_equal(one, padded[y : y + crop, x : x + crop])  # black around
        found.append((int(y), int(x), bool(mirrored)))
    return found


def test_golden_crops():
    """Stored: they must be the same under every version of JAX, and of this code."""
    golden = [(7, 9, True), (5, 2, False), (8, 5, True), (0, 3, False), (5, 3, False)]
    assert places(5, 20, crop=16, pad=3) == golden


@pytest.mark.slow
def test_every_place_is_reached_alike():
    found = places(360, 6, crop=6, pad=1)
    counts = {place: found.count(place) for place in set(found)}
    assert set(counts) == {(y, x, m) for y in range(3) for x in range(3) for m in (False, True)}
    assert min(counts.values()) >= 8 and max(counts.values()) <= 36  # 20 expected
    assert not any(mirrored for _, _, mirrored in places(20, 6, crop=6, pad=1, flip=False))


def test_crop_of_everything_is_the_image():
    images = pixels(3, 8)
    same = augment.random_crop(keys_of(3), jnp.asarray(images), crop=8, pad=0, flip=False)
    np.testing.assert_allclose(same, images / 255, atol=1e-7)


@pytest.mark.parametrize(
    ("size", "crop"), [(8, 4), (9, 4), (11, 4), (7, 7), (600, 448), (513, 448)]
)
def test_center_crop_is_torchvisions(size, crop):
    start = int(round((size - crop) / 2.0))  # torchvision.transforms.functional.center_crop
    image = np.arange(size)[:, None] % 256 * np.ones((1, size), int)
    images = np.stack([image, image.T, image], -1)[None].astype(np.uint8)
    result = np.rint(np.asarray(augment.center_crop(jnp.asarray(images), crop=crop)) * 255)
    np.testing.assert_array_equal(result[0], images[0, start:, start:][:crop, :crop])


def test_normalize():
    image = jnp.array([[[[0.0, 0.5, 1.0]]]])
    np.testing.assert_allclose(augment.normalize(image, "half"), [[[[-1, 0, 1]]]])
    expected = [[[[-0.485 / 0.229, 0.044 / 0.224, 0.594 / 0.225]]]]
    np.testing.assert_allclose(augment.normalize(image, "imagenet"), expected, rtol=1e-6)
    expected = (255 * np.asarray(image) - 127) / 128
    np.testing.assert_allclose(augment.normalize(image, "tensorflow"), expected, atol=1e-6)


# -- operations of stronger views ----------------------------------------------------------------


def ramps(count, size):
    """Red and green are the pixel's y and x as fractions of the side, blue is 1: a bilinear
    resampling leaves what is linear exactly so, and the result tells where its pixels came from."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    image = np.stack([y, x, np.ones_like(y)], -1)
    return jnp.asarray(np.broadcast_to(image, (count, size, size, 3)), jnp.float32)


def fitted_maps(count, size, **options):
    """The affine maps, as (3, 2) from (y, x, 1) about the centre to the source's (y, x)."""
    affine = jax.jit(partial(augment.random_affine, **options))
    results = np.asarray(affine(keys_of(count), ramps(count, size)))
    v, u = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    for one in results.astype(float):
        edge = 0.5 / size + 1e-4
        known = (
            (one[..., 2] == 1) & (one[..., :2] > edge).all(-1) & (one[..., :2] < 1 - edge).all(-1)
        )
        positions = np.stack([v[known], u[known], np.ones(known.sum())], -1)
        fit, residual, *_ = np.linalg.lstsq(positions, one[known][:, :2], rcond=None)
        assert residual.max() < 1e-6
        yield fit


@pytest.mark.slow
def test_affine_ranges():
    options = {**CROP, "degrees": 15.0, "flip": True}
    areas, ratios, angles, mirrored, centres = [], [], [], [], []
    for fit in fitted_maps(200, 24, **options):
        height, width = np.linalg.norm(fit[:2, 0]), np.linalg.norm(fit[:2, 1])
        mirror = np.sign(np.linalg.det(fit[:2]))
        areas.append(height * width)
        ratios.append(width / height)
        angles.append(np.degrees(np.arcsin(mirror * fit[1, 0] / height)))
        mirrored.append(mirror < 0)
        centres.append((fit[2] - 0.5) / (1 - np.array([height, width]) + 1e-9) * 2)
    assert 0.67 - 1e-3 <= min(areas) < 0.70 and 0.97 < max(areas) <= 1 + 1e-3
    assert 3 / 4 - 1e-3 <= min(ratios) < 0.8 and 1.25 < max(ratios) <= 4 / 3 + 1e-3
    assert -15.01 <= min(angles) < -13 and 13 < max(angles) <= 15.01
    assert 70 < sum(mirrored) < 130
    centres = np.array(centres)
    assert np.abs(centres).max() <= 1.05 and np.abs(centres).max() > 0.9  # the crop fits in


@pytest.mark.slow
def test_affine_resamples_bilinearly():
    """Against scipy in float64, with the map read off ramps that were resampled by the same key."""
    count, size = 4, 20
    options = {**CROP, "degrees": 15.0, "flip": True}
    images = unit_images(count, size)
    results = jax.jit(partial(augment.random_affine, **options))(keys_of(count), images)
    v, u = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    positions, uncovered = np.stack([v, u, np.ones_like(v)], -1), 0
    for image, result, fit in zip(
        np.asarray(images, float), results, fitted_maps(count, size, **options), strict=True
    ):
        source = np.moveaxis(positions @ fit, -1, 0)
        expected = np.stack(
            [
                map_coordinates(c, source * size - 0.5, order=1, mode="nearest")
                for c in image.T.swapaxes(1, 2)
            ],
            -1,
        )
        off = np.abs(source - 0.5).max(0) - 0.5  # beyond the border
        np.testing.assert_allclose(result[off < -1e-4], expected[off < -1e-4], atol=1e-4)
        np.testing.assert_array_equal(result[off > 1e-4], augment.GRAY)
        uncovered += (off > 1e-4).sum()
    assert uncovered


@pytest.mark.slow
def test_affine_of_nothing_is_the_image():
    images, keys = np.asarray(unit_images(8, 9)), keys_of(8)
    affine = jax.jit(
        partial(augment.random_affine, area=(1.0, 1.0), ratio=(3 / 4, 4 / 3), degrees=0.0),
        static_argnames="flip",
    )
    np.testing.assert_allclose(affine(keys, images, flip=False), images, atol=1e-5)
    results = affine(keys, images, flip=True)
    mirrored = np.abs(results - images).max((1, 2, 3)) > 1e-2
    assert mirrored.any() and not mirrored.all()
    images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    np.testing.assert_allclose(results, images, atol=1e-5)


def test_jitter_is_torchvisions():
    """adjust_brightness, adjust_contrast, adjust_saturation of torchvision, in float64."""
    images, strength = unit_images(5, 6), 0.9
    jitter = jax.jit(augment.color_jitter)
    results = jitter(keys_of(5), images, strength=strength)
    luma = np.array([0.299, 0.587, 0.114])
    low, high = 1.0, 0.0
    for key, image, result in zip(keys_of(5), np.asarray(images, float), results, strict=True):
        factors = jax.random.uniform(key, (3,), minval=1 - strength, maxval=1 + strength)
        expected = image
        for factor, base in zip(
            np.asarray(factors, float),
            (np.zeros_like, lambda x: (x @ luma).mean(), lambda x: (x @ luma)[..., None]),
            strict=True,
        ):
            expected = factor * expected + (1 - factor) * base(expected)
            low, high = min(low, expected.min()), max(high, expected.max())
            expected = np.clip(expected, 0, 1)
        np.testing.assert_allclose(result, expected, atol=1e-6)
    assert low < 0 and high > 1  # some was clipped
    np.testing.assert_allclose(jitter(keys_of(5), images, strength=0.0), images, atol=1e-6)


def test_erased_box():
    size = 40
    images = jnp.zeros((300, size, size, 3))
    erase = jax.jit(partial(augment.random_erase, **BOX))
    gray = np.asarray(erase(keys_of(300), images)) == augment.GRAY
    areas, ratios = [], []
    for one in gray:
        assert (one == one[..., :1]).all()
        rows, columns = one[..., 0].any(1), one[..., 0].any(0)
        np.testing.assert_array_equal(one[..., 0], rows[:, None] & columns)
        for side in (rows, columns):
            assert (np.diff(np.flatnonzero(side)) == 1).all()
        areas.append(rows.sum() * columns.sum() / size**2)
        ratios.append(columns.sum() / rows.sum())
    rounding = 2 / size  # a pixel more or less along each side
    assert 0.15 - rounding < min(areas) < 0.18 and 0.42 < max(areas) < 0.45 + rounding
    assert 0.3 * 0.9 < min(ratios) < 0.6 and 1.7 < max(ratios) < 3.3 * 1.1
    seen = gray[..., 0].any(0)
    assert all(edge.any() for edge in (seen[0], seen[-1], seen[:, 0], seen[:, -1]))

    images = unit_images(300, size) * 0.4
    results = np.asarray(erase(keys_of(300), images))
    np.testing.assert_array_equal(results, np.where(gray, augment.GRAY, images))


def test_patches_are_permuted():
    count, size = 400, 6
    images = unit_images(1, size)
    half = size // 2
    quarters = [
        np.asarray(images[0, y : y + half, x : x + half]) for y in (0, half) for x in (0, half)
    ]
    same = jnp.broadcast_to(images, (count, size, size, 3))
    results = jax.jit(partial(augment.patch_shuffle, grid=2))(keys_of(count), same)
    orders = set()
    for one in np.asarray(results):
        parts = [one[y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
        orders.add(tuple(next(i for i, q in enumerate(quarters) if (q == p).all()) for p in parts))
    assert len(orders) == 24 and all(sorted(order) == [0, 1, 2, 3] for order in orders)


def test_patches_must_tile():
    with pytest.raises(ArgumentError, match="9x9 px do not divide into 2x2.*`grid` 2"):
        augment.patch_shuffle(keys_of(1), unit_images(1, 9), grid=2)


def test_resized_images_keep_their_mean_and_place():
    images = jax.random.uniform(jax.random.key(0), (2, 12, 12, 3))
    assert augment.resized(images, 12) is images
    small = augment.resized(images, 4)
    assert small.shape == (2, 4, 4, 3)
    np.testing.assert_allclose(small.mean(), images.mean(), atol=0.02)
    ramp = jnp.broadcast_to(jnp.linspace(0, 1, 12)[None, :, None, None], (1, 12, 12, 3))
    large = augment.resized(ramp, 36)[0]
    assert np.all(np.diff(large[:, 5, 0]) >= 0) and np.ptp(large, axis=1).max() < 1e-6


def boxes(count, size, **options):
    """(top, left, height, width) of resized crops in pixels, and whether they are mirrored."""
    places = np.zeros((count, size, size, 3), np.uint8)
    places[..., 0], places[..., 1] = np.arange(size)[:, None], np.arange(size)
    crop = jax.jit(partial(augment.random_resized_crop, crop=32, flip=True, **options))
    found = np.asarray(crop(keys_of(count), places), float) * 255
    middle = slice(4, -4)  # where antialiasing does not meet the border
    for one in found[:, middle, middle]:
        (down, _), (_, right) = ((one[-1, -1, :2] - one[0, 0, :2]) / (len(one) - 1)) * np.eye(2)
        height, width = down * 32, abs(right) * 32
        y, x = one.mean((0, 1))[:2] + 0.5
        yield y - height / 2, x - width / 2, height, width, right < 0


def test_resized_crops_have_the_areas_ratios_and_places_asked_for():
    """Read off ramps, which a resize leaves linear."""
    found = np.array(list(boxes(300, 96, area=(0.25, 1.0), ratio=(3 / 4, 4 / 3))))
    top, left, height, width, mirrored = found.T
    areas, ratios = height * width / 96**2, width / height
    assert 0.24 < areas.min() < 0.28 and 0.95 < areas.max() < 1.01
    assert abs(areas.mean() - 0.625) < 0.05
    assert 0.74 < ratios.min() < 0.8 and 1.25 < ratios.max() < 1.35
    assert abs(np.log(ratios).mean()) < 0.04
    assert top.min() > -0.6 and left.min() > -0.6
    assert (top + height).max() < 96.6 and (left + width).max() < 96.6
    assert 110 < mirrored.sum() < 190
    free = areas < 0.5
    for start, length in ((top, height), (left, width)):
        assert abs((start / (96 - length))[free].mean() - 0.5) < 0.1


@pytest.mark.parametrize("crop", first_quick([130, 40, 90]))
def test_a_resized_crop_is_pillows_resize_of_a_box(crop, monkeypatch):
    """Smaller with antialiasing, and larger; Pillow rounds to whole levels, twice."""
    box = 0.13, 0.29, 0.6, 0.47
    monkeypatch.setattr(augment, "_random_box", lambda *_: tuple(map(jnp.float32, box)))
    image = np.asarray(unit_images(1, 96)[0] * 255, np.uint8)
    found = augment.random_resized_crop(
        keys_of(1), image[None], crop=crop, area=(1, 1), ratio=(1, 1), flip=False
    )
    top, left, height, width = (96 * edge for edge in box)
    expected = Image.fromarray(image).resize(
        (crop, crop), Image.Resampling.BILINEAR, (left, top, left + width, top + height)
    )
    np.testing.assert_allclose(found[0] * 255, np.asarray(expected, float), atol=1.1)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_resized_crop_of_everything_is_the_image():
    images = pixels(2, 20)
    whole = {"area": (1.0, 1.0), "ratio": (3 / 4, 4 / 3), "flip": False}
    found = augment.random_resized_crop(keys_of(2), images, crop=20, **whole)
    np.testing.assert_allclose(found, images / 255, atol=1e-5)


def test_blur_is_scipys():
    images = unit_images(4, 24)
    found = jax.jit(augment.gaussian_blur)(keys_of(4), images)
    deviations = jax.vmap(lambda key: jax.random.uniform(key, (), jnp.float32, 0.1, 2.0))(
        keys_of(4)
    )
    assert np.ptp(deviations) > 0.5
    for image, one, deviation in zip(np.asarray(images), found, deviations, strict=True):
        expected = gaussian_filter(image.astype(float), float(deviation), axes=(0, 1), truncate=6)
        inner = slice(11, 13)  # the border is where it is not reflected here
        np.testing.assert_allclose(one[inner, inner], expected[inner, inner], atol=1e-4)
    flat = jnp.full((4, 9, 9, 3), 0.7)
    np.testing.assert_allclose(augment.gaussian_blur(keys_of(4), flat), flat, atol=1e-6)


@pytest.mark.parametrize("chance", [0.1, 0.7])
def test_so_many_images_are_changed(chance):
    images = jnp.zeros((2000, 1, 1, 3))
    changed = augment.sometimes(lambda keys, x: x + 1, keys_of(2000), images, chance=chance)
    assert set(np.unique(changed)) == {0.0, 1.0} and abs(changed.mean() - chance) < 0.03


# -- what is shown -------------------------------------------------------------------------------


def test_the_published_view_is_the_random_crop():
    images, view = pixels(6, 20), View(resize=20, crop=16, pad=2)
    expected = augment.random_crop(keys_of(6), images, crop=16, pad=2, flip=True)
    for each in (view, replace(view, ratio=2.0), replace(view, augment="strong", **NOTHING)):
        np.testing.assert_array_equal(augment.training_view(each, keys_of(6), images), expected)


NOTHING = {"scale": 0.0, "trivial": 0.0, "erase": 0.0}


def test_the_named_sets_are_what_they_were():
    """Digests know a set by its name alone."""
    assert SETS == {
        "published": {},
        "standard": {"scale": 0.25, "jitter": 0.4},
        "strong": {"scale": 0.25, "trivial": 1.0, "erase": 0.1, "mixup": 0.2, "cutmix": 1.0},
    }


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_set_is_its_numbers():
    images, keys = pixels(8, 20), keys_of(8)
    named, said = View(resize=20, crop=16, augment="standard"), View(resize=20, crop=16)
    said = replace(said, scale=0.25, jitter=0.4)
    shown = [augment.training_view(view, keys, images) for view in (named, said)]
    np.testing.assert_array_equal(*shown)
    more = augment.training_view(replace(named, erase=1.0), keys, images)
    erased = (np.asarray(more) == augment.GRAY).all(-1)
    assert (erased.mean((1, 2)) > 0).mean() > 0.7  # the smallest box may lie between two centres
    np.testing.assert_array_equal(more[~erased], shown[0][~erased])  # keys are each one's own


def test_no_view_gathers_single_pixels_on_a_tpu():
    """What a TPU gets, lowered without one: slices are patches of a batch's images, or crops."""
    view = replace(EVERYTHING, resize=80, crop=64)
    operands = jnp.zeros((2, 2), jnp.uint32), jnp.zeros((2, 80, 80, 3), jnp.uint8)
    traced = jax.jit(
        lambda keys, images: augment.training_view(view, jax.random.wrap_key_data(keys), images)
    ).trace(*operands)
    text = traced.lower(lowering_platforms=("tpu",)).as_text()
    slices = set(re.findall(r"gather.*slice_sizes = array<i64: ([\d, ]+)>", text))
    assert slices == {"1, 64, 64, 3"} and "stablehlo.scatter" not in text
