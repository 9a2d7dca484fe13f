"""Tensors of a file as torch wrote it until 2020: pickles, and the values behind them.

A pickle can run code, so what is read here was looked at before and is known by its SHA-256 (see
`fetched`). All the same nothing is looked up by name: of what a pickle may call, three names are
known, and they make the tuples and arrays below. Torch is not needed.
"""

import io
import math
import pickle
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # torch's mark of such a file, and its version
_TYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}
LARGEST = 2**28  # values of a storage


class _Storage(NamedTuple):
    key: str
    kind: str
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Type(NamedTuple):
    kind: str


def _rebuild(storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: object) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


_KNOWN = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    **{("torch", name): _Type(kind) for name, kind in _TYPES.items()},
}


class _Reader(pickle.Unpickler):
    """Knows what tensors are made of, and refuses everything else."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a tensor")
        return _KNOWN[module, name]

    def persistent_load(self, saved: Any) -> _Storage:
        word, kind, key, _place, size, view = saved
        if word != "storage" or view is not None or not isinstance(kind, _Type):
            raise pickle.UnpicklingError("it holds something else than plain storages")
        return _Storage(str(key), kind.kind, int(size))


def tensors(content: bytes) -> dict[str, np.ndarray]:
    """The tensors by name of a `torch.save`d state dict in the legacy format.

    Args:
        content: of the whole file.

    Raises:
        ValueError: for anything else.
    """
    file = io.BytesIO(content)
    try:
        start = [_Reader(file).load() for _ in range(2)]
        if start != [MAGIC, PROTOCOL]:
            raise ValueError("it does not start as such a file")
        system, state, keys = (_Reader(file).load() for _ in range(3))
        if not system["little_endian"]:
            raise ValueError("its values are big-endian")
        found = {name: value for name, value in state.items() if isinstance(value, _Tensor)}
        known = {each.storage.key: each.storage for each in found.values()}
        stored = {key: _values(file, known[key]) for key in keys}
        return {str(name): _view(stored[each.storage.key], each) for name, each in found.items()}
    except ValueError:
        raise
    except Exception as error:  # a pickle that is none of ours may fail in every way
        raise ValueError(f"it is no legacy file of tensors ({error})") from error


def _values(file: io.BytesIO, storage: _Storage) -> np.ndarray:
    """The next storage: its length, then its values."""
    (size,) = np.frombuffer(file.read(8), "<i8")
    if size != storage.size or not 0 <= size <= LARGEST:
        raise ValueError(f"a storage of {size} values was said to have {storage.size}")
    kind = np.dtype(storage.kind)
    return np.frombuffer(file.read(size * kind.itemsize), kind, size)


def _view(values: np.ndarray, tensor: _Tensor) -> np.ndarray:
    """A tensor's own values, in its shape, whatever order they are stored in."""
    offset, shape, strides = tensor.offset, tensor.shape, tensor.strides
    last = offset + sum((side - 1) * step for side, step in zip(shape, strides, strict=True))
    if (
        min(offset, *shape, *strides, 0) < 0
        or math.prod(shape) > len(values)
        or last >= len(values)
    ):
        raise ValueError("a tensor reaches beyond its storage")
    steps = [step * values.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(values[offset:], shape, steps, writeable=False)
