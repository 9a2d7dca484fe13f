"""ConvNeXt: Liu et al., arXiv 2201.03545. Module names are timm's, with `_` for `.`."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax

from fgvc_jax.networks.layers import (
    Conv,
    DepthwiseConv,
    Dtype,
    LayerNorm,
    Mlp,
    normal,
    stages,
    stochastic_depth,
)
from fgvc_jax.utils.errors import ArgumentError


class Block(nn.Module):
    """7x7 depthwise convolution, layer norm and MLP beside a shortcut: (B,H,W,C) -> (B,H,W,C).

    `gamma` scales the branch, almost to nothing at the start. `number` and `rate` are those of
    `stochastic_depth`.
    """

    dtype: Dtype
    number: int
    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        y = DepthwiseConv(7, self.dtype, name="conv_dw")(x)
        y = Mlp(self.dtype, name="mlp")(LayerNorm(self.dtype, name="norm")(y))
        gamma = self.param("gamma", nn.initializers.constant(1e-6), x.shape[-1:])
        return x + stochastic_depth(y * gamma.astype(self.dtype), keys, self.rate, self.number)


class Stage(nn.Module):
    """Halves the map unless it is the `first`, then blocks: (B,H,W,I) -> (B,h,w,width).

    `number` is that of the first block; `rates` are the blocks' of `stochastic_depth`.
    """

    width: int
    first: bool
    dtype: Dtype
    number: int
    rates: Sequence[float]

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        if not self.first:
            x = LayerNorm(self.dtype, name="downsample_0")(x)
            x = Conv(self.width, 2, 2, 0, True, self.dtype, normal, name="downsample_1")(x)
        for i, rate in enumerate(self.rates):
            x = Block(self.dtype, self.number + i, rate, name=f"blocks_{i}")(x, keys)
        return x


class ConvNeXt(nn.Module):
    """Images (B,H,W,3), normalised -> taps `stage2` ... `stage5`, (B,h,w,C) in `dtype`.

    `depths` and `widths` are those of the four stages. The stem divides the image into patches of
    so many px, 4 in all published ones, so that the taps have strides 4, 8, 16, 32. The published
    networks classify the average of `stage5` behind a layer norm, which is the head's here.

    `stochastic_depth` is the last block's chance of being left out for an image, growing evenly
    from 0 at the first. It can be run up to a stage and on from it, see `fgvc_jax.networks`; the
    state between is the stage's map.

    Raises ArgumentError for images that would shrink to nothing.
    """

    depths: Sequence[int]
    widths: Sequence[int]
    dtype: Dtype
    patch: int = 4
    stochastic_depth: float = 0.0

    pooling = "norm"

    @property
    def layers(self) -> int:
        """Number of layers for layer-wise learning rates, without the heads."""
        return 4 + -(-self.depths[2] // 3)

    def layer(self, path: Sequence[str]) -> int:
        """In which of them a parameter is, as the authors count: 0 the stem, 1 and 2 the first two
        stages, then three blocks at a time of the third, and the last."""
        if path[0].startswith("stem_"):
            return 0
        stage, part = int(path[0].removeprefix("stages_")), path[1]
        if stage == 2 and part.startswith("blocks_"):
            return 3 + int(part.removeprefix("blocks_")) // 3
        return stage + 1 if stage < 3 else self.layers - 1

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
        else:
            self._check(x.shape[1:3])
            size = self.patch
            x = Conv(self.widths[0], size, size, 0, True, self.dtype, normal, name="stem_0")(x)
            x = LayerNorm(self.dtype, name="stem_1")(x)

        taps = {}
        for stage, tap, first, rates in stages(self.depths, self.stochastic_depth, after, until):
            width, name = self.widths[stage], f"stages_{stage}"
            make = Stage(width, stage == 0, self.dtype, first, rates, name=name)
            taps[tap] = x = make(x, keys)
        return taps, {"map": x}

    def _check(self, size: Sequence[int]) -> None:
        height, width = size
        smallest = 8 * self.patch
        if min(height, width) < smallest:
            raise ArgumentError(
                f"`images`: {height}x{width} px are too small for this ConvNeXt, "
                f"it needs at least {smallest} px"
            )
