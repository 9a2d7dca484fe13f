"""Augmentation on the device: pure functions of (seed, view, image id).

The same view of the same image can be computed again at any time, for any member of an ensemble,
in a batch of any size on any number of devices. Images are (B, H, W, 3); `random_crop`
and `center_crop` make float32 in [0, 1] of uint8, and `normalize` is the last thing done to
an image. Between them stand the operations of stronger views, on squares (B, S, S, 3) in [0, 1].
What those hide or uncover is mid-gray: about zero once normalised, as torchvision's erasing.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from fgvc_jax.data.sampling import bilinear, mix
from fgvc_jax.data.view import View
from fgvc_jax.utils.errors import ArgumentError

MEAN_STD = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "tensorflow": ((127 / 255,) * 3, (128 / 255,) * 3),  # of its authors' EfficientNet-Lite
}
GRAY = 0.5
LUMA = (0.299, 0.587, 0.114)  # of red, green, blue (ITU-R BT.601), as in Pillow and torchvision


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


def folded(keys: jax.Array, number: jax.Array) -> jax.Array:
    """(B,) keys with a number (scalar int) folded into each."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, number)


def training_view(view: View, keys: jax.Array, images: jax.Array) -> jax.Array:
    """What `view` shows in training: (B,) keys, (B, R, R, 3) uint8 -> (B, crop, crop, 3) in [0, 1].

    It is not yet normalised, since objectives change it further.
    """
    return random_crop(keys, images, crop=view.crop, pad=view.pad, flip=view.flip)


def test_view(view: View, images: jax.Array) -> jax.Array:
    """The one view that evaluation uses: (B, R, R, 3) uint8 -> (B, crop, crop, 3) normalised.

    R is `view.test_side`, so that an image that is shown whole is resized once, as it is decoded.
    """
    return normalize(center_crop(images, crop=view.crop), view.normalize)


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
        image = jnp.clip(mix(_luma(image).mean(), image, factors[1]), 0, 1)
        return jnp.clip(mix(_luma(image), image, factors[2]), 0, 1)

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


def _luma(image: jax.Array) -> jax.Array:
    return jnp.sum(image * jnp.array(LUMA), axis=-1, keepdims=True)
