"""CSDNet's second view: pure in its key, each part by itself, and the mask from float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from fgvc_jax.data import augment
from fgvc_jax.objectives import csdnet_views as views
from fgvc_jax.objectives.base import Batch
from fgvc_jax.utils.errors import ArgumentError

SIZE = 32
IMAGES = jnp.float32(np.random.default_rng(1).random((4, SIZE, SIZE, 3)))
VIEWPOINT = dict(
    crop_area=(0.67, 1.0), rotation=15.0, jitter=0.3, erase_area=(0.15, 0.45), shuffle=2
)


@pytest.mark.slow
def test_viewpoint_is_a_pure_function_of_seed_view_and_id():
    """Whatever the batch, jitted or not."""
    images = IMAGES
    view = partial(views.viewpoint, **VIEWPOINT, flip=True)
    whole = view(augment.image_keys(0, 0, jnp.arange(4)), images)
    order = jnp.array([3, 1])
    part = jax.jit(view)(augment.image_keys(0, 0, order), images[order])
    np.testing.assert_allclose(part, whole[order], atol=1e-5)
    assert whole.dtype == jnp.float32 and whole.min() >= 0 and whole.max() <= 1
    hidden = (whole == augment.GRAY).all(-1).mean((1, 2))
    assert (hidden > 0.15 - 2 / SIZE).all() and (hidden < 0.7).all()  # erased, and corners
    for seed, view_number in ((1, 0), (0, 1)):
        other = view(augment.image_keys(seed, view_number, jnp.arange(4)), images)
        assert np.abs(other - whole).max((1, 2, 3)).min() > 0.1


@pytest.mark.slow
def test_viewpoint_can_do_without_each_of_its_parts():
    """All off leaves the mirror of every second image; each part alone changes every image."""
    keys, images = augment.image_keys(0, 0, jnp.arange(4)), IMAGES
    off = dict(
        crop_area=(1.0, 1.0), rotation=0.0, jitter=0.0, erase_area=(0.0, 0.0), shuffle=1, flip=True
    )
    plain = views.viewpoint(keys, images, **off)
    mirrored = np.array([
        np.allclose(view, image[:, ::-1], atol=1e-5)
        for view, image in zip(plain, images, strict=True)
    ])  # fmt: skip
    assert mirrored.any() and not mirrored.all()
    np.testing.assert_allclose(plain[~mirrored], images[~mirrored], atol=1e-5)
    for part, value in VIEWPOINT.items():
        changed = views.viewpoint(keys, images, **{**off, part: value})
        assert np.abs(changed - plain).max((1, 2, 3)).min() > 0.05, part


def test_mirror():
    images = IMAGES
    view = views.mirror(augment.image_keys(0, 0, jnp.arange(4)), images, flip=True)
    np.testing.assert_array_equal(view, np.flip(images, axis=2))


def test_viewpoint_shares_no_randomness_with_the_raw_crop():
    """A split key's children are fold_in(key, 0), fold_in(key, 1), ...: SSDP is none of them."""
    key = jax.random.key(0)
    taken = jax.random.key_data(jax.random.split(key, 64))
    own = jax.random.key_data(jax.random.fold_in(key, views.SSDP))
    assert not (taken == own).all(-1).any()


def mask_reference(attention, size):
    """Float64: 3x3 mean over what exists, bilinear enlargement, min-max, distance to the mean."""
    height, width = attention.shape
    smooth = np.array(
        [
            [attention[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].mean() for x in range(width)]
            for y in range(height)
        ]
    )
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    y, x = np.meshgrid(
        *((np.arange(size) + 0.5) * n / size - 0.5 for n in (height, width)), indexing="ij"
    )
    large = map_coordinates(smooth, [y, x], order=1, mode="nearest")
    return large - large.mean()


def test_attended_mask():
    maps = np.random.default_rng(0).normal(size=(3, 5, 4))
    kept = jax.jit(partial(views.attended_mask, size=18))(jnp.float32(maps))
    for one, attention in zip(np.asarray(kept), maps, strict=True):
        excess = mask_reference(attention, 18)
        clear = np.abs(excess) > 1e-5
        np.testing.assert_array_equal(one[clear], excess[clear] > 0)
        assert clear.mean() > 0.99 and 0.2 < one.mean() < 0.8
    scaled = views.attended_mask(jnp.float32(3 * maps + 7), 18)
    assert (scaled == kept).mean() > 0.999


@pytest.mark.parametrize("level", [0.0, 0.1, -3.3])
def test_attended_mask_of_a_constant_map_keeps_everything(level):
    assert views.attended_mask(jnp.full((2, 7, 7), level), 14).all()


def counting(variables, images, keys):
    """A network whose feature map is the image, and whose statistics count what it is shown."""
    outputs = {"mean": images.mean((1, 2, 3)), "key": jax.random.key_data(keys)}
    return {"stage5": images}, outputs, {"seen": variables["batch_stats"]["seen"] + len(images)}


def batch_of(image, second=None):
    keys = augment.image_keys(0, 0, jnp.arange(len(IMAGES)))
    return Batch(image, jnp.zeros(len(IMAGES), jnp.int32), keys, jnp.float32(0), second)


def test_both_views_pass_side_by_side_and_come_apart_again():
    variables = {"batch_stats": {"seen": 0}}
    seen = views.see_both(counting, variables, batch_of(IMAGES, 1 - IMAGES))
    np.testing.assert_array_equal(seen.taps["stage5"], IMAGES)
    np.testing.assert_allclose(seen.raw["mean"], IMAGES.mean((1, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(seen.augmented["mean"], 1 - seen.raw["mean"], rtol=1e-5)
    assert seen.batch_stats == {"seen": 8}  # one pass over both
    assert (seen.raw["key"] != seen.augmented["key"]).any(-1).all()


def test_the_adaptive_view_is_gray_where_nothing_is_attended_to():
    variables = {"batch_stats": {"seen": 0}}
    image = IMAGES.at[:, : SIZE // 2].multiply(0.01)  # attention is the sum of the channels
    seen = views.see_adaptive(counting, variables, batch_of(image))
    gray = (seen.shown == augment.GRAY).all(-1)
    assert gray[:, : SIZE // 2 - 2].all() and not gray[:, SIZE // 2 + 2 :].all()
    np.testing.assert_array_equal(seen.shown[~gray], image[~gray])
    assert seen.batch_stats == {"seen": 8}


def test_the_adaptive_view_needs_images():
    with pytest.raises(ArgumentError, match="`view` adaptive needs images"):
        views.see_adaptive(
            lambda variables, inputs, keys: ({"stage5": inputs["map"]}, {}, {}),
            {"batch_stats": {}},
            batch_of({"map": IMAGES}),
        )
