"""Saving and restoring with Orbax, the only file that knows of it."""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.typing import VariableDict
from jax.sharding import Mesh

from fgvc_jax.utils import watchdog
from fgvc_jax.utils.devices import replicated
from fgvc_jax.utils.errors import UserError, first_line
from fgvc_jax.utils.processes import of_first, wait_for_all
from fgvc_jax.workdir import locks, mirror, space, storage

# What a service or a collective says that fails, rather than a checkpoint that is damaged.
_NOT_DAMAGE = (
    *("RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "PERMISSION_DENIED"),
    *("Gloo", "NCCL"),
)
log = logging.getLogger(__name__)
T = TypeVar("T")

_ABOUT = "about.json"  # in the folder of a frozen member
SLACK = 2**20  # bytes that a checkpoint takes beside its arrays, at the most


class Checkpoints:
    """The checkpoints of one member's training, newest few kept, saved in the background.

    A save becomes visible by a rename once it is complete, so a kill at any moment leaves the
    earlier ones. Should the newest be damaged all the same, the one before it is taken.

    In a bucket every start has a folder of its own, `directory`/NUMBER by the number of its lease:
    what a run that has lost the lease still writes is in a folder that newer ones come before.
    """

    def __init__(self, directory: Path, mesh: Mesh, keep: int = 2):
        self._mesh = mesh
        self._directory = directory
        self._earlier: list[ocp.CheckpointManager] = []  # of a bucket's earlier starts
        self._saves = 0
        place: Path | str = directory.absolute()
        if there := mirror.of(directory):
            number = int(of_first(np.int32(locks.number(there.folder))))
            names = sorted(map(int, filter(str.isdecimal, there.children(directory))))
            base = there.address(directory)
            place = f"{base}/{number}"
            self._earlier = [
                _manager(f"{base}/{each}", read_only=True)
                for each in reversed(names)
                if each != number
            ]
        self._manager = _manager(place, max_to_keep=keep, cleanup_tmp_directories=True, create=True)

    def restore(self, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The newest readable checkpoint as a tree like `like`, on this mesh, or None.

        A damaged one is set aside, by the first process.

        Raises:
            UserError: when a checkpoint is sound but of another tree, which touches nothing, or
                when there are checkpoints and all of them are damaged.
        """
        managers = self._manager, *self._earlier
        steps = [(m, step) for m in managers for step in sorted(m.all_steps(), reverse=True)]
        for manager, step in steps:
            folder = manager.directory / str(step)
            try:
                _compare(folder / "default", like)
                return manager.restore(
                    step, args=ocp.args.StandardRestore(_abstract(like, self._mesh))
                )
            except Exception as error:  # Orbax names no common class for a damaged checkpoint
                _check_damage(folder, error)
                log.warning("checkpoint %d is damaged (%s)", step, first_line(error))
                if not mirror.of(self._directory):
                    if jax.process_index() == 0:
                        storage.rename(Path(folder), Path(folder).with_name(f"{step}.damaged"))
                    manager.reload()
        if steps:
            raise UserError(
                f"all checkpoints in {str(self._directory)!r} are damaged: "
                "remove that folder to train this member again"
            )
        return None

    @property
    def latest(self) -> int:
        """Step of the newest checkpoint, 0 without any."""
        steps = (manager.latest_step() for manager in (self._manager, *self._earlier))
        return next((step for step in steps if step is not None), 0)

    def save(self, step: int, tree: Mapping[str, Any]) -> None:
        """Start to save; returns once the arrays are copied.

        Raises:
            UserError: when there is no space for it, or the bucket is not reached; earlier
                checkpoints stay.
            Exception: what an earlier save in the background hit.
        """
        if step not in self._manager.all_steps():
            if not mirror.of(self._directory):
                space.check_space(self._directory, _bytes(tree))
            locks.check_lease(self._directory)
            with _told(self._directory):
                self._manager.save(step, args=ocp.args.StandardSave(tree))
            self._saves += 1
            if self._saves > 1:  # before it began, the first one was complete
                self._remove_earlier()

    def close(self) -> None:
        """Wait until everything is on disk."""
        with _told(self._directory):
            self._manager.wait_until_finished()
            self._manager.close()
        if self._saves:
            self._remove_earlier()

    def _remove_earlier(self) -> None:
        """Remove what earlier starts saved in a bucket."""
        earlier, self._earlier = self._earlier, []
        for manager in earlier:
            manager.close()
            if jax.process_index() == 0:
                storage.remove(self._directory / manager.directory.name)


def begun(directory: Path) -> bool:
    """Whether there is a checkpoint in the directory of `Checkpoints` to go on from."""
    there = mirror.of(directory)
    names = there.below(directory) if there else [p.name for p in storage.matching(directory, "*")]
    place = 1 if there else 0  # of the step: in a bucket behind the number of a start
    return any(each.isdecimal() for name in names for each in name.split("/")[place : place + 1])


def save_final(
    directory: Path, variables: VariableDict, about: Mapping[str, Any] | None = None
) -> None:
    """Write a frozen member; `directory` appears, or is replaced, only when it is complete.

    Args:
        directory: of it.
        variables: its own.
        about: what is to be known of it, as JSON; it appears with it, so that no kill parts them.

    Raises:
        UserError: when there is no space for it.
    """
    space.check_space(directory.parent, _bytes(variables))
    locks.check_lease(directory)
    beside = directory.with_name(f"{directory.name}.new")
    if not mirror.of(directory):
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(beside.absolute(), variables, force=True)
    elif jax.process_index() == 0:  # the others have no disk in common with it
        alone = ocp.options.MultiprocessingOptions(
            active_processes={0}, barrier_sync_key_prefix="first"
        )
        with ocp.StandardCheckpointer(multiprocessing_options=alone) as checkpointer:
            checkpointer.save(beside.absolute(), jax.device_get(variables), force=True)
    wait_for_all("a member is written")
    if jax.process_index() == 0:
        more = {} if about is None else {_ABOUT: json.dumps(about)}
        storage.replace_folder(beside, directory, more)
    wait_for_all("a member has its name")


def about(directory: Path) -> dict[str, Any] | None:
    """What was said of a frozen member as it was written; None where there is none, or no word."""
    storage.fetch_folder(directory)
    try:
        found = json.loads((directory / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def load_final(
    directory: Path, like: VariableDict, mesh: Mesh, *, what: str = "trained member"
) -> VariableDict:
    """Read a frozen member, or `what` else was frozen, as variables like `like`, replicated over
    the mesh.

    Raises:
        UserError: when it is of another network, or damaged.
    """
    storage.fetch_folder(directory)
    try:
        _compare(directory, like)
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(directory.absolute(), _abstract(like, mesh))
    except Exception as error:
        _check_damage(directory, error)
        there, way_out = storage.exists(directory), "python -m fgvc_jax.train trains it again"
        way_out = f"remove that folder, then {way_out}" if there else way_out
        if directory.name == "selected":
            way_out = "take --which final; only a new training selects again"
        state = f"damaged ({first_line(error)})" if there else "missing"
        raise UserError(f"the {what} in {str(directory)!r} is {state}: {way_out}") from error


def _check_damage(directory: Path, error: Exception) -> None:
    """Raise again what does not say that a checkpoint is damaged: a mismatch, or a failure of the
    system, in one line that advises no removal. Where it is that another process has gone, in the
    middle of a read that all take part in, this one ends here."""
    if isinstance(error, UserError):
        raise error
    watchdog.leave_if_one_is_gone()
    failed = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
    failed = failed or type(error).__name__ == "HttpError"  # of gcsfs
    if failed or isinstance(error, MemoryError) or any(word in str(error) for word in _NOT_DAMAGE):
        raise UserError(
            f"{str(directory)!r} could not be read ({first_line(error)}); nothing was changed, "
            "try again once that is mended"
        ) from error


@contextlib.contextmanager
def _told(directory: Path) -> Iterator[None]:
    """Turn what Orbax says of a bucket that it cannot write to into one line."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or not mirror.of(directory):
            raise
        raise UserError(
            f"a checkpoint could not be written to {str(directory)!r} ({first_line(error)}): "
            "earlier ones stay; the same command continues"
        ) from error


def _manager(directory: Path | str, **options: Any) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(directory, options=ocp.CheckpointManagerOptions(**options))


def _compare(directory: Path, like: VariableDict) -> None:
    """Raise a UserError that names the first array in which a sound checkpoint is not like `like`.

    Whatever else it raises says that the checkpoint is damaged.
    """
    # A URL has no other form, and would be taken for a relative path.
    place = directory if mirror.is_url(str(directory)) else directory.absolute()
    with ocp.StandardCheckpointer() as checkpointer:
        stored = checkpointer.metadata(place).item_metadata.tree
    theirs, ours = _shapes(stored), _shapes(like)
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            raise UserError(
                f"{str(directory)!r} is of another network or optimizer: {name} is "
                f"{theirs.get(name, 'not')} there and {ours.get(name, 'not')} here; nothing was "
                "changed, name another --workdir"
            )


def _shapes(tree: object) -> dict[str, tuple[int, ...]]:
    """Shape of every array by its place, whatever containers the places are in."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x.shape for path, x in leaves}


def _bytes(tree: object) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) + SLACK


def _abstract(like: T, mesh: Mesh) -> T:
    sharding = replicated(mesh)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like)
