"""EfficientNet-Lite: Tan and Le, arXiv 1905.11946, without squeeze-and-excitation and with ReLU6,
as its authors made it for small devices. Module names are timm's, with `_` for `.`.
"""

import re
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from fgvc_jax.networks.layers import BatchNorm, Conv, DepthwiseConv, Dtype, conv_norm

# Of the seven groups of blocks: how much wider a block is inside, size and first stride of its
# depthwise convolution. The taps are the maps of each stride behind its last group.
EXPANSIONS = (1, 6, 6, 6, 6, 6, 6)
SIZES = (3, 3, 5, 3, 5, 5, 3)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
GROUPS = {"stage2": (0, 1), "stage3": (2,), "stage4": (3, 4), "stage5": (5, 6)}
EPSILON = 1e-3  # of the batch norms


@jax.custom_vjp
def relu6(x: jax.Array) -> jax.Array:
    """min(max(x, 0), 6), whose gradient is zero at both ends, as torch's.

    It takes its mask from the result, which the convolution behind keeps anyway: so what was before
    need neither be kept nor computed again.
    """
    return jnp.clip(x, 0, 6)


def _relu6_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = relu6(x)
    return y, y


def _relu6_backward(y: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    return (jnp.where((y > 0) & (y < 6), dy, 0),)


relu6.defvjp(_relu6_forward, _relu6_backward)


class Block(nn.Module):
    """Inverted residual: a 1x1 convolution widens, a depthwise one filters, a 1x1 narrows again:
    (B,H,W,I) -> (B,h,w,width), h the least integer >= H/stride; with a shortcut where input and
    output are alike. With an `expansion` of 1 nothing widens.
    """

    width: int
    expansion: int
    size: int
    stride: int
    dtype: Dtype
    batch_norm_groups: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def norm(name):
            return BatchNorm(self.batch_norm_groups, self.dtype, EPSILON, name=name)

        def pointwise(features, name):
            return Conv(features, 1, 1, 0, use_bias=False, dtype=self.dtype, name=name)

        widens = self.expansion > 1
        filters = DepthwiseConv(self.size, self.dtype, self.stride, use_bias=False, name="conv_dw")
        y = x
        if widens:
            wide = pointwise(x.shape[-1] * self.expansion, "conv_pw")
            y = relu6(conv_norm(wide, norm("bn1"), y, train))
        y = relu6(conv_norm(filters, norm("bn2" if widens else "bn1"), y, train))
        narrow = pointwise(self.width, "conv_pwl" if widens else "conv_pw")
        y = conv_norm(narrow, norm("bn3" if widens else "bn2"), y, train)
        return x + y if x.shape == y.shape else y


class EfficientNet(nn.Module):
    """Images (B,H,W,3), normalised -> taps `stage2` ... `stage5`, (B,h,w,C) in `dtype`.

    `depths`, `widths` and `strides` are those of the seven groups of blocks, `stem` and `head` the
    widths of the convolutions around them. The taps of the published have strides 4, 8, 16, 32, of
    sizes rounded up: borders are padded as TensorFlow's SAME. `stage5` is behind the head's
    convolution and its ReLU6, so that it is positive, as attention maps need it.

    It can be run up to a stage and on from it, see `fgvc_jax.networks`; the state between is the
    stage's map.
    """

    depths: Sequence[int]
    widths: Sequence[int]
    stem: int
    head: int
    dtype: Dtype
    batch_norm_groups: int
    strides: Sequence[int] = STRIDES

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

        def end(
            x: jax.Array, features: int, size: int, stride: int, names: tuple[str, str]
        ) -> jax.Array:
            conv = Conv(features, size, stride, "SAME", False, self.dtype, name=names[0])
            norm = BatchNorm(self.batch_norm_groups, self.dtype, EPSILON, name=names[1])
            return relu6(conv_norm(conv, norm, x, train))

        if isinstance(x, Mapping):
            x = x["map"].astype(self.dtype)
        else:
            x = end(x, self.stem, 3, 2, ("conv_stem", "bn1"))

        taps = {}
        for tap, groups in GROUPS.items():
            if not after < tap <= until:
                continue
            for group in groups:
                for i in range(self.depths[group]):
                    x = Block(
                        width=self.widths[group],
                        expansion=EXPANSIONS[group],
                        size=SIZES[group],
                        stride=self.strides[group] if i == 0 else 1,
                        dtype=self.dtype,
                        batch_norm_groups=self.batch_norm_groups,
                        name=f"blocks_{group}_{i}",
                    )(x, train)
            if tap == "stage5":
                x = end(x, self.head, 1, 1, ("conv_head", "bn2"))
            taps[tap] = x
        return taps, {"map": x}


# -- names of lukemelas' EfficientNet-PyTorch ------------------------------------------------------

_ENDS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_WIDENING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def timm_names(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """{name in a file of EfficientNet-PyTorch: timm's}, of those with one; `shapes` are the file's.

    There the blocks are counted through; a group of them ends where their width changes.
    """
    narrowing = re.compile(r"_blocks\.(\d+)\._project_conv\.weight")
    widths = {int(m[1]): shapes[name][:1] for name in shapes if (m := narrowing.fullmatch(name))}
    blocks: dict[int, str] = {}
    group, place, before = -1, 0, None
    for number, width in sorted(widths.items()):
        group, place = (group, place + 1) if width == before else (group + 1, 0)
        blocks[number], before = f"blocks.{group}.{place}", width

    found = {}
    for name in shapes:
        path, _, leaf = name.rpartition(".")
        block, _, module = path.rpartition(".")
        counted = re.fullmatch(r"_blocks\.(\d+)", block)
        if counted and int(counted[1]) in blocks:
            widens = f"{block}._expand_conv.weight" in shapes
            known, start = _WIDENING if widens else _PLAIN, f"{blocks[int(counted[1])]}."
        else:
            known, start = ({} if block else _ENDS), ""
        if module in known:
            found[name] = f"{start}{known[module]}.{leaf}"
    return found
