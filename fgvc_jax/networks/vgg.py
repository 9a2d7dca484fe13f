"""VGG: Simonyan and Zisserman, arXiv 1409.1556. Module names are torchvision's, `_` for `.`."""

import math
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax

from fgvc_jax.networks.kernels.pooling import max_pool
from fgvc_jax.networks.layers import BatchNorm, Conv, Dtype, conv_norm
from fgvc_jax.utils.errors import ArgumentError


class VGG(nn.Module):
    """Images (B,H,W,3), normalised -> taps `stage2` ... `stage5`, (B,h,w,C) in `dtype`.

    `widths` are those of the 3x3 convolutions in each of the five stages, `pools` the sizes of the
    max pools (window and stride; 1 for none) that end them. The taps are what comes out of the
    pools, so `stage5` is torchvision's `features`; pools of 2 put them at strides 4, 8, 16, 32.

    It can be run up to a stage and on from it, see `fgvc_jax.networks`; the state between is the
    stage's map.

    Raises ArgumentError for images that the pools would shrink to nothing.
    """

    widths: Sequence[Sequence[int]]
    pools: Sequence[int]
    batch_norm: bool
    dtype: Dtype
    batch_norm_groups: int

    pooling = "avg"

    @nn.compact
    def __call__(
        self,
        x: jax.Array | Mapping[str, jax.Array],
        train: bool,
        after: str = "",
        until: str = "stage5",
        keys: jax.Array | None = None,
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        del keys  # no stochastic depth
        if isinstance(x, Mapping):
            x = x["map"].astype(self.dtype)
        else:
            self._check(x.shape[1:3])

        taps, index = {}, 0  # index: where torchvision's Sequential has the layer
        for stage, (widths, pool) in enumerate(zip(self.widths, self.pools, strict=True), start=1):
            tap, runs = f"stage{stage}", after < f"stage{stage}" <= until
            for features in widths:
                name, norm_name = f"features_{index}", f"features_{index + 1}"
                if runs:
                    conv = Conv(features, 3, 1, 1, True, self.dtype, name=name)
                    if self.batch_norm:
                        norm = BatchNorm(self.batch_norm_groups, self.dtype, name=norm_name)
                        x = conv_norm(conv, norm, x, train)
                    else:
                        x = conv(x)
                    x = nn.relu(x)
                index += 3 if self.batch_norm else 2
            if runs and pool > 1:
                x = max_pool(x, pool, pool, 0)
            index += pool > 1
            if runs and tap != "stage1":
                taps[tap] = x
        return taps, {"map": x}

    def _check(self, size: Sequence[int]) -> None:
        height, width = size
        smallest = math.prod(self.pools)
        if min(height, width) < smallest:
            raise ArgumentError(
                f"`images`: {height}x{width} px are too small for this VGG, "
                f"its pools need at least {smallest} px"
            )
