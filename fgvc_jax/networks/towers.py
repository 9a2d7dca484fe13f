"""Vision towers in files of OpenCLIP and of transformers, read with timm's names, as ours are.

Such a file often has a text tower beside: it is left aside, by name. What has no place in a table
keeps its name, so that whoever checks it refuses it.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fgvc_jax.networks.schemes import Shape


class _Place(NamedTuple):
    """Where a tensor of ours is in a file: in several, one below the other, or in some of the three
    parts of one that has queries, keys and values."""

    names: tuple[str, ...]
    parts: tuple[int, int] = (0, 3)


def _both(ours: str, *theirs: str) -> dict[str, _Place]:
    """Weight and bias of a layer of ours, which is one of theirs or several."""
    return {
        f"{ours}.{leaf}": _Place(tuple(f"{name}.{leaf}" for name in theirs))
        for leaf in ("weight", "bias")
    }


def _packed(ours: str, theirs: str, first: int = 0, last: int = 3) -> dict[str, _Place]:
    """Weight and bias of a layer of ours that is in a torch.nn.MultiheadAttention."""
    return {
        f"{ours}.{leaf}": _Place((f"{theirs}_{leaf}",), (first, last))
        for leaf in ("weight", "bias")
    }


_QKV = "query", "key", "value"
# Ours -> theirs, behind what is before all of theirs; {} is the number of a block.
_OPEN_CLIP = {
    "cls_token": _Place(("class_embedding",)),
    "pos_embed": _Place(("positional_embedding",)),
    "patch_embed.proj.weight": _Place(("conv1.weight",)),
    **_both("norm_pre", "ln_pre"),
    **_both("norm", "ln_post"),
    **_both("blocks.{}.norm1", "transformer.resblocks.{}.ln_1"),
    **_both("blocks.{}.norm2", "transformer.resblocks.{}.ln_2"),
    **_packed("blocks.{}.attn.qkv", "transformer.resblocks.{}.attn.in_proj"),
    **_both("blocks.{}.attn.proj", "transformer.resblocks.{}.attn.out_proj"),
    **_both("blocks.{}.mlp.fc1", "transformer.resblocks.{}.mlp.c_fc"),
    **_both("blocks.{}.mlp.fc2", "transformer.resblocks.{}.mlp.c_proj"),
}
_TRANSFORMERS = {
    "cls_token": _Place(("embeddings.class_embedding",)),
    "pos_embed": _Place(("embeddings.position_embedding.weight",)),
    **_both("patch_embed.proj", "embeddings.patch_embedding"),
    **_both("norm_pre", "pre_layrnorm"),  # as they spell it
    **_both("norm", "post_layernorm"),
    **_both("blocks.{}.norm1", "encoder.layers.{}.layer_norm1"),
    **_both("blocks.{}.norm2", "encoder.layers.{}.layer_norm2"),
    **_both("blocks.{}.attn.qkv", *(f"encoder.layers.{{}}.self_attn.{x[0]}_proj" for x in _QKV)),
    **_both("blocks.{}.attn.proj", "encoder.layers.{}.self_attn.out_proj"),
    **_both("blocks.{}.mlp.fc1", "encoder.layers.{}.mlp.fc1"),
    **_both("blocks.{}.mlp.fc2", "encoder.layers.{}.mlp.fc2"),
    "attn_pool.latent": _Place(("head.probe",)),
    **_packed("attn_pool.q", "head.attention.in_proj", 0, 1),
    **_packed("attn_pool.kv", "head.attention.in_proj", 1, 3),
    **_both("attn_pool.proj", "head.attention.out_proj"),
    **_both("attn_pool.norm", "head.layernorm"),
    **_both("attn_pool.mlp.fc1", "head.mlp.fc1"),
    **_both("attn_pool.mlp.fc2", "head.mlp.fc2"),
}


_DINOV2 = {
    "cls_token": _Place(("embeddings.cls_token",)),
    "reg_token": _Place(("embeddings.register_tokens",)),
    "pos_embed": _Place(("embeddings.position_embeddings",)),
    **_both("patch_embed.proj", "embeddings.patch_embeddings.projection"),
    **_both("norm", "layernorm"),
    **_both("blocks.{}.norm1", "encoder.layer.{}.norm1"),
    **_both("blocks.{}.norm2", "encoder.layer.{}.norm2"),
    **_both("blocks.{}.attn.qkv", *(f"encoder.layer.{{}}.attention.attention.{x}" for x in _QKV)),
    **_both("blocks.{}.attn.proj", "encoder.layer.{}.attention.output.dense"),
    "blocks.{}.ls1.gamma": _Place(("encoder.layer.{}.layer_scale1.lambda1",)),
    "blocks.{}.ls2.gamma": _Place(("encoder.layer.{}.layer_scale2.lambda1",)),
    **_both("blocks.{}.mlp.fc1", "encoder.layer.{}.mlp.fc1"),
    **_both("blocks.{}.mlp.fc2", "encoder.layer.{}.mlp.fc2"),
}


class _Scheme(NamedTuple):
    """How a tower is known: by the tensor `first` and one that begins with `block`, both behind the
    same prefix. table: ours -> theirs, behind it. own: whether all other names are ours already."""

    first: str
    block: str
    table: Mapping[str, _Place]
    own: bool = False


_SCHEMES = (
    _Scheme(r"conv1\.weight", r"transformer\.resblocks\.", _OPEN_CLIP),
    _Scheme(r"embeddings\.patch_embedding\.weight", r"encoder\.layers\.", _TRANSFORMERS),
    _Scheme(r"embeddings\.cls_token", r"encoder\.layer\.\d+\.layer_scale1\.", _DINOV2),
    _Scheme(r"register_tokens", r"blocks\.", {"reg_token": _Place(("register_tokens",))}, own=True),
    _Scheme(r"trunk\.patch_embed\.proj\.weight", r"trunk\.blocks\.", {}, own=True),
)
# What is beside a vision tower: the text's, the steps to a space in common, and its temperature.
_BESIDE = re.compile(
    r"(\w+\.)?(text_model\.|text\.|transformer\.resblocks\.|token_embedding\.|ln_final\."
    r"|positional_embedding$|text_projection|visual_projection\.|visual\.proj$|visual\.head\."
    r"|logit_scale$|logit_bias$)"
)
_TEXT = re.compile(r"(\w+\.)*(token_embedding\.weight|text_model\.|text\.transformer\.)")
_ROWS = "cls_token", "reg_token", "pos_embed", "attn_pool.latent"  # (1,n,D) of ours


class Tower(NamedTuple):
    """A vision tower with our names.

    shapes: of its tensors, and of what no table knows. read: name -> tensor. aside: names in the
    file that are left aside. called: name of ours -> what it is, or would be, in the file.
    """

    shapes: Mapping[str, Shape]
    read: Callable[[str], np.ndarray]
    aside: Collection[str]
    called: Callable[[str], str]


def vision_tower(stored: Mapping[str, Shape], read: Callable[[str], np.ndarray]) -> Tower | None:
    """The vision tower of a file, from its tensors; None where its names are of no such scheme."""
    for scheme in _SCHEMES:
        for name in stored:
            match = re.fullmatch(rf"((?:\w+\.)*?){scheme.first}", name)
            block = match and re.compile(re.escape(match[1]) + f"(?:{scheme.block})")
            if match and block and any(block.match(other) for other in stored):
                prefix = match[1] + ("trunk." if scheme.first.startswith("trunk") else "")
                return _without_class_position(_tower(stored, read, prefix, scheme))
    return None


def text_alone(names: Collection[str]) -> str:
    """The first name of a text tower; empty where there is none."""
    return next((name for name in names if _TEXT.match(name)), "")


# What hubs have beside weights, and where CLIPs of transformers say what they compute.
CONFIGS = "config.json", "open_clip_config.json"
_CLIPS = "clip", "clip_vision_model"


def has_quick_gelu(path: Path) -> bool:
    """Whether what lies beside a file of weights says that they are computed with QuickGELU,
    x sigmoid(1.702 x), as OpenAI's CLIP is: no name and no shape in the file tells."""
    return any(_says_quick_gelu(_told(path.with_name(config))) for config in CONFIGS)


def _told(config: Path) -> dict[str, Any]:
    """What a file of a hub says; nothing where there is none, or none that can be read."""
    try:
        found = json.loads(config.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _says_quick_gelu(told: Mapping[str, Any]) -> bool:
    def part(name: str) -> Mapping[str, Any]:
        found = told.get(name)
        return found if isinstance(found, dict) else {}

    # transformers leaves out what is as usual, and of a CLIP that is usual.
    usual = "quick_gelu" if told.get("model_type") in _CLIPS else ""
    return (
        {**told, **part("vision_config")}.get("hidden_act", usual) == "quick_gelu"
        or part("model_cfg").get("quick_gelu") is True  # OpenCLIP's
        or "quickgelu" in str(told.get("architecture"))  # timm's
        or part("pretrained_cfg").get("tag") == "openai"
    )


def _tower(
    stored: Mapping[str, Shape], read: Callable[[str], np.ndarray], prefix: str, scheme: _Scheme
) -> Tower:
    inside = {name.removeprefix(prefix): name for name in stored if name.startswith(prefix)}
    numbers = {m[1] for name in inside if (m := re.search(r"\.(\d+)\.", name))}
    places = {}
    for ours, place in scheme.table.items():
        for number in numbers if "{}" in ours else ("",):
            names = tuple(name.format(number) for name in place.names)
            if inside.keys() >= set(names):
                known = tuple(inside[name] for name in names)
                places[ours.format(number)] = place._replace(names=known)
    used = {name for place in places.values() for name in place.names}
    rest = [name for name in stored if name not in used]
    aside = [name for name in rest if _is_beside(name, prefix)]
    own = {
        name.removeprefix(prefix) if scheme.own else name: name
        for name in rest
        if name not in aside
    }
    shapes = {name: stored[theirs] for name, theirs in own.items()}
    shapes |= {ours: _shape(ours, place, stored) for ours, place in places.items()}

    def tensor(ours: str) -> np.ndarray:
        if ours in own:
            return read(own[ours])
        names, (first, last) = places[ours]
        value = np.concatenate([read(name) for name in names])
        third = len(value) // 3
        value = value[first * third : last * third] if last - first < 3 else value
        return value.reshape(shapes[ours])

    def called(ours: str) -> str:
        number = re.search(r"(?<=\.)\d+(?=\.)", ours)
        place = scheme.table.get(ours.replace(number[0], "{}", 1) if number else ours)
        if not place:
            return own.get(ours, prefix + ours)
        names = [name.format(number and number[0]) for name in place.names]
        return prefix + next((name for name in names if name not in inside), names[0])

    return Tower(shapes, tensor, aside, called)


def _is_beside(name: str, prefix: str) -> bool:
    if name.startswith(prefix):  # BioCLIP 2's authors learned with two of these
        return bool(re.fullmatch(r"proj\w*", name.removeprefix(prefix)))
    return bool(_BESIDE.match(name))


def _shape(ours: str, place: _Place, stored: Mapping[str, Shape]) -> Shape:
    shapes = [stored[name] for name in place.names]
    if ours in _ROWS:
        return (1, *(1, 1, *shapes[0])[-2:])
    first, last = place.parts
    rows = sum(shape[0] if shape else 0 for shape in shapes)
    return (rows * (last - first) // 3, *shapes[0][1:])


def _without_class_position(tower: Tower) -> Tower:
    """DINOv2 with registers as timm has it: what is added to the class token for its position is
    part of the token."""
    positions = tower.shapes.get("pos_embed", ())
    if not {"reg_token", "cls_token"} <= tower.shapes.keys() or len(positions) != 3:
        return tower
    known = {**tower.shapes, "pos_embed": (1, positions[1] - 1, positions[2])}

    def read(name: str) -> np.ndarray:
        value = tower.read(name)
        if name == "pos_embed":
            return value[:, 1:]
        if name == "cls_token":
            return value.astype(np.float32) + tower.read("pos_embed")[:, :1]
        return value

    return tower._replace(shapes=known, read=read)
