"""What names and shapes in a file of weights tell: a wrapper's prefix, another library's scheme,
the network that they seem to be of."""

import re
from collections import Counter
from collections.abc import Collection, Mapping

Shape = tuple[int, ...]

CLASSIFIER = re.compile(r"(fc|head|classifier|pre_logits)\.")
"""What classifiers are called, which lie beside a backbone."""

# Names that only one scheme has; the first that a file has tells whose it is.
_FOREIGN = (
    (r"(\w+\.)?(embeddings|embedder)\.", "transformers"),
    (r"encoder\.layers\.encoder_layer_\d+\.", "torchvision's vision transformers"),
    (r"features\.\d+\.\d+\.block\.\d+\.", "torchvision's ConvNeXt"),
    (r"features\.\d+\.\d+\.attn\.", "torchvision's Swin transformers"),
    (r"downsample_layers\.\d+\.", "ConvNeXt's authors"),
    (r"visual\.(\w+\.)*resblocks\.|vision_model\.", "CLIP"),
    (r"storage_tokens$|rope_embed\.", "DINOv3's authors"),
)


def prefix(names: Collection[str], expected: Collection[str]) -> str:
    """What a wrapper (DataParallel's `module.`, torch.compile's `_orig_mod.`, a `backbone.`, ...)
    put before all names but those of classifiers; empty where names fit already, or none is common.

    Args:
        names: in the file.
        expected: of the network's backbone.
    """
    found, backbone = "", [name for name in names if not _beside(name)]
    while backbone and not set(backbone) & set(expected):
        first = {name.partition(".")[0] for name in backbone}
        if len(first) > 1 or not all("." in name for name in backbone):
            return ""
        found += f"{first.pop()}."
        # What all names had in common may have been before the classifiers' as well.
        rest = (name.partition(".")[2] for name in backbone)
        backbone = [name for name in rest if not _beside(name)]
    short = [name.removeprefix(found) for name in names]
    return found if backbone and len(set(short)) == len(short) else ""


def _beside(name: str) -> bool:
    return name.startswith("heads.") or bool(CLASSIFIER.match(name))


def hint(shapes: Mapping[str, Shape]) -> str:
    """What to do with a file that does not fit, as the end of a message; empty where nothing is
    known of it."""
    if "input_resolution" in shapes:
        return "; they are OpenAI's CLIP's, whose QuickGELU no network here computes"
    for pattern, whose in _FOREIGN:
        if any(re.match(pattern, name) for name in shapes):
            return (
                f"; its names are those of {whose}: take the same weights with timm's names, as "
                "hf:timm/NAME has them"
            )
    finders = _resnet, _vgg, _convnext, _efficientnet, _swin, _transformer
    likely = next(filter(None, (find(shapes) for find in finders)), None)
    if likely is None:
        return ""
    network, other = likely
    way_out = "this program has no such network" if other else "choose network.name accordingly"
    return f"; it looks like {network}: {way_out}"


# Each says what a file seems to be, by the layers that its names count and by their shapes, and
# whether it is of a kind that is none of ours; None for another family.
Likely = tuple[str, bool] | None


def _resnet(shapes: Mapping[str, Shape]) -> Likely:
    first = shapes.get("layer1.0.conv1.weight")
    if first is None:
        return None
    blocks = sum(bool(re.fullmatch(r"layer\d\.\d+\.conv1\.weight", name)) for name in shapes)
    bottleneck = "layer1.0.conv3.weight" in shapes
    number, other = 2 + blocks * (3 if bottleneck else 2), True
    outputs, inputs, *_ = shapes.get("layer1.0.conv2.weight", (1, 1))
    if any(".se." in name for name in shapes):
        name = f"a squeeze-and-excitation ResNet of {number} layers"
    elif "conv1.0.weight" in shapes:
        name = f"resnet{number}d"
    elif bottleneck and inputs < outputs:
        name = f"resnext{number}_{outputs // inputs}x{inputs}d"
    elif bottleneck and first[0] == 128:
        name = f"wide_resnet{number}_2"
    else:
        name, other = f"resnet{number}", False
    return name, other


def _vgg(shapes: Mapping[str, Shape]) -> Likely:
    if shapes.get("features.0.weight", ())[2:] != (3, 3):
        return None
    convolutions = [n for n, s in shapes.items() if n.startswith("features.") and len(s) == 4]
    batch_norm = "_bn" if "features.1.running_mean" in shapes else ""
    return f"vgg{len(convolutions) + 3}{batch_norm}", False


def _convnext(shapes: Mapping[str, Shape]) -> Likely:
    if "stages.0.blocks.0.conv_dw.weight" not in shapes:
        return None
    width = shapes.get("stem.0.weight", "?")[0]
    name = f"a ConvNeXt of {_blocks(shapes, 'stages')} blocks, {width} channels at first"
    return (f"{name}, version 2", True) if any(".grn." in n for n in shapes) else (name, False)


def _efficientnet(shapes: Mapping[str, Shape]) -> Likely:
    if "conv_head.weight" not in shapes:
        return None
    blocks = sum(name.endswith("conv_dw.weight") for name in shapes)
    return f"an EfficientNet of {blocks} blocks", any(".se." in name for name in shapes)


def _swin(shapes: Mapping[str, Shape]) -> Likely:
    if "layers.0.blocks.0.attn.qkv.weight" not in shapes:
        return None
    width = shapes.get("patch_embed.proj.weight", "?")[0]
    name = f"a Swin transformer of {_blocks(shapes, 'layers')} blocks, {width} channels at first"
    second = any(name.endswith(".logit_scale") for name in shapes)
    return (f"{name}, version 2", True) if second else (name, False)


def _transformer(shapes: Mapping[str, Shape]) -> Likely:
    patch = shapes.get("patch_embed.proj.weight", ())
    if len(patch) != 4:
        return None
    sizes = f"of width {patch[0]} and patches of {patch[-1]} px"
    for mark, name in (
        ("norm_pre.weight", "the vision tower of a CLIP"),
        ("attn_pool.latent", "the vision tower of a SigLIP"),
        ("blocks.0.ls1.gamma", "DINOv2"),
    ):
        if mark in shapes:
            registers = shapes.get("reg_token")
            behind = f" with {registers[1]} registers," if registers else ""
            return f"{name}{behind} {sizes}", False
    return f"a vision transformer {sizes}", False


def _blocks(shapes: Mapping[str, Shape], stages: str) -> str:
    """How many blocks each stage has: "3, 3, 9, 3"."""
    places = {m.groups() for n in shapes if (m := re.match(rf"{stages}\.(\d+)\.blocks\.(\d+)", n))}
    counts = Counter(stage for stage, _ in places)
    return ", ".join(str(counts[stage]) for stage in sorted(counts))
