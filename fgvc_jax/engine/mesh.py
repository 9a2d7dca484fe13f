"""Devices: one mesh axis `data`; the batch is split over it, everything else is replicated."""

import contextlib
import math
import os
import socket
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from jax._src import distributed  # JAX tells the coordinator's address nowhere else
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fgvc_jax import peers, storage
from fgvc_jax.errors import UserError

NO_PROXY = "no_grpc_proxy", "no_proxy"  # gRPC takes the first that there is
SHOWN = 60.0  # seconds until a network file system shows a new file at the latest


def join_processes() -> None:
    """Join the other processes: clusters and pods are detected, else three variables say where.

    JAX_COORDINATOR_ADDRESS (host:port), JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    SIGTERM stays ours: JAX's preemption service would catch it beneath Python, tell nobody outside
    of a training loop, and so let a batch system's grace run out in a pass over maps. `loop` votes.
    """
    jax.config.update("jax_enable_preemption_service", False)
    names = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
    address, count, index = (os.environ.get(name) for name in names)
    try:
        with _relayed():
            if address and count and index:
                jax.distributed.initialize(address, int(count), int(index))
            else:
                jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--distributed could not join the other processes ({reason}): "
            f"on a machine that is no known cluster, set {', '.join(names)}"
        ) from error
    if jax.process_count() > 1:
        if jax.default_backend() == "cpu":
            # Of programs for CPUs JAX keeps only the first process's. That one would wait in a
            # collective while the others compile, and Gloo gives up after 30 seconds.
            jax.config.update("jax_enable_compilation_cache", False)
        _watch_each_other()


@contextlib.contextmanager
def _relayed() -> Iterator[None]:
    """Have JAX's client reach its service, in the first process, by `peers.relay`.

    Where a JAX makes its client otherwise, without: all ends as fast, with more words.
    """
    library = getattr(distributed, "_jax", None)
    connect = getattr(library, "get_distributed_runtime_client", None)
    if connect is None:
        yield
        return

    def connect_relayed(address: str, index: int, **options: Any) -> Any:
        if index:
            address = peers.relay(address)
            # gRPC takes a proxy to other hosts, where the environment names one.
            direct = next((os.environ[name] for name in NO_PROXY if os.environ.get(name)), "")
            os.environ[NO_PROXY[0]] = ",".join(filter(None, (direct, "127.0.0.1")))
        return connect(address, index, **options)

    library.get_distributed_runtime_client = connect_relayed
    try:
        yield
    finally:
        library.get_distributed_runtime_client = connect


def _watch_each_other() -> None:
    """Have all processes end when one does."""
    watched = peers.Peers(jax.process_index())
    port = watched.listen(jax.process_count() - 1) if jax.process_index() == 0 else 0
    port = int(multihost_utils.broadcast_one_to_all(np.int32(port)))
    if jax.process_index():
        host = distributed.global_state.coordinator_address.rpartition(":")[0]
        watched.connect(host.strip("[]"), port)
    wait_for_all("the processes know each other")
    peers.watch(watched, lambda: wait_for_all("the command has ended"))


def processes_here() -> int:
    """How many of the run's processes are on this process's host; all of them must ask."""
    if jax.process_count() == 1:
        return 1
    host = np.uint32(zlib.crc32(socket.gethostname().encode()))
    return int(np.sum(multihost_utils.process_allgather(host) == host))


def wait_for_all(what: str) -> None:
    """Return once every process is here; `what` tells the place."""
    if jax.process_count() == 1:
        return
    multihost_utils.sync_global_devices(what)


def of_first(value: np.ndarray) -> np.ndarray:
    """The value that the first process has: one decides and tells the others."""
    return value if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(value)


def largest(value: int) -> int:
    """The largest value of all processes."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.process_allgather(np.int32(value)).max())


def total(value: int) -> int:
    """The sum over all processes."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.process_allgather(np.int32(value)).sum())


def check_shared(path: Path, what: str) -> None:
    """Raise a UserError in all processes when one of them does not see a file that the first has
    written: their hosts do not share its folder, which is `what`."""
    if jax.process_count() == 1:
        return
    wait_for_all("a file is written")
    deadline = time.monotonic() + SHOWN
    while not storage.exists(path) and time.monotonic() < deadline:
        time.sleep(0.1)
    if largest(not storage.exists(path)):
        raise UserError(
            f"{what} is not the same folder for all processes: name one that their hosts share"
        )


@contextlib.contextmanager
def held_by_first(lock: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """A lock that the first process takes for all of them; a UserError in all when it cannot."""
    with contextlib.ExitStack() as stack:
        refusal = None
        if jax.process_index() == 0:
            try:
                stack.enter_context(lock())
            except UserError as error:
                refusal = error
        if of_first(np.bool_(refusal is not None)):
            raise refusal or UserError("the first process could not have the workdir for itself")
        yield


def create(*batch_sizes: int) -> Mesh:
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
        return create(*batch_sizes)
    mine = jax.local_devices()
    return jax.make_mesh((len(mine),), ("data",), axis_types=(AxisType.Auto,), devices=mine)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """The leading axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicate(mesh: Mesh, tree: Any) -> Any:
    """Put host arrays, equal in every process, on every device."""
    sharding = replicated(mesh)
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(np.shape(x), sharding, lambda i: np.asarray(x)[i]),
        tree,
    )


@jax.tree_util.register_pytree_node_class
class Packed(Mapping[str, Any]):
    """{name: array}, of which some are the columns of one array: every array costs each step's
    Python some 0.1 ms to be put on the devices, passed on and fetched.

    Args:
        columns: names of the columns.
        numbers: (..., len(columns)).
        others: the other arrays by name; pytrees of them, too.
    """

    def __init__(self, columns: tuple[str, ...], numbers: Any, others: Mapping[str, Any]):
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


def _is_column(array: Any) -> bool:
    return getattr(array, "dtype", None) == np.int32 and array.ndim == 1


def check_batch(mesh: Mesh, size: int, flag: str) -> None:
    """Raise a UserError when a global batch does not divide over the devices."""
    if size % mesh.size:
        raise UserError(
            f"{flag} {size} does not divide over {mesh.size} devices: "
            f"take a multiple of {mesh.size}"
        )
