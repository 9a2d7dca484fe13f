"""The processes of one run: how they meet, agree, wait and end together."""

import contextlib
import json
import os
import socket
import time
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

import fgvc_jax
from fgvc_jax.utils import options, watchdog
from fgvc_jax.utils.digests import of_program
from fgvc_jax.utils.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound=np.ndarray | np.generic)
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
        given: dict[str, Any] = {}
        if address and count and index:
            given = dict(
                coordinator_address=address, num_processes=int(count), process_id=int(index)
            )
        watchdog.await_others()
        jax.distributed.initialize(**given, heartbeat_timeout_seconds=watchdog.SILENT)
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        if "Failed to start RPC server" in reason:
            raise UserError(
                f"--distributed cannot listen at the port of {address or 'the first process'}, "
                "which is in use, or may not: name another one to all processes"
            ) from error
        raise UserError(
            f"--distributed could not join the other processes ({reason}): "
            f"on a machine that is no known cluster, set {', '.join(names)}"
        ) from error
    if jax.process_count() > 1:
        if jax.default_backend() == "cpu":
            # Of programs for CPUs JAX keeps only the first process's. That one would wait in a
            # collective while the others compile, and Gloo gives up after 30 seconds.
            jax.config.update("jax_enable_compilation_cache", False)
        meet = partial(wait_for_all, "the command has ended")
        watchdog.watch(meet, is_first=jax.process_index() == 0)


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


def of_first(value: T) -> T:
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


def gathered(mine: list[Any]) -> list[Any]:
    """The lists of all processes as one, in their order; of what JSON can hold."""
    if jax.process_count() == 1:
        return mine
    text = np.frombuffer(json.dumps(mine).encode(), np.uint8)
    padded = np.full(largest(len(text)), ord(" "), np.uint8)
    padded[: len(text)] = text
    rows = multihost_utils.process_allgather(padded)
    return [each for row in rows for each in json.loads(row.tobytes())]


def check_alike(asked: "DataclassInstance", elsewhere: Collection[str]) -> None:
    """Raise a UserError in all processes where one of them was asked for something else than the
    first, or runs another version of the program: each would compile a program of its own, wait for
    what the others never send, or go on with other numbers than they.

    Args:
        asked: the options of this process.
        elsewhere: patterns of flags that say where something is, which on another host may be
            another place.
    """
    if jax.process_count() == 1:
        return
    own = {"fgvc_jax": f"{fgvc_jax.__version__} ({of_program()[:12]})", "jax": jax.__version__}
    own |= {
        flag: repr(value)
        for flag, _, value in options.fields(asked)
        if not any(fnmatchcase(flag, pattern) for pattern in elsewhere)
    }
    first, *others = gathered([own])
    for number, other in enumerate(others, start=1):
        for name in (*first, *other):
            if first.get(name) != other.get(name):
                raise UserError(
                    f"processes of one run are to be started alike: {name} is {first.get(name)} in "
                    f"process 0 and {other.get(name)} in process {number}"
                )


def check_shared(is_seen: Callable[[], bool], what: str) -> None:
    """Raise a UserError in all processes when one of them does not see a file that the first has
    written, which `is_seen` tells: their hosts do not share its folder, which is `what`."""
    if jax.process_count() == 1:
        return
    wait_for_all("a file is written")
    deadline = time.monotonic() + SHOWN
    while not is_seen() and time.monotonic() < deadline:
        time.sleep(0.1)
    if largest(not is_seen()):
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
