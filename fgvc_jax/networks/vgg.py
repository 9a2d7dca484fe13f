"""VGG: Simonyan and Zisserman, arXiv 1409.1556. Module names are torchvision's, `_` for `.`."""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax

from fgvc_jax.errors import UserError
from fgvc_jax.networks.kernels import max_pool
from fgvc_jax.networks.layers import BatchNorm, Conv, Dtype


class VGG(nn.Module):
    """Images (B,H,W,3), normalised -> taps `stage2` ... `stage5`, (B,h,w,C) in `dtype`.

    `widths` are those of the 3x3 convolutions in each of the five stages, `pools` the sizes of the
    max pools (window and stride; 1 for none) that end them. The taps are what comes out of the
    pools, so `stage5` is torchvision's `features`; pools of 2 put them at strides 4, 8, 16, 32.

    Raises UserError for images that the pools would shrink to nothing.
    """

    widths: Sequence[Sequence[int]]
    pools: Sequence[int]
    batch_norm: bool
    dtype: Dtype
    batch_norm_groups: int

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> dict[str, jax.Array]:
        height, width = images.shape[1:3]
        smallest = math.prod(self.pools)
        if min(height, width) < smallest:
            raise UserError(
                f"images of {height}x{width} px are too small for this VGG: "
                f"its pools need at least {smallest} px (data.crop)"
            )

        x, taps, index = images, {}, 0  # index: where torchvision's Sequential has the layer
        for stage, (widths, pool) in enumerate(zip(self.widths, self.pools, strict=True), start=1):
            for features in widths:
                x = Conv(features, 3, 1, 1, True, self.dtype, name=f"features_{index}")(x)
                if self.batch_norm:
                    index += 1
                    norm = BatchNorm(self.batch_norm_groups, self.dtype, name=f"features_{index}")
                    x = norm(x, train)
                x = nn.relu(x)
                index += 2
            if pool > 1:
                x = max_pool(x, pool, pool, 0)
                index += 1
            taps[f"stage{stage}"] = x
        del taps["stage1"]
        return taps
