"""ResNet: He et al., arXiv 1512.03385. Module names are torchvision's, with `_` for `.`."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import flax.linen as nn
import jax

from fgvc_jax.networks.kernels.activations import add_relu
from fgvc_jax.networks.kernels.pooling import max_pool
from fgvc_jax.networks.layers import BatchNorm, Conv, Dtype, conv_norm


def _conv_norm(
    x: jax.Array,
    train: bool,
    names: tuple[str, str],
    *,
    features: int,
    size: int,
    stride: int,
    dtype: Dtype,
    batch_norm_groups: int,
) -> jax.Array:
    """Convolution without bias, then batch norm; `names` are those of the two submodules."""
    conv, norm = names
    return conv_norm(
        Conv(features, size, stride, size // 2, use_bias=False, dtype=dtype, name=conv),
        BatchNorm(batch_norm_groups, dtype, name=norm),
        x,
        train,
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the shortcut: (B,H,W,I) -> (B,H/stride,W/stride,width)."""

    width: int
    stride: int
    dtype: Dtype
    batch_norm_groups: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        width, stride = self.width, self.stride
        conv = partial(_conv_norm, dtype=self.dtype, batch_norm_groups=self.batch_norm_groups)

        y = conv(x, train, ("conv1", "bn1"), features=width, size=3, stride=stride)
        y = nn.relu(y)
        y = conv(y, train, ("conv2", "bn2"), features=width, size=3, stride=1)
        if stride != 1 or x.shape[-1] != width:
            names = ("downsample_0", "downsample_1")
            x = conv(x, train, names, features=width, size=1, stride=stride)
        return add_relu(x, y)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and the shortcut: (B,H,W,I) -> (B,H/stride,W/stride,4*width).

    The stride sits in the 3x3 (torchvision, "v1.5") or, with `stride_first`, in the first 1x1 (the
    paper, "v1"). Names and shapes are the same in both, but weights of one are wrong in the other.
    """

    width: int
    stride: int
    dtype: Dtype
    batch_norm_groups: int
    stride_first: bool

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        width, stride = self.width, self.stride
        first, second = (stride, 1) if self.stride_first else (1, stride)
        conv = partial(_conv_norm, dtype=self.dtype, batch_norm_groups=self.batch_norm_groups)

        y = conv(x, train, ("conv1", "bn1"), features=width, size=1, stride=first)
        y = nn.relu(y)
        y = conv(y, train, ("conv2", "bn2"), features=width, size=3, stride=second)
        y = nn.relu(y)
        y = conv(y, train, ("conv3", "bn3"), features=4 * width, size=1, stride=1)
        if stride != 1 or x.shape[-1] != 4 * width:
            names = ("downsample_0", "downsample_1")
            x = conv(x, train, names, features=4 * width, size=1, stride=stride)
        return add_relu(x, y)


class ResNet(nn.Module):
    """Images (B,H,W,3), normalised -> taps `stage2` ... `stage5`, (B,h,w,C) in `dtype`.

    `block` builds a block from width, stride, dtype, batch_norm_groups and name; `depths`, `widths`
    and `strides` are those of the four stages. With `stem_size` 7 the stem is the paper's (7x7 of
    stride 2, 3x3 max pool of stride 2), so that strides (1,2,2,2) put the taps at 4, 8, 16, 32.
    With 3 it is a 3x3 convolution of stride 2 alone, for small images.

    It can be run up to a stage and on from it, see `fgvc_jax.networks`; the state between is the
    stage's map.
    """

    block: Callable[..., Callable[[jax.Array, bool], jax.Array]]
    depths: Sequence[int]
    widths: Sequence[int]
    strides: Sequence[int]
    stem_size: int
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
        conv = partial(_conv_norm, dtype=self.dtype, batch_norm_groups=self.batch_norm_groups)
        block = partial(self.block, dtype=self.dtype, batch_norm_groups=self.batch_norm_groups)
        if isinstance(x, Mapping):
            x = x["map"].astype(self.dtype)
        else:
            stem = partial(conv, features=self.widths[0], size=self.stem_size, stride=2)
            y: jax.Array = nn.relu(stem(x, train, ("conv1", "bn1")))
            x = max_pool(y, 3, 2, 1) if self.stem_size == 7 else y

        taps = {}
        stages = zip(self.depths, self.widths, self.strides, strict=True)
        for stage, (depth, width, stride) in enumerate(stages, start=1):
            tap = f"stage{stage + 1}"
            if not after < tap <= until:
                continue
            for i in range(depth):
                step = stride if i == 0 else 1
                x = block(width=width, stride=step, name=f"layer{stage}_{i}")(x, train)
            taps[tap] = x
        return taps, {"map": x}
