"""What a file of weights holds, in timm's and torchvision's names and torch's layouts; tensors are
read one by one, nothing is unpickled."""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from fgvc_jax.networks import towers
from fgvc_jax.networks.efficientnet import timm_names
from fgvc_jax.networks.schemes import Shape
from fgvc_jax.utils.errors import UserError

log = logging.getLogger(__name__)
# What is in some files and no weight.
_BUFFERS = (
    "num_batches_tracked",
    "relative_position_index",
    "attn_mask",
    "mask_token",
    "position_ids",
)


@dataclass(frozen=True)
class WeightsFile:
    """What a file holds, in our names and torch's layouts. `called` tells what a tensor of ours is
    called in it."""

    shapes: Mapping[str, Shape]
    read: Callable[[str], np.ndarray]
    called: Callable[[str], str] = str

    def without(self, prefix: str) -> "WeightsFile":
        """The same with names that have no such prefix."""
        names = {name.removeprefix(prefix): name for name in self.shapes}
        shapes = {short: self.shapes[name] for short, name in names.items()}
        return WeightsFile(
            shapes,
            lambda short: self.read(names[short]),
            lambda short: self.called(names.get(short, prefix + short)),
        )


# What damaged or hostile files raise in the two readers.
_DAMAGED = (
    SafetensorError,
    BadZipFile,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    MemoryError,
)


def open_weights(path: Path) -> WeightsFile:
    """The file at a path; a UserError for one that is of another kind, or cannot be read."""
    readers = {".safetensors": _open_safetensors, ".npz": _open_npz}
    if path.suffix not in readers:
        raise UserError(f"weights {str(path)!r}: only .safetensors and .npz files are read")
    try:
        return readers[path.suffix](path)
    except _DAMAGED as error:
        raise _damaged(path, error) from error


def read(path: Path, file: WeightsFile, name: str) -> np.ndarray:
    """A tensor of it as float32; a UserError for one that cannot be read, or is not finite."""
    try:
        value = file.read(name)
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise UserError(f"weights {str(path)!r}: {name!r} is of type {value.dtype}, not floating")
    value = value.astype(np.float32)
    if not np.isfinite(value).all():
        raise UserError(f"weights {str(path)!r}: {name!r} holds values that are not finite")
    return value


def _damaged(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(f"weights {str(path)!r} cannot be read ({reason}): fetch the file again")


def _open_safetensors(path: Path) -> WeightsFile:
    file = safe_open(path, framework="numpy")
    stored = {
        name: tuple(file.get_slice(name).get_shape())
        for name in file.keys()  # noqa: SIM118
        if not name.endswith(_BUFFERS)
    }
    if tower := towers.vision_tower(stored, file.get_tensor):
        if tower.aside:
            log.info(
                "%s: what is beside the vision tower is left aside, %d tensors (%s, ...)",
                path, len(tower.aside), ", ".join(map(repr, sorted(tower.aside)[:3])),
            )  # fmt: skip
        return WeightsFile(tower.shapes, tower.read, tower.called)
    if text := towers.text_alone(stored):
        raise UserError(
            f"weights {str(path)!r} hold a text tower alone ({text!r}, ...): name the file that "
            "has the vision tower"
        )
    timms = timm_names(stored) if "_conv_stem.weight" in stored else {}
    # Swin's authors merge at the end of a stage, timm at the beginning of the next.
    if "layers.0.downsample.reduction.weight" in stored:
        timms = {name: _merging_first(name) for name in stored}
    names = {timms.get(name, name): name for name in stored}
    shapes = {name: stored[theirs] for name, theirs in names.items()}
    return WeightsFile(shapes, lambda name: file.get_tensor(names[name]))


def _merging_first(name: str) -> str:
    later = re.sub(
        r"^layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) + 1}.downsample", name
    )
    return re.sub(r"^head\.(?!fc\.)", "head.fc.", later)


# The original names of a vision transformer -> timm's, applied in turn.
_AUGREG = (
    (r"^cls$", "cls_token"),
    (r"^embedding/", "patch_embed/proj/"),
    (r"^Transformer/posembed_input/pos_embedding$", "pos_embed"),
    (r"^Transformer/encoder_norm/", "norm/"),
    (r"^Transformer/encoderblock_", "blocks/"),
    (r"/LayerNorm_0/", "/norm1/"),
    (r"/MultiHeadDotProductAttention_1/(query|key|value)/", "/attn/qkv/"),
    (r"/MultiHeadDotProductAttention_1/out/", "/attn/proj/"),
    (r"/LayerNorm_2/", "/norm2/"),
    (r"/MlpBlock_3/Dense_0/", "/mlp/fc1/"),
    (r"/MlpBlock_3/Dense_1/", "/mlp/fc2/"),
    (r"/(kernel|scale)$", "/weight"),
    (r"/", "."),
)


def _open_npz(path: Path) -> WeightsFile:
    """A vision transformer as its authors saved it, query, key and value apart."""
    with ZipFile(path) as members:
        stored = {
            name.removesuffix(".npy"): _npy_shape(members, name) for name in members.namelist()
        }
    parts: dict[str, list[str]] = {}
    for key in sorted(stored, key=lambda key: ("/key/" in key) + 2 * ("/value/" in key)):
        name = key
        for pattern, replacement in _AUGREG:
            name = re.sub(pattern, replacement, name)
        parts.setdefault(name, []).append(key)

    shapes = {}
    for name, keys in parts.items():
        blanks = [_augreg_to_torch(np.broadcast_to(np.float32(0), stored[k]), k) for k in keys]
        shapes[name] = (sum(blank.shape[0] for blank in blanks), *blanks[0].shape[1:])
    arrays = np.load(path, allow_pickle=False)

    def read(name: str) -> np.ndarray:
        return np.concatenate([_augreg_to_torch(arrays[key], key) for key in parts[name]])

    return WeightsFile(shapes, read)


def _augreg_to_torch(value: np.ndarray, key: str) -> np.ndarray:
    """Their layouts: kernels with inputs first, those of attention with the heads as an axis."""
    if key.endswith("/kernel"):
        if key.startswith("embedding"):
            return value.transpose(3, 2, 0, 1)
        shape = (-1, value.shape[-1]) if "/out/" in key else (value.shape[0], -1)
        return value.reshape(shape).T
    return value.reshape(-1) if key.endswith("/bias") else value


def _npy_shape(members: ZipFile, name: str) -> Shape:
    """The shape in an array's header, to be checked first: a small zip may unpack to terabytes."""
    with members.open(name) as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError(f"array {name!r} is of an unknown version")
        return np.lib.format.read_array_header_1_0(member)[0]
