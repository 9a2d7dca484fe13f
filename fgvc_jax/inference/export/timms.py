"""What timm calls our networks, and what it must be told of them."""

from typing import Any, NamedTuple


class Family(NamedTuple):
    """What timm must be told of networks of one kind.

    pools: {how our linear head pools: timm's word}. places: of its first and its last layer.
    arguments: of its constructor. sized: whether it must know the images' size beforehand.
    """

    pools: dict[str, str]
    places: tuple[str, str]
    arguments: dict[str, Any] = {}
    sized: bool = False


RESNET = Family({"avg": "avg", "max": "max"}, ("conv1", "fc"))
_VIT = Family(
    {"token": "token", "avg": "avg"}, ("patch_embed.proj", "head"), {"fc_norm": False}, sized=True
)
_EFFICIENTNET = Family({"avg": "avg", "max": "max"}, ("conv_stem", "classifier"))
_CONVNEXT = Family({"norm": "avg"}, ("stem.0", "head.fc"))
_SWIN = Family({"avg": "avg"}, ("patch_embed.proj", "head.fc"), sized=True)
_DINOV3 = Family({"token": "token"}, ("patch_embed.proj", "head"), sized=True)
_SIGLIP2 = Family(
    {"token": "map"}, ("patch_embed.proj", "head"), {"act_layer": "gelu_tanh"}, sized=True
)
_MICRO_VIT = {"patch_size": 8, "embed_dim": 16, "depth": 4, "num_heads": 2}

# Networks that were compared with timm's: its name, their family, and arguments of their own.
NETWORKS: dict[str, tuple[str, Family, dict[str, Any]]] = {
    **{name: (name, RESNET, {}) for name in ("resnet18", "resnet34", "resnet50", "resnet101")},
    "vit_b16": ("vit_base_patch16_224", _VIT, {}),
    "vit_s16": ("vit_small_patch16_224", _VIT, {}),
    "vit_micro": ("vit_tiny_patch16_224", _VIT, _MICRO_VIT),
    "dinov2_s14": ("vit_small_patch14_dinov2", _VIT, {}),
    "dinov2_b14": ("vit_base_patch14_dinov2", _VIT, {}),
    "dinov2_micro": ("vit_small_patch14_dinov2", _VIT, _MICRO_VIT),
    "dinov2_reg_s14": ("vit_small_patch14_reg4_dinov2", _VIT, {}),
    "dinov2_reg_b14": ("vit_base_patch14_reg4_dinov2", _VIT, {}),
    "dinov2_reg_micro": ("vit_small_patch14_reg4_dinov2", _VIT, _MICRO_VIT),
    "bioclip2_l14": ("vit_large_patch14_clip_224", _VIT, {}),
    "bioclip2_micro": ("vit_large_patch14_clip_224", _VIT, _MICRO_VIT),
    "siglip2_b16": ("vit_base_patch16_siglip_224", _SIGLIP2, {}),
    "siglip2_micro": ("vit_base_patch16_siglip_224", _SIGLIP2, _MICRO_VIT),
    "dinov3_s16": ("vit_small_patch16_dinov3", _DINOV3, {}),
    "dinov3_b16": ("vit_base_patch16_dinov3", _DINOV3, {}),
    "dinov3_micro": ("vit_small_patch16_dinov3", _DINOV3, _MICRO_VIT),
    **{
        name: (f"tf_{name}", _EFFICIENTNET, {})
        for name in ("efficientnet_lite0", "efficientnet_lite2")
    },
    **{
        name: (name, _CONVNEXT, {}) for name in ("convnext_tiny", "convnext_small", "convnext_base")
    },
    "convnext_micro": (
        "convnext_tiny",
        _CONVNEXT,
        {"depths": [1, 1, 4, 1], "dims": [4, 8, 8, 16], "patch_size": 1},
    ),
    "swin_tiny": ("swin_tiny_patch4_window7_224", _SWIN, {}),
    "swin_base": ("swin_base_patch4_window7_224", _SWIN, {}),
    "swin_micro": (
        "swin_tiny_patch4_window7_224",
        _SWIN,
        {
            "patch_size": 2,
            "embed_dim": 4,
            "depths": [2, 1, 2, 1],
            "num_heads": [1, 2, 2, 4],
            "window_size": 2,
        },
    ),
}
