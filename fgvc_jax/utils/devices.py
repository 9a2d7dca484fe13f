"""Devices: one mesh axis `data`; the batch is split over it, everything else is replicated."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Self, TypeVar, overload

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fgvc_jax.utils.errors import UserError

Tree = TypeVar("Tree")  # of arrays


def create_mesh(*batch_sizes: int) -> Mesh:
    """All devices of all processes along the axis `data`.

    Of the virtual devices of a single CPU only as many as divide the batch sizes: nobody asked for
    them.
    """
    chosen = jax.devices()
    if chosen[0].platform == "cpu" and jax.process_count() == 1:
        chosen = chosen[: math.gcd(len(chosen), *batch_sizes)]
    return jax.make_mesh((len(chosen),), ("data",), axis_types=(AxisType.Auto,), devices=chosen)


def own(*batch_sizes: int) -> Mesh:
    """This process's devices along the axis `data`, for work that processes do apart."""
    if jax.process_count() == 1:
        return create_mesh(*batch_sizes)
    mine = jax.local_devices()
    return jax.make_mesh((len(mine),), ("data",), axis_types=(AxisType.Auto,), devices=mine)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """The leading axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


@overload
def replicate(mesh: Mesh, tree: np.ndarray) -> jax.Array: ...
@overload
def replicate(mesh: Mesh, tree: Tree) -> Tree: ...
def replicate(mesh: Mesh, tree: Tree) -> Tree:
    """Put host arrays, equal in every process, on every device."""
    sharding = replicated(mesh)
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(np.shape(x), sharding, lambda i: np.asarray(x)[i]),
        tree,
    )


@jax.tree_util.register_pytree_node_class
class Packed(Mapping[str, Any]):
    """{name: array}, of which some are the columns of one array. The reason: each array costs about
    0.1 ms of Python in every step, to be put on the devices, passed on and fetched.

    Args:
        columns: names of the columns.
        numbers: (..., len(columns)).
        others: the other arrays by name; pytrees of them, too.
    """

    def __init__(
        self, columns: tuple[str, ...], numbers: jax.Array | np.ndarray, others: Mapping[str, Any]
    ):
        self._columns, self._numbers, self._others = columns, numbers, others

    def __getitem__(self, name: str) -> Any:
        if name in self._columns:
            return self._numbers[..., self._columns.index(name)]
        return self._others[name]

    def __contains__(self, name: object) -> bool:
        return name in self._columns or name in self._others

    def __iter__(self) -> Iterator[str]:
        yield from self._columns
        yield from self._others

    def __len__(self) -> int:
        return len(self._columns) + len(self._others)

    def __or__(self, more: Mapping[str, Any]) -> Self:
        """The same with more arrays, of other names."""
        return type(self)(self._columns, self._numbers, {**self._others, **more})

    def without(self, name: str) -> Self:
        """The same without an array that is no column, where it has that."""
        others = {key: array for key, array in self._others.items() if key != name}
        return type(self)(self._columns, self._numbers, others)

    def tree_flatten(self) -> tuple:
        return (self._numbers, self._others), self._columns

    @classmethod
    def tree_unflatten(cls, columns: tuple[str, ...], children: tuple) -> Self:
        return cls(columns, *children)


def shard_batch(mesh: Mesh, batch: Mapping[str, Any]) -> Packed:
    """This process's rows become its part of the global batch; int32 (b,) are packed, of which
    there is at least one."""
    columns = tuple(name for name, array in batch.items() if _is_column(array))
    numbers = np.stack([batch[name] for name in columns], axis=1)
    packed = Packed(columns, numbers, {n: a for n, a in batch.items() if n not in columns})
    if jax.process_count() == 1:
        return jax.device_put(packed, split(mesh))
    return jax.make_array_from_process_local_data(split(mesh), packed)


def _is_column(array: object) -> bool:
    return getattr(array, "dtype", None) == np.int32 and getattr(array, "ndim", 0) == 1


def check_batch(mesh: Mesh, size: int, words: str) -> None:
    """Raise a UserError when a global batch, which has such words, does not divide over the
    devices."""
    if size % mesh.size:
        raise UserError(
            f"{words} does not divide over {mesh.size} devices: take a multiple of {mesh.size}"
        )
