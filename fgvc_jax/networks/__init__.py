"""Networks: images -> taps (named feature maps) -> outputs (logits and pooled features).

`create` builds one by name. Its variables are
`{"params": {"backbone": ..., "heads": {name: ...}}, "batch_stats": ...}`.

A backbone is called as `backbone(x, train, after="", until="stage5", keys=None) -> (taps, state)`:
from images, or from the state behind the stage `after`, to the stage `until`. The state is a dict
of arrays with a leading axis of images, "map" among them; `taps` are those on the way. So a network
can have a frozen trunk, which ends with a stage, and members that go on from its features; or one
that is the whole backbone, to which each member adds adapters of its own (`lora`). `keys`
(B,) are the images' random keys of stochastic depth; without them no block is left out.

`pooling` of a backbone is how its authors pool before a linear classifier, see `heads`. One with
`stochastic_depth` takes a rate; one with `layer(path)` knows in which of its `layers` a parameter
is.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from fgvc_jax.networks.convnext import ConvNeXt
from fgvc_jax.networks.efficientnet import EfficientNet
from fgvc_jax.networks.heads import Heads, embedding, pooled
from fgvc_jax.networks.kernels.attention import Attend, attend
from fgvc_jax.networks.layers import Dtype
from fgvc_jax.networks.resnet import BasicBlock, Bottleneck, ResNet
from fgvc_jax.networks.swin import SwinTransformer
from fgvc_jax.networks.vgg import VGG
from fgvc_jax.networks.vit import (
    DINOV2,
    DINOV2_REG,
    DINOV3,
    OPENCLIP,
    SIGLIP2,
    VisionTransformer,
)
from fgvc_jax.utils.errors import ArgumentError

STAGES = ("stage2", "stage3", "stage4", "stage5")
Inputs = jax.Array | Mapping[str, jax.Array]


class Network(nn.Module):
    """A backbone and its heads, separable: Grad-CAM is a gradient through `outputs` alone.

    With a stage as `frozen` the backbone up to there is a trunk that many networks share:
    `features` runs it, and everything else goes on from what it gives, with variables of its own.
    Without one the inputs of everything else are the images. With `frozen_norm` the backbone's
    batch norms are in inference mode while it trains: only their scale and bias learn.

    With adapters (`lora_rank` of the backbone) there is a trunk as well, all the rest of the
    backbone: it is not run by itself, and whoever runs the network gives all variables
    (`lora.joined`).
    """

    backbone: nn.Module
    heads: Heads
    frozen: str = ""
    frozen_norm: bool = False

    @property
    def adapted(self) -> bool:
        """Whether it is a shared trunk with adapters of its own."""
        return bool(getattr(self.backbone, "lora_rank", 0))

    def features(self, images: jax.Array) -> Inputs:
        """Normalised images (B,H,W,3) -> what the frozen trunk makes of them, in inference mode.

        float16, held within its range, whatever is done with it, so that it is the same computed
        now or looked up: the state behind the stage `frozen`, and the taps up to there averaged
        over space (B,1,1,C), which is how heads see intermediate stages. Without a trunk the
        images.
        """
        if not self.frozen:
            return images
        taps, state = self.backbone(images, False, until=self.frozen)
        averaged = {name: pooled(taps, name, "avg")[:, None, None] for name in taps}
        largest = jnp.finfo(jnp.float16).max
        return {
            name: jnp.clip(array.astype(jnp.float32), -largest, largest).astype(jnp.float16)
            for name, array in (state | averaged).items()
        }

    def taps(
        self, inputs: Inputs, train: bool, keys: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Inputs -> `stage2` ... `stage5` (B,h,w,C) in the compute dtype.

        A vision transformer adds its class token as `token` (B,C). The taps of a frozen trunk are
        as `features` has them. `keys` (B,) are those of stochastic depth; None at test.
        """
        training_norms = train and not self.frozen_norm
        taps, _ = self.backbone(inputs, training_norms, after=self.frozen, keys=keys)
        if isinstance(inputs, Mapping):
            taps |= {name: array for name, array in inputs.items() if name in STAGES}
        return taps

    def outputs(self, taps: Mapping[str, jax.Array], train: bool) -> dict[str, jax.Array]:
        """Taps -> float32 logits (B,K) of every head by name, and `features` (B,C)."""
        return self.heads(taps, train)

    def __call__(
        self, inputs: Inputs, train: bool, keys: jax.Array | None = None
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """Inputs -> (taps, outputs); `keys` as for `taps`."""
        taps = self.taps(inputs, train, keys)
        return taps, self.outputs(taps, train)

    def embedded(self, taps: Mapping[str, jax.Array], tap: str = "") -> jax.Array:
        """Taps -> the float32 vectors (B,C) that the main head sees, or of another tap, see
        `heads.embedding`."""
        return embedding(self.heads.constructors["logits"](parent=None), taps, tap)

    def whole(
        self, images: jax.Array, train: bool
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """Normalised images -> (taps, outputs), with or without a trunk."""
        return self(self.features(images), train)


def _resnet(block: Callable[..., nn.Module], *depths: int) -> partial:
    widths, strides = (64, 128, 256, 512), (1, 2, 2, 2)
    return partial(ResNet, block=block, depths=depths, widths=widths, strides=strides, stem_size=7)


def _vgg(*depths: int, batch_norm: bool) -> partial:
    widths = tuple((w,) * n for w, n in zip((64, 128, 256, 512, 512), depths, strict=True))
    return partial(VGG, widths=widths, pools=(2, 2, 2, 2, 2), batch_norm=batch_norm)


_bottleneck = partial(Bottleneck, stride_first=False)
_bottleneck_v1 = partial(Bottleneck, stride_first=True)
_small_resnet = partial(
    ResNet, block=BasicBlock, depths=(1, 1, 1, 1), strides=(2, 2, 1, 1), stem_size=3
)

_lite = partial(EfficientNet, stem=32, head=1280)

_dinov2 = partial(VisionTransformer, variant=DINOV2)
_dinov2_reg = partial(VisionTransformer, variant=DINOV2_REG)
_dinov3 = partial(VisionTransformer, variant=DINOV3)
_openclip = partial(VisionTransformer, variant=OPENCLIP)
_siglip2 = partial(VisionTransformer, variant=SIGLIP2)
_MICRO_VIT: dict[str, Any] = {"patch": 8, "width": 16, "depth": 4, "heads": 2}  # strides 8

# Each builds a backbone from those of `_backbone`'s options that it has. The taps have strides
# 4, 8, 16, 32, those of the vision transformers the side of their patches, unless said otherwise.
# resnet_small is for the embedded data on two cores, the micro networks are for tests at 32 px.
_BACKBONES: dict[str, partial] = {
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
    "efficientnet_lite0": partial(
        _lite, depths=(1, 2, 2, 3, 3, 4, 1), widths=(16, 24, 40, 80, 112, 192, 320)
    ),
    "efficientnet_lite2": partial(
        _lite, depths=(1, 3, 3, 4, 4, 5, 1), widths=(16, 24, 48, 88, 120, 208, 352)
    ),
    "efficientnet_micro": partial(  # strides 4, 8, 8, 8
        EfficientNet,
        depths=(1, 2, 1, 1, 1, 1, 1),
        widths=(4, 8, 12, 16, 20, 24, 28),
        strides=(1, 2, 2, 1, 1, 1, 1),
        stem=4,
        head=16,
    ),
    "vit_b16": partial(VisionTransformer, patch=16, width=768, depth=12, heads=12),
    "vit_s16": partial(VisionTransformer, patch=16, width=384, depth=12, heads=6),
    "vit_micro": partial(VisionTransformer, **_MICRO_VIT),
    "dinov2_s14": partial(_dinov2, patch=14, width=384, depth=12, heads=6),
    "dinov2_b14": partial(_dinov2, patch=14, width=768, depth=12, heads=12),
    "dinov2_micro": partial(_dinov2, **_MICRO_VIT),
    "dinov2_reg_s14": partial(_dinov2_reg, patch=14, width=384, depth=12, heads=6),
    "dinov2_reg_b14": partial(_dinov2_reg, patch=14, width=768, depth=12, heads=12),
    "dinov2_reg_micro": partial(_dinov2_reg, **_MICRO_VIT),
    "dinov3_s16": partial(_dinov3, patch=16, width=384, depth=12, heads=6),
    "dinov3_b16": partial(_dinov3, patch=16, width=768, depth=12, heads=12),
    "dinov3_micro": partial(_dinov3, **_MICRO_VIT),
    "bioclip2_l14": partial(_openclip, patch=14, width=1024, depth=24, heads=16),
    "bioclip2_micro": partial(_openclip, **_MICRO_VIT),
    "siglip2_b16": partial(_siglip2, patch=16, width=768, depth=12, heads=12),
    "siglip2_micro": partial(_siglip2, **_MICRO_VIT),
    "convnext_tiny": partial(ConvNeXt, depths=(3, 3, 9, 3), widths=(96, 192, 384, 768)),
    "convnext_small": partial(ConvNeXt, depths=(3, 3, 27, 3), widths=(96, 192, 384, 768)),
    "convnext_base": partial(ConvNeXt, depths=(3, 3, 27, 3), widths=(128, 256, 512, 1024)),
    "convnext_micro": partial(  # strides 1, 2, 4, 8
        ConvNeXt, depths=(1, 1, 4, 1), widths=(4, 8, 8, 16), patch=1
    ),
    "swin_tiny": partial(SwinTransformer, width=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24)),
    "swin_base": partial(SwinTransformer, width=128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32)),
    "swin_micro": partial(  # strides 2, 4, 8, 16
        SwinTransformer, width=4, depths=(2, 1, 2, 1), heads=(1, 2, 2, 4), patch=2
    ),
}

NAMES = tuple(_BACKBONES)

_NORMALIZED: dict[str, Literal["clip", "half", "tensorflow"]] = {
    "bioclip2": "clip",
    "efficientnet": "tensorflow",
    "siglip2": "half",
    "vit": "half",
}


def parts(name: str, *, dtype: str, kept: bool, stochastic_depth: float = 0.0) -> list[str]:
    """Parts of `digests.NUMERICS` that the network called `name` computes with, beside the step.

    Args:
        name: one of NAMES.
        dtype: of its computation.
        kept: whether it has a frozen trunk, whose features are computed once and looked up.
        stochastic_depth: see `create`.
    """
    kind = _kind(name).func
    used = {
        "stochastic depth": stochastic_depth > 0,
        "bfloat16 depthwise": kind is ConvNeXt and dtype == "bfloat16",
        "cached transformers": kind in (VisionTransformer, SwinTransformer) and kept,
    }
    return [part for part, is_used in used.items() if is_used]


def create(
    name: str,
    *,
    heads: Mapping[str, nn.Module],
    dtype: Dtype,
    batch_norm_groups: int,
    frozen: str = "",
    frozen_norm: bool = False,
    last_stride: int = 0,
    attention: Attend = attend,
    stochastic_depth: float = 0.0,
    lora_rank: int = 0,
) -> Network:
    """The network called `name` (one of NAMES) with `heads`, e.g. {"logits": KTHead(...)}.

    `dtype` is the compute dtype of the backbone. `batch_norm_groups` applies to backbone and heads.
    `frozen` is the stage that the frozen trunk ends with, empty for none; `frozen_norm` keeps the
    backbone's batch norms at their running statistics. `last_stride` is that of
    a ResNet's stage5, 0 for its own. `attention` is how a vision transformer attends:
    `kernels.attention.attention_on` makes the one that is best on given devices.
    `stochastic_depth` is the last block's chance of being left out in training. `lora_rank` is that
    of the adapters, 0 for none.

    Raises ArgumentError for what `check` refuses.
    """
    check(name, frozen, last_stride, stochastic_depth, lora_rank)
    backbone = _backbone(
        name,
        dtype=dtype,
        batch_norm_groups=batch_norm_groups,
        attend=attention,
        stochastic_depth=stochastic_depth,
        lora_rank=lora_rank,
    )
    if last_stride:
        backbone = backbone.clone(strides=(*backbone.strides[:-1], last_stride))
    constructors = {
        key: partial(head.clone, name=key, batch_norm_groups=batch_norm_groups)
        for key, head in heads.items()
    }
    return Network(backbone, Heads(constructors), frozen, frozen_norm)


def check(
    name: str, frozen: str, last_stride: int, stochastic_depth: float, lora_rank: int = 0
) -> None:
    """Raise an ArgumentError for what `create` cannot make: an unknown name, a stage that is none
    or leaves nothing to train, adapters beside such a stage or as wide as what they add to, and
    `last_stride`, `stochastic_depth` or `lora_rank` of a family that has none."""
    kind, stages = _kind(name).func, ", ".join(STAGES[:-1])
    if frozen and frozen not in STAGES:
        raise ArgumentError(f"`frozen` is {frozen!r}: {name} has no such stage, but {stages}")
    if frozen == STAGES[-1]:
        raise ArgumentError(
            f"`frozen` {frozen} leaves nothing of {name} to train: choose one of {stages}"
        )
    if stochastic_depth and not hasattr(kind, "stochastic_depth"):
        raise ArgumentError(
            f"`stochastic_depth` {stochastic_depth:g}: {name} has none, leave it at 0"
        )
    if lora_rank:
        _check_adapters(name, frozen, lora_rank)
    if last_stride and kind is not ResNet:
        raise ArgumentError(f"`last_stride` {last_stride}: {name} is no ResNet, leave it at 0")


def _check_adapters(name: str, frozen: str, rank: int) -> None:
    make = _kind(name)
    if make.func is not VisionTransformer:
        raise ArgumentError(
            f"`lora_rank` {rank}: {name} has no adapters, which are for vision transformers (vit, "
            "dinov2, dinov3, bioclip2, siglip2): leave it at 0, or freeze a part by `frozen`"
        )
    if frozen:
        raise ArgumentError(
            f"`lora_rank` {rank} adds to a trunk that is frozen whole, and `frozen` {frozen} asks "
            "for another: leave `frozen` empty, or `lora_rank` at 0"
        )
    if rank >= (width := make.keywords["width"]):
        raise ArgumentError(
            f"`lora_rank` {rank}: {name} is {width} wide, choose a smaller one (8 is usual)"
        )


def pooling(name: str) -> str:
    """How a linear head pools on the network called `name`, see `heads`."""
    return _backbone(name, dtype=jnp.float32, batch_norm_groups=1).pooling


def normalization(name: str) -> Literal["clip", "half", "imagenet", "tensorflow"]:
    """How images were normalised for the usual pretrained weights of the network called `name`."""
    return _NORMALIZED.get(name.partition("_")[0], "imagenet")


def _backbone(name: str, **options) -> nn.Module:
    """The backbone called `name`, from those of the options that its class has."""
    make = _kind(name)
    known = inspect.signature(make.func).parameters
    return make(**{key: value for key, value in options.items() if key in known})


def _kind(name: str) -> partial:
    """What makes the backbone called `name`."""
    if name not in _BACKBONES:
        close = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(NAMES)}"
        raise ArgumentError(f"`name`: unknown network {name!r}: {hint}")
    return _BACKBONES[name]


def in_float32(network: Network) -> Network:
    """The same network in float32 and with plain attention, which every platform computes alike."""
    backbone = network.backbone.clone(dtype=jnp.float32)
    if isinstance(backbone, VisionTransformer):
        backbone = backbone.clone(attend=attend)
    return network.clone(backbone=backbone)


def without_adapters(network: Network) -> Network:
    """The same network without adapters, for variables that `lora.merged` made."""
    if not network.adapted:
        return network
    return network.clone(backbone=network.backbone.clone(lora_rank=0))
