"""TrivialAugment: one of fourteen operations on each image, at a random strength.

Mueller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", ICCV 2021,
arXiv 2103.10158: an operation is drawn alike from all, then a strength alike from 0 to 30
thirtieths of its largest, and, where it has one, a sign. Largest strengths are those of the wide
space (the paper's appendix, and the authors' code). What is ours: shears, shifts and rotations are
bilinear, the authors' take the nearest pixel; what they uncover is gray, as in all our
augmentation, and theirs black; what is no operation on 8-bit numbers is not rounded to such.

Shears, shifts and rotations are one affine map, read by `sampling.bilinear`: on a TPU as products
with patches, where no single pixel is gathered. What an operation does is computed for the whole
batch and chosen image by image, since in a batch that is computed at once nothing can be left out.
"""

import jax
import jax.numpy as jnp
from jax import lax

from fgvc_jax.data.sampling import bilinear, mix

GRAY = 0.5
LUMA = (0.299, 0.587, 0.114)  # of red, green, blue (ITU-R BT.601), as in Pillow and torchvision

OPERATIONS = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color",
    "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip
STRENGTHS = 31
# Largest strengths of the wide space.
SHEAR = 0.99
TRANSLATE = 32  # px
ROTATE = 135  # degrees
ENHANCE = 0.99  # relative change of brightness, color, contrast and sharpness
POSTERIZE = 6  # of 8 bits


def trivial_augment(keys: jax.Array, images: jax.Array) -> jax.Array:
    """(B,) keys, (B, S, S, 3) in [0, 1] -> the same, each image by an operation of its own."""

    def draw(key):
        kind, strength, sign = jax.random.split(key, 3)
        signs = jnp.where(jax.random.bernoulli(sign), 1.0, -1.0)
        steps = jax.random.randint(strength, (), 0, STRENGTHS)
        number = jax.random.randint(kind, (), 0, len(OPERATIONS))
        return number, steps / (STRENGTHS - 1), signs

    return operate(images, *jax.vmap(draw)(keys))


def operate(
    images: jax.Array, operation: jax.Array, strength: jax.Array, sign: jax.Array
) -> jax.Array:
    """What TrivialAugment makes of images.

    Args:
        images: (B, S, S, 3) float32 in [0, 1].
        operation: (B,) int, places in OPERATIONS.
        strength: (B,) in [0, 1], of the largest.
        sign: (B,) -1 or 1; shears, shifts, rotations and enhancements read it.

    Returns:
        (B, S, S, 3) float32 in [0, 1].
    """

    def those(*names):
        chosen = jnp.isin(operation, jnp.array([OPERATIONS.index(name) for name in names]))
        return chosen[:, None, None, None]

    amount, signed = (x[:, None, None, None] for x in (strength, strength * sign))
    enhanced = those("brightness", "color", "contrast", "sharpness")
    return jnp.select(
        [
            those("shear_x", "shear_y", "translate_x", "translate_y", "rotate"),
            enhanced,
            those("posterize"),
            those("solarize"),
            those("autocontrast"),
            those("equalize"),
        ],
        [
            moved(images, operation, strength * sign),
            jnp.clip(mix(_plainer(images, those), images, 1 + ENHANCE * signed), 0, 1),
            posterized(images, amount),
            # As the authors': from 256 down, so that the weakest changes nothing.
            jnp.where(images * 255 >= 256 * (1 - amount), 1 - images, images),
            autocontrasted(images),
            equalized(images),
        ],
        images,
    )


def moved(images: jax.Array, operation: jax.Array, signed: jax.Array) -> jax.Array:
    """Shear about the upper left corner, shift, or turn about the middle: (B, S, S, C), (B,) int,
    (B,) signed strength -> (B, S, S, C).

    (y, x) of the result shows (y, x + v y) of the image sheared along x, and so on, as in Pillow.
    """
    size = images.shape[1]
    centre = jnp.arange(size) + 0.5
    down, right = centre[:, None], centre[None, :]

    def source(number, signed):
        def amount(name, largest):
            return jnp.where(number == OPERATIONS.index(name), largest * signed, 0.0)

        angle = jnp.deg2rad(amount("rotate", ROTATE))
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        v, u = down - size / 2, right - size / 2
        y = size / 2 + cos * v + sin * u + amount("shear_y", SHEAR) * right
        x = size / 2 - sin * v + cos * u + amount("shear_x", SHEAR) * down
        return y + amount("translate_y", TRANSLATE) - 0.5, x + amount(
            "translate_x", TRANSLATE
        ) - 0.5

    y, x = jax.vmap(source)(operation, signed)  # in pixels, 0 the centre of the first
    inside = (y >= -0.5) & (y <= size - 0.5) & (x >= -0.5) & (x <= size - 0.5)
    return jnp.where(inside[..., None], bilinear(images, y, x, reach=1 + SHEAR), GRAY)


def _plainer(images: jax.Array, those) -> jax.Array:
    """What an enhancement leads to or away from: black, gray, the mean gray, a smoothed image."""
    gray = luma(images)
    return jnp.select(
        [those("brightness"), those("color"), those("contrast")],
        [jnp.zeros_like(images), jnp.broadcast_to(gray, images.shape),
         jnp.broadcast_to(gray.mean((1, 2), keepdims=True), images.shape)],
        smoothed(images),
    )  # fmt: skip


def smoothed(images: jax.Array) -> jax.Array:
    """Each pixel five times and its eight neighbours once, of 13, as Pillow's SMOOTH; the pixels at
    the border stay."""
    rows = images[:, :-2] + images[:, 1:-1] + images[:, 2:]
    sums = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    inner = (sums + 4 * images[:, 1:-1, 1:-1]) / 13
    return images.at[:, 1:-1, 1:-1].set(inner)


def posterized(images: jax.Array, strength: jax.Array) -> jax.Array:
    """Keep the upper 8 - round(6 * strength) bits."""
    step = jnp.left_shift(1, jnp.round(POSTERIZE * strength).astype(jnp.int32))
    levels = _levels(images)
    return (levels - levels % step) / 255


def autocontrasted(images: jax.Array) -> jax.Array:
    """Stretch each channel from 0 to 1; one that is constant stays."""
    low, high = images.min((1, 2), keepdims=True), images.max((1, 2), keepdims=True)
    varies = high > low
    return jnp.where(varies, (images - low) / jnp.where(varies, high - low, 1), images)


def equalized(images: jax.Array) -> jax.Array:
    """Make the histogram of each channel flat, as Pillow does, on 8-bit numbers.

    A level becomes (step / 2 + pixels below it) / step, where 255 steps are the pixels below the
    highest level.
    """
    levels = _levels(images)
    below = lax.platform_dependent(levels, tpu=_below_by_comparing, default=_below_by_counting)
    step = below.max((1, 2), keepdims=True) // 255
    spread = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255)
    return jnp.where(step > 0, spread, levels) / 255


def _levels(images: jax.Array) -> jax.Array:
    """[0, 1] -> the nearest of 0 to 255, int32."""
    return jnp.floor(images * 255 + 0.5).astype(jnp.int32)


def _below_by_counting(levels: jax.Array) -> jax.Array:
    """(B, H, W, C) int32 of 0 to 255 -> how many pixels of the channel are below each."""

    def channel(values):
        counts = jnp.zeros(256, jnp.int32).at[values].add(1)
        return (jnp.cumsum(counts) - counts)[values]

    flat = levels.reshape(len(levels), -1, levels.shape[-1])
    return jax.vmap(jax.vmap(channel, 1, 1))(flat).reshape(levels.shape)


def _below_by_comparing(levels: jax.Array) -> jax.Array:
    """The same without a table that is read pixel by pixel: 256 comparisons of each."""
    level = jnp.arange(256)
    counts = jnp.sum(levels[..., None] == level, axis=(1, 2), keepdims=True, dtype=jnp.int32)
    return jnp.sum(jnp.where(level < levels[..., None], counts, 0), axis=-1)


def luma(images: jax.Array) -> jax.Array:
    """The gray of a pixel: (..., 3) -> (..., 1)."""
    return jnp.sum(images * jnp.array(LUMA), axis=-1, keepdims=True)
