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

from functools import partial

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
    return lax.dynamic_update_slice(images, inner, (0, 1, 1, 0))


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
    highest level. A TPU counts and looks up by products, where no single number is gathered.
    """

    def flattened(levels, count, look_up):
        def channel(levels):
            counts = count(levels)
            below = jnp.cumsum(counts) - counts
            step = jnp.max(jnp.where(counts > 0, below, 0)) // 255
            spread = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255)
            return look_up(jnp.where(step > 0, spread, jnp.arange(256)), levels)

        channels = levels.reshape(len(levels), -1, levels.shape[-1])
        return jax.vmap(jax.vmap(channel, 1, 1))(channels).reshape(levels.shape) / 255

    return lax.platform_dependent(
        _levels(images),
        tpu=partial(flattened, count=_count_by_products, look_up=_look_up_by_products),
        default=partial(flattened, count=partial(jnp.bincount, length=256), look_up=jnp.take),
    )


def _levels(images: jax.Array) -> jax.Array:
    """[0, 1] -> the nearest of 0 to 255, int32."""
    return jnp.floor(images * 255 + 0.5).astype(jnp.int32)


def _halves(levels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(N,) levels -> their upper and lower four bits, each (N, 16) bfloat16 with a single 1."""
    upper, lower = (jax.nn.one_hot(x, 16, dtype=jnp.bfloat16) for x in divmod(levels, 16))
    return upper, lower


def _count_by_products(levels: jax.Array) -> jax.Array:
    """(N,) int32 of 0 to 255 -> (256,) int32, how many there are of each."""
    upper, lower = _halves(levels)
    counts = jnp.einsum("ni,nj->ij", upper, lower, preferred_element_type=jnp.float32)
    return counts.astype(jnp.int32).ravel()  # exact below 2 ** 24


def _look_up_by_products(table: jax.Array, levels: jax.Array) -> jax.Array:
    """(256,) int32 of 0 to 255, which bfloat16 holds exactly, at (N,) places -> (N,) int32."""
    upper, lower = _halves(levels)
    rows = jnp.matmul(upper, table.reshape(16, 16).astype(jnp.bfloat16))
    return jnp.sum(rows * lower, axis=1).astype(jnp.int32)


def luma(images: jax.Array) -> jax.Array:
    """The gray of a pixel: (..., 3) -> (..., 1)."""
    return jnp.sum(images * jnp.array(LUMA), axis=-1, keepdims=True)
