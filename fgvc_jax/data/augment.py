"""Augmentation on the device: pure functions of (seed, view, image id).

The same view of the same image can be computed again at any time, for any member of an ensemble,
in a batch of any size on any number of devices. Images are (B, H, W, 3); `random_crop`
and `center_crop` make float32 in [0, 1] of uint8, and `normalize` is the last thing done to
an image. Between them stand the operations of stronger views, on squares (B, S, S, 3) in [0, 1].
What those hide or uncover is mid-gray: about zero once normalised, as torchvision's erasing.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from fgvc_jax.data.sampling import bilinear, mix
from fgvc_jax.data.trivial import GRAY, luma, trivial_augment
from fgvc_jax.data.view import AMOUNTS, View
from fgvc_jax.utils.errors import ArgumentError

MEAN_STD = {
    # OpenAI's CLIP, and what learned after it (OpenCLIP, BioCLIP 2).
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "tensorflow": ((127 / 255,) * 3, (128 / 255,) * 3),  # of its authors' EfficientNet-Lite
}
SCALES = 1, 8 / 7, 7 / 8  # sides of "scales", in those of the crop; the first is the test view
# Keeps the randomness of the i-th of AMOUNTS apart from the random crop's, whose keys are split off
# the same key, and from that of an objective's second view.
OF_ITS_OWN = 0x41554700


def image_keys(seed: int, view: jax.Array, ids: jax.Array) -> jax.Array:
    """One random key per image: fold_in(fold_in(key(seed), view), id).

    Args:
        seed: of the run.
        view: int, scalar or (B,): the number of the view, which may be shown in several epochs.
        ids: (B,) int, unique per image.

    Returns:
        (B,) keys.
    """
    key = jax.random.key(seed)

    def one(number, image):
        return jax.random.fold_in(jax.random.fold_in(key, number), image)

    return jax.vmap(one)(jnp.broadcast_to(view, ids.shape), ids)


def folded_keys(keys: jax.Array, number: jax.Array | int) -> jax.Array:
    """(B,) keys with a number (scalar int) folded into each."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, number)


def training_view(view: View, keys: jax.Array, images: jax.Array) -> jax.Array:
    """What `view` shows in training: (B,) keys, (B, R, R, 3) uint8 -> (B, crop, crop, 3) in [0, 1].

    It is not yet normalised, since objectives change it further. With the published augmentation it
    is the random crop; else what `View.amount` says follows, each with keys of its own.
    """

    def keys_of(name):
        return folded_keys(keys, OF_ITS_OWN + AMOUNTS.index(name))

    if scale := view.amount("scale"):
        images = random_resized_crop(
            keys_of("scale"), images, crop=view.crop, area=(scale, 1.0),
            ratio=(1 / view.ratio, view.ratio), flip=view.flip,
        )  # fmt: skip
    else:
        images = random_crop(keys, images, crop=view.crop, pad=view.pad, flip=view.flip)
    if strength := view.amount("jitter"):
        images = color_jitter(keys_of("jitter"), images, strength=strength)
    for name, change in (
        ("trivial", trivial_augment),
        ("blur", gaussian_blur),
        ("erase", partial(random_erase, area=(0.02, 0.4), ratio=(0.3, 1 / 0.3))),
    ):
        if chance := view.amount(name):
            images = sometimes(change, keys_of(name), images, chance=chance)
    return images


def test_view(view: View, images: jax.Array) -> jax.Array:
    """The one view that evaluation uses: (B, R, R, 3) uint8 -> (B, crop, crop, 3) normalised.

    R is `view.test_side`, so that an image that is shown whole is resized once, as it is decoded.
    """
    return normalize(center_crop(images, crop=view.crop), view.normalize)


def test_views(view: View, images: jax.Array, tta: str) -> list[jax.Array]:
    """Several views of a test image, the one of `test_view` first (test-time augmentation).

    Args:
        view: as for `test_view`.
        images: (B, R, R, 3) uint8.
        tta: "flip": it and its mirror image; "five": it and the four corners of the image, as
            torchvision's FiveCrop; "scales": the middle of the image at the sides SCALES, at most
            the whole of it and none twice, resized to the crop.

    Returns:
        V arrays (B, crop, crop, 3), normalised.
    """
    first = test_view(view, images)
    if tta == "flip":
        return [first, first[:, :, ::-1]]
    if tta == "five":
        near, far = slice(view.crop), slice(images.shape[1] - view.crop, None)
        corners = [images[:, y, x] for y in (near, far) for x in (near, far)]
        return [first, *(test_view(view, each) for each in corners)]
    if tta == "scales":
        sides = dict.fromkeys(min(round(view.crop * s), images.shape[1]) for s in SCALES)
        middles = [resized(center_crop(images, crop=side), view.crop) for side in sides]
        return [normalize(each, view.normalize) for each in middles]
    return [first]


def random_crop(
    keys: jax.Array, images: jax.Array, *, crop: int, pad: int, flip: bool
) -> jax.Array:
    """Pad with black, crop at a uniformly random place, mirror every second image (KT's recipe).

    Args:
        keys: (B,) from `image_keys`.
        images: (B, R, R, 3) uint8.
        crop: side of the result, at most R + 2 * pad.
        pad: pixels of black on every side.
        flip: whether to mirror at all.

    Returns:
        (B, crop, crop, 3) float32 in [0, 1].
    """
    last = images.shape[1] + 2 * pad - crop

    def one(key, image):
        place, mirror = jax.random.split(key)
        y, x = jax.random.randint(place, (2,), 0, last + 1)
        image = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)))
        image = lax.dynamic_slice(image, (y, x, 0), (crop, crop, 3))
        return jnp.where(flip & jax.random.bernoulli(mirror), image[:, ::-1], image)

    return jax.vmap(one)(keys, images).astype(jnp.float32) / 255


def random_resized_crop(
    keys: jax.Array,
    images: jax.Array,
    *,
    crop: int,
    area: tuple[float, float],
    ratio: tuple[float, float],
    flip: bool,
) -> jax.Array:
    """A random box of the image, resized to a square, every second one mirrored ("Inception" crops,
    Szegedy et al., arXiv 1409.4842, sec. 6).

    Bilinear, and antialiased where the box is larger than the result, as torchvision's; rows and
    columns are chosen by matrix products, since on a TPU a gathered pixel moves a whole tile.

    Args:
        keys: (B,).
        images: (B, R, R, 3) uint8.
        crop: side of the result.
        area: smallest and largest area of the box, as fractions of the image.
        ratio: smallest and largest width / height of it.
        flip: whether to mirror at all.

    Returns:
        (B, crop, crop, 3) float32 in [0, 1].
    """
    side = images.shape[1]

    def weights(start, length):
        """(crop, R): what each pixel of the result is made of, along one side."""
        step = length * side / crop
        source = start * side + (jnp.arange(crop) + 0.5) * step - 0.5
        apart = jnp.abs(source[:, None] - jnp.arange(side)) / jnp.maximum(step, 1)
        found = jnp.maximum(0, 1 - apart)
        return found / found.sum(1, keepdims=True)

    def one(key, image):
        box_key, mirror_key = jax.random.split(key)
        top, left, height, width = _random_box(box_key, area, ratio)
        rows, columns = weights(top, height), weights(left, width)
        mirrored = flip & jax.random.bernoulli(mirror_key)
        columns = jnp.where(mirrored, columns[::-1], columns)
        return _products(rows, columns, image.astype(jnp.float32) / 255)

    return jax.vmap(one)(keys, images)


def center_crop(images: jax.Array, *, crop: int) -> jax.Array:
    """The middle, as torchvision's CenterCrop: (B, R, R, 3) uint8 -> (B, crop, crop, 3) float32."""
    start = round((images.shape[1] - crop) / 2)
    return images[:, start : start + crop, start : start + crop].astype(jnp.float32) / 255


def resized(images: jax.Array, side: int) -> jax.Array:
    """Squares of another size, bilinear and antialiased: (B, S, S, C) -> (B, side, side, C)."""
    if images.shape[1] == side:
        return images
    return jax.image.resize(images, (len(images), side, side, images.shape[-1]), "linear")


def normalize(images: jax.Array, kind: str) -> jax.Array:
    """(image - mean) / std with the constants that `kind` names in MEAN_STD."""
    mean, std = MEAN_STD[kind]
    return (images - jnp.array(mean)) / jnp.array(std)


# -- operations of stronger views: [0, 1] -> [0, 1] ------------------------------------------------


def random_affine(
    keys: jax.Array,
    images: jax.Array,
    *,
    area: tuple[float, float],
    ratio: tuple[float, float],
    degrees: float,
    flip: bool,
) -> jax.Array:
    """Random resized crop, rotation about its centre and mirror, as one bilinear resampling.

    The angle is uniform, the crop as in `_random_box`, every second image is mirrored. What a
    rotated corner uncovers beyond the image is gray. A crop is never larger than the result, so
    nothing shrinks and needs smoothing first.

    Args:
        keys: (B,).
        images: (B, S, S, 3) in [0, 1].
        area: smallest and largest area of the crop, as fractions of the image.
        ratio: smallest and largest width / height of the crop.
        degrees: largest rotation either way.
        flip: whether to mirror at all.

    Returns:
        (B, S, S, 3) in [0, 1].
    """
    size = images.shape[1]
    offset = (jnp.arange(size) + 0.5) / size - 0.5
    down, right = offset[:, None], offset[None, :]

    def source(key):
        box_key, angle_key, mirror_key = jax.random.split(key, 3)
        top, left, height, width = _random_box(box_key, area, ratio)
        angle = jnp.deg2rad(jax.random.uniform(angle_key, (), jnp.float32, -degrees, degrees))
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        column = jnp.where(flip & jax.random.bernoulli(mirror_key), -right, right)
        source_y = top + height * (0.5 + cos * down + sin * column)
        source_x = left + width * (0.5 - sin * down + cos * column)
        return source_y * size - 0.5, source_x * size - 0.5

    y, x = jax.vmap(source)(keys)  # in pixels, 0 the centre of the first
    inside = (y >= -0.5) & (y <= size - 0.5) & (x >= -0.5) & (x <= size - 0.5)
    steepest = math.radians(min(degrees, 45))
    reach = math.cos(steepest) + math.sin(steepest)
    return jnp.where(inside[..., None], bilinear(images, y, x, reach=reach), GRAY)


def color_jitter(keys: jax.Array, images: jax.Array, *, strength: float) -> jax.Array:
    """Change brightness, then contrast, then saturation, by factors uniform in 1 +- strength.

    The definitions and the clipping after each are torchvision's; its order is random, ours is not.
    """

    def one(key, image):
        factors = jax.random.uniform(key, (3,), jnp.float32, 1 - strength, 1 + strength)
        image = jnp.clip(image * factors[0], 0, 1)
        image = jnp.clip(mix(luma(image).mean(), image, factors[1]), 0, 1)
        return jnp.clip(mix(luma(image), image, factors[2]), 0, 1)

    return jax.vmap(one)(keys, images)


def random_erase(
    keys: jax.Array, images: jax.Array, *, area: tuple[float, float], ratio: tuple[float, float]
) -> jax.Array:
    """Gray out one box per image (Zhong et al., arXiv 1708.04896); area and ratio as in
    `random_affine`. A pixel is erased if its centre lies in the box."""
    centre = (jnp.arange(images.shape[1]) + 0.5) / images.shape[1]

    def one(key, image):
        top, left, height, width = _random_box(key, area, ratio)
        rows = (centre >= top) & (centre < top + height)
        columns = (centre >= left) & (centre < left + width)
        return jnp.where((rows[:, None] & columns)[..., None], GRAY, image)

    return jax.vmap(one)(keys, images)


def gaussian_blur(keys: jax.Array, images: jax.Array) -> jax.Array:
    """Blur by a Gaussian whose deviation is uniform in 0.1 to 2 px (SimCLR's, arXiv 2002.05709,
    app. A): (B,) keys, (B, S, S, 3) in [0, 1] -> the same.

    As products with S x S weights, which sum to 1 in each row, also at the border.
    """
    place = jnp.arange(images.shape[1], dtype=jnp.float32)
    distances = jnp.square(place[:, None] - place)

    def one(key, image):
        deviation = jax.random.uniform(key, (), jnp.float32, 0.1, 2.0)
        weights = jax.nn.softmax(-distances / (2 * jnp.square(deviation)))
        return _products(weights, weights, image)

    return jax.vmap(one)(keys, images)


def sometimes(
    change: Callable[[jax.Array, jax.Array], jax.Array],
    keys: jax.Array,
    images: jax.Array,
    *,
    chance: float,
) -> jax.Array:
    """Change some images: `change` of (keys, images), each of them with that chance."""

    def coin(key):
        own, key = jax.random.split(key)
        return jax.random.bernoulli(own, chance), key

    chosen, keys = jax.vmap(coin)(keys)
    return jnp.where(chosen[:, None, None, None], change(keys, images), images)


def patch_shuffle(keys: jax.Array, images: jax.Array, *, grid: int) -> jax.Array:
    """Cut every image into grid x grid patches and put them together in a random order.

    Raises ArgumentError when the patches do not tile the image.
    """
    size = images.shape[1]
    if size % grid:
        raise ArgumentError(
            f"`images`: {size}x{size} px do not divide into {grid}x{grid} patches, "
            f"choose a multiple of `grid` {grid}"
        )
    side = size // grid

    def one(key, image):
        patches = image.reshape(grid, side, grid, side, 3).swapaxes(1, 2)
        patches = jax.random.permutation(key, patches.reshape(grid * grid, side, side, 3))
        patches = patches.reshape(grid, grid, side, side, 3)
        return patches.swapaxes(1, 2).reshape(image.shape)

    return jax.vmap(one)(keys, images)


def _products(rows: jax.Array, columns: jax.Array, image: jax.Array) -> jax.Array:
    """Rows and columns of an image made anew of the old ones: weights (h, H), (w, W) with a sum of
    1 in each row, (H, W, C) in [0, 1] -> (h, w, C) in [0, 1]."""
    (height, old, channels), width = image.shape, len(columns)
    exactly = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    # Plain matrices: with the channels as an axis of their own a TPU's compiler takes minutes.
    image = exactly(rows, image.reshape(height, old * channels)).reshape(-1, old, channels)
    image = exactly(image.swapaxes(1, 2).reshape(-1, old), columns.T)
    image = image.reshape(-1, channels, width).swapaxes(1, 2)
    return jnp.clip(image, 0, 1)  # but for rounding


def _random_box(key: jax.Array, area, ratio) -> tuple[jax.Array, ...]:
    """(top, left, height, width) of a random box in a square, as fractions of its side.

    The area is uniform; width / height is uniform in its logarithm among the ratios at which a box
    of that area fits in (torchvision draws again until it fits); so is the place.
    """
    area_key, ratio_key, place_key = jax.random.split(key, 3)
    size = jax.random.uniform(area_key, (), jnp.float32, *area)
    low, high = jnp.log(jnp.maximum(ratio[0], size)), jnp.log(jnp.minimum(ratio[1], 1 / size))
    shape = jnp.exp(jax.random.uniform(ratio_key, (), jnp.float32, low, high))
    height, width = jnp.minimum(jnp.sqrt(size / shape), 1), jnp.minimum(jnp.sqrt(size * shape), 1)
    top, left = jax.random.uniform(place_key, (2,)) * (1 - jnp.stack([height, width]))
    return top, left, height, width
