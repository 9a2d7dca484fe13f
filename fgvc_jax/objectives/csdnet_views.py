"""The two views of CSDNet (SSDP, subcategory-specific discrepancy parsing): how the second is made
of the first, and how a network sees both. See `csdnet`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from fgvc_jax import transfer
from fgvc_jax.objectives.base import Batch, Forward, Tree
from fgvc_jax.utils.errors import ArgumentError
from fgvc_jax.utils.lazy import lazily

if TYPE_CHECKING:
    import jax
    import jax.numpy as jnp
    from flax import linen as nn
    from jax import lax

    from fgvc_jax.data import augment
    from fgvc_jax.networks import Inputs
    from fgvc_jax.networks.weights import Variables
else:
    jax, jnp, nn, lax = map(lazily, ("jax", "jax.numpy", "flax.linen", "jax.lax"))
    augment = lazily("fgvc_jax.data.augment")

# Keeps the view's randomness apart from the raw crop's, whose keys are split off the same key:
# the i-th of them is fold_in(key, i).
SSDP = 0x53534450


class Views(NamedTuple):
    """A network's answers to both views of a batch."""

    taps: dict[str, jax.Array]  # of the raw view
    raw: dict[str, jax.Array]  # outputs
    augmented: dict[str, jax.Array]  # outputs
    shown: Inputs | None  # the augmented view, as the network is given it
    batch_stats: Tree


def viewpoint(
    keys: jax.Array,
    images: jax.Array,
    *,
    crop_area: tuple[float, float],
    rotation: float,
    jitter: float,
    erase_area: tuple[float, float],
    shuffle: int,
    flip: bool,
) -> jax.Array:
    """The same thing seen from elsewhere and, if asked for, partly hidden: SSDP by augmentation.

    Colour jitter, random resized crop with rotation and mirror, one erased box, and a shuffle of
    patches. The aspect ratios are torchvision's. The colours come first, so that the corners
    uncovered by the rotation stay as gray as what is erased.

    Args:
        keys: (B,) of (seed, view, image id), of which the view is a pure function.
        images: (B, S, S, 3) float32 in [0, 1].
        crop_area: smallest and largest area of the crop, as fractions of the image.
        rotation: largest angle either way, in degrees.
        jitter: brightness, contrast and saturation change by factors within 1 +- jitter.
        erase_area: smallest and largest area of the erased box, as fractions of the image.
        shuffle: patches a side, a divisor of S; 1 leaves the image whole.
        flip: whether to mirror at all.

    Returns:
        (B, S, S, 3) float32 in [0, 1].
    """
    keys = jax.vmap(lambda key: jax.random.split(key, 4))(_second_keys(keys))
    images = augment.color_jitter(keys[:, 0], images, strength=jitter)
    images = augment.random_affine(
        keys[:, 1], images, area=crop_area, ratio=(3 / 4, 4 / 3), degrees=rotation, flip=flip
    )
    images = augment.random_erase(keys[:, 2], images, area=erase_area, ratio=(0.3, 3.3))
    return augment.patch_shuffle(keys[:, 3], images, grid=shuffle)


def _second_keys(keys: jax.Array) -> jax.Array:
    """(B,) keys of the second view of the images whose raw view has `keys`."""
    return jax.vmap(lambda key: jax.random.fold_in(key, SSDP))(keys)


def mirror(keys: jax.Array, images: jax.Array, *, flip: bool) -> jax.Array:
    """SSDP off: (B, H, W, 3) mirrored, without randomness; without `flip` as they are.

    Our reading of that ablation. DDL and SSDT compare two views, so there has to be a second one;
    a mirror image is as ordinary as the raw crop, which is mirrored at random itself, and shows no
    discrepancy beyond that. Where raw crops are never mirrored, because left and right distinguish
    classes, the second view is the first. Cost and batch statistics are those of two views, as
    with SSDP.
    """
    return images[:, :, ::-1] if flip else images


def attended_mask(maps: jax.Array, size: int) -> jax.Array:
    """The content-aware mask: where the smoothed attention is above its mean over the image.

    A 3x3 box filter over the positions that exist, bilinear enlargement, then min-max scaling to
    [0, 1]. A constant map, which attends to nothing more than to the rest, keeps everything.

    Args:
        maps: (B, h, w) attention.
        size: side S of the images.

    Returns:
        (B, S, S) bool, True where a pixel is kept. It has no gradient.
    """
    maps = lax.stop_gradient(maps).astype(jnp.float32)[..., None]
    smooth = nn.avg_pool(maps, (3, 3), padding="SAME", count_include_pad=False)[..., 0]
    low, high = smooth.min((1, 2), keepdims=True), smooth.max((1, 2), keepdims=True)
    rounding = 8 * jnp.finfo(jnp.float32).eps * jnp.maximum(jnp.abs(low), jnp.abs(high))
    flat = high - low <= rounding
    scaled = jnp.where(flat, 0.0, (smooth - low) / jnp.where(flat, 1.0, high - low))
    large = jax.image.resize(scaled, (len(maps), size, size), "bilinear")
    return flat | (large > large.mean((1, 2), keepdims=True))


def see_both(forward: Forward, variables: Variables, batch: Batch) -> Views:
    """Both views in one forward pass: batch statistics are those of both together.

    The views of an image lie side by side, so that every device keeps its own images and every
    batch-norm group sees both views.
    """

    def beside(one, other):
        return jnp.stack([one, other], axis=1).reshape(-1, *one.shape[1:])

    def of_view(tree, i):
        return jax.tree.map(lambda x: x.reshape(-1, 2, *x.shape[1:])[:, i], tree)

    images = jax.tree.map(beside, batch.image, batch.second)
    keys = beside(batch.key, _second_keys(batch.key))
    taps, outputs, batch_stats = forward(variables, images, keys)
    return Views(
        of_view(taps, 0), of_view(outputs, 0), of_view(outputs, 1), batch.second, batch_stats
    )


def see_adaptive(forward: Forward, variables: Variables, batch: Batch) -> Views:
    """The raw view, then what it attends to, the rest gray: two passes, each with batch statistics
    of its own; the running statistics take in both."""
    taps, raw, batch_stats = forward(variables, batch.image, batch.key)
    if isinstance(batch.image, Mapping) or "stage5" not in taps:
        raise ArgumentError(
            "`view` adaptive needs images and a network with feature maps (stage5): "
            "take another network, or `view` viewpoint"
        )
    kept = attended_mask(transfer.attention_map(taps["stage5"]), batch.image.shape[1])
    images = jnp.where(kept[..., None], batch.image, augment.GRAY)
    variables = {**variables, "batch_stats": batch_stats}
    _, augmented, batch_stats = forward(variables, images, _second_keys(batch.key))
    return Views(taps, raw, augmented, images, batch_stats)
