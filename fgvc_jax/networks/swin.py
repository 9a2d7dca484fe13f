"""Swin transformer: Liu et al., arXiv 2103.14030. Module names are timm's, with `_` for `.`."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fgvc_jax.networks.kernels.platforms import precision
from fgvc_jax.networks.layers import (
    QKV,
    Dtype,
    LayerNorm,
    Mlp,
    PatchEmbed,
    dense,
    normal,
    stages,
    stochastic_depth,
)
from fgvc_jax.utils.errors import ArgumentError

WINDOWS = 8  # on a side of stage2's map: 7x7 at 224 px, 12x12 at 384 px, as published
EPSILON = 1e-5  # of the layer norms


def divide(x: jax.Array, window: int) -> jax.Array:
    """(B,H,W,C) -> (B, windows, window * window, C), row by row."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // window, window, width // window, window, channels)
    return x.swapaxes(2, 3).reshape(batch, -1, window * window, channels)


def join(windows: jax.Array, height: int, width: int) -> jax.Array:
    """(B, windows, window * window, C) -> (B,H,W,C): the inverse of `divide`."""
    batch, _, area, channels = windows.shape
    window = round(area**0.5)
    x = windows.reshape(batch, height // window, width // window, window, window, channels)
    return x.swapaxes(2, 3).reshape(batch, height, width, channels)


def relative_places(window: int) -> np.ndarray:
    """(T,T) int: where the bias of a query and a key of a window is in the table."""
    places = np.indices((window, window)).reshape(2, -1)
    rows, columns = places[:, :, None] - places[:, None, :] + window - 1
    return rows * (2 * window - 1) + columns


def neighbours(height: int, width: int, window: int, shift: int) -> np.ndarray:
    """(windows, T) int: positions of a window may see each other where these numbers are equal.

    Shifted by so many positions, the map's end and its beginning share windows.
    """

    def parts(side):
        place = np.arange(side)
        return (place >= side - window).astype(int) + (place >= side - shift)

    part = 3 * parts(height)[:, None] + parts(width)
    return np.asarray(divide(part[None, :, :, None], window))[0, :, :, 0]


class WindowAttention(nn.Module):
    """Multi-head self-attention in windows: (B,windows,T,C) -> the same.

    `apart`, as `neighbours` makes it, keeps positions from each other; None lets all of a window
    see each other. A window is small: its (T,T) matrices are written.
    """

    heads: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array, apart: np.ndarray | None) -> jax.Array:
        area, width = x.shape[2:]
        window = round(area**0.5)
        shape = ((2 * window - 1) ** 2, self.heads)
        table = self.param("relative_position_bias_table", normal, shape)
        bias = jnp.moveaxis(table[relative_places(window)], -1, 0)  # (heads,T,T)
        if apart is not None:
            parts = jnp.asarray(apart)
            strangers = parts[:, None, :, None] != parts[:, None, None, :]
            bias = bias + jnp.where(strangers, -100.0, 0.0)  # (windows,heads,T,T)

        q, k, v = QKV(self.heads, self.dtype, name="qkv")(x)
        exact = precision(self.dtype)
        scores = jnp.einsum("bwqhd,bwkhd->bwhqk", q * q.shape[-1] ** -0.5, k, precision=exact)
        weights = nn.softmax(scores.astype(jnp.float32) + bias).astype(self.dtype)
        y = jnp.einsum("bwhqk,bwkhd->bwqhd", weights, v, precision=exact)
        return dense(width, self.dtype, name="proj")(y.reshape(x.shape))


class Block(nn.Module):
    """Attention in windows and MLP, each behind a layer norm and beside a shortcut: (B,H,W,C).

    With `shift` the windows lie half a window further on. `number` counts the network's blocks;
    `rate` is that of `stochastic_depth`, for each of the two branches.
    """

    heads: int
    window: int
    shift: bool
    dtype: Dtype
    number: int
    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        height, width = x.shape[1:3]
        # A map that is one window has none further on.
        shift = self.window // 2 if self.shift and min(height, width) > self.window else 0
        apart = neighbours(height, width, self.window, shift) if shift else None
        y = LayerNorm(self.dtype, EPSILON, name="norm1")(x)
        y = divide(jnp.roll(y, (-shift, -shift), (1, 2)), self.window)
        y = WindowAttention(self.heads, self.dtype, name="attn")(y, apart)
        y = jnp.roll(join(y, height, width), (shift, shift), (1, 2))
        x = x + stochastic_depth(y, keys, self.rate, 2 * self.number)
        y = Mlp(self.dtype, name="mlp")(LayerNorm(self.dtype, EPSILON, name="norm2")(x))
        return x + stochastic_depth(y, keys, self.rate, 2 * self.number + 1)


class Merge(nn.Module):
    """Four neighbours become one position twice as wide: (B,H,W,C) -> (B,H/2,W/2,2C)."""

    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape
        x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
        x = x.transpose(0, 1, 3, 4, 2, 5).reshape(batch, height // 2, width // 2, 4 * channels)
        x = LayerNorm(self.dtype, EPSILON, name="norm")(x)
        return dense(2 * channels, self.dtype, name="reduction", use_bias=False)(x)


class Stage(nn.Module):
    """Halves the map unless it is the `first`, then blocks: (B,H,W,I) -> (B,h,w,C).

    `number` is that of the first block; `rates` are the blocks' of `stochastic_depth`.
    """

    heads: int
    window: int
    first: bool
    dtype: Dtype
    number: int
    rates: Sequence[float]

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        if not self.first:
            x = Merge(self.dtype, name="downsample")(x)
        for i, rate in enumerate(self.rates):
            x = Block(
                self.heads,
                self.window,
                i % 2 == 1,
                self.dtype,
                self.number + i,
                rate,
                name=f"blocks_{i}",
            )(x, keys)
        return x


class SwinTransformer(nn.Module):
    """Images (B,H,W,3), normalised -> taps `stage2` ... `stage5`, (B,h,w,C) in `dtype`.

    `depths` and `heads` are those of the four stages, which begin `width` wide. Patches of so many
    px, 4 in all published ones, put the taps at strides 4, 8, 16, 32; `stage5` is behind the final
    norm. A window is an eighth of `stage2`'s side in all stages, so that the image size fixes the
    tables of relative positions at initialisation; `weights.load_torch` resamples stored ones.

    `stochastic_depth` is the last block's chance, for each of its branches, of being left out for
    an image, growing evenly from 0 at the first. It can be run up to a stage and on from it, see
    `fgvc_jax.networks`; the state between is the stage's map.

    Raises ArgumentError for images that are no square of whole windows, or of another size than at
    init.
    """

    width: int
    depths: Sequence[int]
    heads: Sequence[int]
    dtype: Dtype
    patch: int = 4
    stochastic_depth: float = 0.0

    pooling = "avg"

    @property
    def layers(self) -> int:
        """Number of layers for layer-wise learning rates: the embedding and the blocks."""
        return 1 + sum(self.depths)

    def layer(self, path: Sequence[str]) -> int:
        """In which of them a parameter is, from 0, as SimMIM (arXiv 2111.09886) counts: what merges
        goes with the block before. `layers` is behind."""
        if not path[0].startswith("layers_"):
            return 0 if path[0] == "patch_embed" else self.layers
        before = sum(self.depths[: int(path[0].removeprefix("layers_"))])
        name, _, number = path[1].partition("_")
        return before + 1 + int(number) if name == "blocks" else before

    @nn.compact
    def __call__(
        self,
        x: jax.Array | Mapping[str, jax.Array],
        train: bool,
        after: str = "",
        until: str = "stage5",
        keys: jax.Array | None = None,
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        del train  # no batch statistics; keys are there in training only
        if isinstance(x, Mapping):
            x = x["map"].astype(self.dtype)
            window = x.shape[1] * 2 ** (int(after[-1]) - 2) // WINDOWS
        else:
            window = self._window(x.shape[1:3])
            x = PatchEmbed(self.patch, self.width, self.dtype, EPSILON, name="patch_embed")(x)

        taps = {}
        for stage, tap, first, rates in stages(self.depths, self.stochastic_depth, after, until):
            heads, name = self.heads[stage], f"layers_{stage}"
            make = Stage(heads, window, stage == 0, self.dtype, first, rates, name=name)
            taps[tap] = x = make(x, keys)
        if until == "stage5":
            taps["stage5"] = LayerNorm(self.dtype, EPSILON, name="norm")(x)
        return taps, {"map": x}

    def _window(self, size: Sequence[int]) -> int:
        height, width = size
        unit = WINDOWS * self.patch
        if height != width or height % unit:
            raise ArgumentError(
                f"`images`: {height}x{width} px are no square of whole windows, "
                f"choose a multiple of {unit}"
            )
        window = height // unit
        stage: Mapping[str, Any] | None = self.get_variable("params", "layers_0")
        if stage is not None:
            table = stage["blocks_0"]["attn"]["relative_position_bias_table"]
            built = (round(len(table) ** 0.5) + 1) // 2
            if built != window:
                raise ArgumentError(
                    f"`images`: {height}x{width} px make windows of {window}x{window}, but this "
                    f"Swin transformer was built for {built}x{built}: give it images of "
                    f"{built * unit}x{built * unit} px"
                )
        return window
