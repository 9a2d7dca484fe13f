"""Networks: images -> taps (named feature maps) -> outputs (logits and pooled features).

`create` builds one by name. Its variables are
`{"params": {"backbone": ..., "heads": {name: ...}}, "batch_stats": ...}`.
"""

import difflib
from collections.abc import Callable, Mapping
from functools import partial

import flax.linen as nn
import jax

from fgvc_jax.errors import UserError
from fgvc_jax.networks.flash import Attend, attend
from fgvc_jax.networks.heads import Heads
from fgvc_jax.networks.layers import Dtype
from fgvc_jax.networks.resnet import BasicBlock, Bottleneck, ResNet
from fgvc_jax.networks.vgg import VGG
from fgvc_jax.networks.vit import VisionTransformer


class Network(nn.Module):
    """A backbone and its heads, separable: Grad-CAM is a gradient through `outputs` alone."""

    backbone: nn.Module
    heads: Heads

    def taps(self, images: jax.Array, train: bool) -> dict[str, jax.Array]:
        """Normalised images (B,H,W,3) -> `stage2` ... `stage5` (B,h,w,C) in the compute dtype.

        A transformer adds its class token as `token` (B,C).
        """
        return self.backbone(images, train)

    def outputs(self, taps: Mapping[str, jax.Array], train: bool) -> dict[str, jax.Array]:
        """Taps -> float32 logits (B,K) of every head by name, and `features` (B,C)."""
        return self.heads(taps, train)

    def __call__(
        self, images: jax.Array, train: bool
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """Images -> (taps, outputs)."""
        taps = self.taps(images, train)
        return taps, self.outputs(taps, train)


def _resnet(block: Callable[..., nn.Module], *depths: int) -> Callable[..., nn.Module]:
    widths, strides = (64, 128, 256, 512), (1, 2, 2, 2)
    return partial(ResNet, block=block, depths=depths, widths=widths, strides=strides, stem_size=7)


def _vgg(*depths: int, batch_norm: bool) -> Callable[..., nn.Module]:
    widths = tuple((w,) * n for w, n in zip((64, 128, 256, 512, 512), depths, strict=True))
    return partial(VGG, widths=widths, pools=(2, 2, 2, 2, 2), batch_norm=batch_norm)


def _vit(*, patch: int, width: int, depth: int, heads: int) -> Callable[..., nn.Module]:
    def build(dtype: Dtype, batch_norm_groups: int) -> nn.Module:
        del batch_norm_groups  # layer norms only
        return VisionTransformer(patch, width, depth, heads, dtype)

    return build


_bottleneck = partial(Bottleneck, stride_first=False)
_bottleneck_v1 = partial(Bottleneck, stride_first=True)
_small_resnet = partial(
    ResNet, block=BasicBlock, depths=(1, 1, 1, 1), strides=(2, 2, 1, 1), stem_size=3
)

# Each builds a backbone from dtype and batch_norm_groups. The taps have strides 4, 8, 16, 32, those
# of the transformers 16, unless said otherwise. resnet_small is for the embedded data on two cores,
# the micro networks are for tests at 32 px.
_BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "resnet18": _resnet(BasicBlock, 2, 2, 2, 2),
    "resnet34": _resnet(BasicBlock, 3, 4, 6, 3),
    "resnet50": _resnet(_bottleneck, 3, 4, 6, 3),
    "resnet101": _resnet(_bottleneck, 3, 4, 23, 3),
    "resnet50_v1": _resnet(_bottleneck_v1, 3, 4, 6, 3),
    "resnet101_v1": _resnet(_bottleneck_v1, 3, 4, 23, 3),
    "resnet_small": partial(_small_resnet, widths=(32, 64, 96, 128)),  # strides 4, 8, 8, 8
    "resnet_micro": partial(_small_resnet, widths=(4, 8, 8, 16)),  # strides 4, 8, 8, 8
    "vgg16": _vgg(2, 2, 3, 3, 3, batch_norm=False),
    "vgg16_bn": _vgg(2, 2, 3, 3, 3, batch_norm=True),
    "vgg19": _vgg(2, 2, 4, 4, 4, batch_norm=False),
    "vgg19_bn": _vgg(2, 2, 4, 4, 4, batch_norm=True),
    "vgg_micro": partial(  # strides 4, 8, 8, 8
        VGG, widths=((4,), (8,), (8,), (16,), (16,)), pools=(2, 2, 2, 1, 1), batch_norm=True
    ),
    "vit_b16": _vit(patch=16, width=768, depth=12, heads=12),
    "vit_s16": _vit(patch=16, width=384, depth=12, heads=6),
    "vit_micro": _vit(patch=8, width=16, depth=4, heads=2),  # strides 8
}

NAMES = tuple(_BACKBONES)


def create(
    name: str,
    *,
    heads: Mapping[str, nn.Module],
    dtype: Dtype,
    batch_norm_groups: int,
    attention: Attend = attend,
) -> Network:
    """The network called `name` (one of NAMES) with `heads`, e.g. {"logits": KTHead(...)}.

    `dtype` is the compute dtype of the backbone. `batch_norm_groups` applies to backbone and heads.
    `attention` is how a transformer attends: `flash.attention_on` makes the one that is best on
    given devices. Raises UserError for an unknown name.
    """
    if name not in _BACKBONES:
        close = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(NAMES)}"
        raise UserError(f"unknown network {name!r}: {hint}")
    constructors = {
        key: partial(head.clone, name=key, batch_norm_groups=batch_norm_groups)
        for key, head in heads.items()
    }
    backbone = _BACKBONES[name](dtype=dtype, batch_norm_groups=batch_norm_groups)
    if isinstance(backbone, VisionTransformer):
        backbone = backbone.clone(attend=attention)
    return Network(backbone=backbone, heads=Heads(constructors))
