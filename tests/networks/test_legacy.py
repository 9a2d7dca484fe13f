"""Tensors of torch's legacy format, written here by hand; and pickles that would do something."""

import io
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest

from fgvc_jax.networks.legacy import MAGIC, PROTOCOL, tensors


class Name:
    """Stands for a name of torch's in a pickle: `torch FloatStorage`."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """Stands for a call of one."""

    def __init__(self, called, *arguments):
        self.called, self.arguments = called, arguments

    def __reduce__(self):
        return self.called, self.arguments


class Storage(tuple):
    """What torch leaves to `persistent_load`."""


class Writer(pickle._Pickler):
    """The pickler in Python, which can be told what to write for a name."""

    dispatch = dict(pickle._Pickler.dispatch)

    def persistent_id(self, value):
        return tuple(value) if isinstance(value, Storage) else None

    def save_name(self, value):
        self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())

    dispatch[Name] = save_name

    def save_call(self, value):
        self.save(value.called)
        self.save(value.arguments)
        self.write(pickle.REDUCE)

    dispatch[Call] = save_call


FLOATS, LONGS = Name("torch", "FloatStorage"), Name("torch", "LongStorage")
REBUILD = Name("torch._utils", "_rebuild_tensor_v2")


def tensor(key, shape, strides, *, offset=0, size=6, kind=FLOATS, view=None):
    storage = Storage(("storage", kind, key, "cpu", size, view))
    return Call(REBUILD, storage, offset, shape, strides, False, OrderedDict())


def content(state, values, *, magic=MAGIC, system=None, keys=None):
    file = io.BytesIO()
    system = system or {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {}}
    for part in (magic, PROTOCOL, system, state, keys or sorted(values)):
        Writer(file, 2).dump(part)
    for key in sorted(values):
        file.write(struct.pack("<q", len(values[key])) + values[key].tobytes())
    return file.getvalue()


SIX = np.arange(6, dtype="<f4")


def test_tensors_of_any_strides_and_shared_storages():
    state = OrderedDict(
        straight=tensor("a", (2, 3), (3, 1)),
        turned=tensor("a", (3, 2), (1, 3)),
        part=tensor("a", (2,), (2,), offset=1),
        scalar=tensor("b", (), (), size=1, kind=LONGS),
        note="no tensor",
    )
    found = tensors(content(state, {"a": SIX, "b": np.array([7], "<i8")}))
    assert found.keys() == {"straight", "turned", "part", "scalar"}
    np.testing.assert_array_equal(found["straight"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(found["turned"], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(found["part"], [1, 3])
    assert found["scalar"] == 7 and found["scalar"].dtype == np.int64


@pytest.mark.parametrize(
    "called",
    [
        Name("os", "system"),
        Name("builtins", "eval"),
        Name("builtins", "getattr"),
        Name("torch", "load"),
        Name("collections", "namedtuple"),
        Name("fgvc_jax.networks.legacy", "os.system"),
    ],
)
def test_nothing_else_is_looked_up(called):
    state = OrderedDict(a=Call(called, "echo"))
    with pytest.raises(ValueError, match=f"{called.module}.{called.name} is no part of a tensor"):
        tensors(content(state, {"a": SIX}))


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (tensor("a", (2, 4), (4, 1)), "beyond its storage"),
        (tensor("a", (7,), (0,)), "beyond its storage"),
        (tensor("a", (10**9, 10**9), (0, 0)), "beyond its storage"),
        (tensor("a", (2,), (-1,), offset=3), "beyond its storage"),
        (tensor("a", (2,), (1,), offset=-1), "beyond its storage"),
        (tensor("a", (2,), (1,), offset=5), "beyond its storage"),
        (tensor("a", (2, 3), (3,)), "zip"),
        (tensor("a", (6,), (1,), size=7), "was said to have 7"),
        (tensor("b", (6,), (1,)), "no legacy file"),
        (tensor("a", (6,), (1,), view=("a", 0, 6)), "plain storages"),
        (tensor("a", (6,), (1,), kind="float"), "plain storages"),
    ],
)
def test_tensors_that_cannot_be_are_told(state, words):
    with pytest.raises(ValueError, match=words):
        tensors(content(OrderedDict(a=state), {"a": SIX}))


def test_files_that_are_none_are_told():
    whole = content(OrderedDict(a=tensor("a", (6,), (1,))), {"a": SIX})
    for broken in (b"", whole[:40], whole[:-1], b"PK\3\4" + whole, pickle.dumps([1])):
        with pytest.raises(ValueError):
            tensors(broken)
    with pytest.raises(ValueError, match="does not start"):
        tensors(content(OrderedDict(), {}, magic=1))
    with pytest.raises(ValueError, match="big-endian"):
        tensors(content(OrderedDict(), {}, system={"little_endian": False}))
