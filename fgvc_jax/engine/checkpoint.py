"""Saving and restoring with Orbax, the only file that knows of it."""

import logging
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from fgvc_jax import locks, storage
from fgvc_jax.engine.mesh import replicated, wait_for_all
from fgvc_jax.errors import UserError

log = logging.getLogger(__name__)

SLACK = 2**20  # bytes that a checkpoint takes beside its arrays, at the most


class Checkpoints:
    """The checkpoints of one member's training, newest few kept, saved in the background.

    A save becomes visible by a rename once it is complete, so a kill at any moment leaves the
    earlier ones. Should the newest be damaged all the same, the one before it is taken.
    """

    def __init__(self, directory: Path, mesh: Mesh, keep: int = 2):
        self._mesh = mesh
        self._manager = ocp.CheckpointManager(
            directory.absolute(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep, cleanup_tmp_directories=True, create=True
            ),
        )

    def restore(self, like: Any) -> Any | None:
        """The newest readable checkpoint as a tree like `like`, on this mesh, or None.

        A damaged one is set aside, by the first process.

        Raises:
            UserError: when a checkpoint is sound but of another tree, which touches nothing, or
                when there are checkpoints and all of them are damaged.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            folder = Path(self._manager.directory) / str(step)
            try:
                _compare(folder / "default", like)
                return self._manager.restore(
                    step, args=ocp.args.StandardRestore(_abstract(like, self._mesh))
                )
            except Exception as error:  # Orbax names no common class for a damaged checkpoint
                _check_damage(folder, error)
                log.warning("checkpoint %d is damaged (%s)", step, _first_line(error))
                if jax.process_index() == 0:
                    storage.rename(folder, folder.with_name(f"{step}.damaged"))
                self._manager.reload()
        if steps:
            raise UserError(
                f"all checkpoints in {str(self._manager.directory)!r} are damaged: "
                "remove that folder to train this member again"
            )
        return None

    @property
    def latest(self) -> int:
        """Step of the newest checkpoint, 0 without any."""
        return self._manager.latest_step() or 0

    def save(self, step: int, tree: Any) -> None:
        """Start to save; returns once the arrays are copied.

        Raises:
            UserError: when there is no space for it; earlier checkpoints stay.
            Exception: what an earlier save in the background hit.
        """
        if step not in self._manager.all_steps():
            storage.check_space(Path(self._manager.directory), _bytes(tree))
            locks.check_lease(Path(self._manager.directory))
            self._manager.save(step, args=ocp.args.StandardSave(tree))

    def close(self) -> None:
        """Wait until everything is on disk."""
        self._manager.wait_until_finished()
        self._manager.close()


def save_final(directory: Path, variables: Any) -> None:
    """Write a frozen member; `directory` appears, or is replaced, only when it is complete.

    Raises:
        UserError: when there is no space for it.
    """
    storage.check_space(directory.parent, _bytes(variables))
    locks.check_lease(directory)
    beside = directory.with_name(f"{directory.name}.new")
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(beside.absolute(), variables, force=True)
    wait_for_all("a member is written")
    if jax.process_index() == 0:
        storage.replace_folder(beside, directory)
    wait_for_all("a member has its name")


def load_final(directory: Path, like: Any, mesh: Mesh, *, what: str = "trained member") -> Any:
    """Read a frozen member, or `what` else was frozen, as variables like `like`, replicated over
    the mesh.

    Raises:
        UserError: when it is of another network, or damaged.
    """
    try:
        _compare(directory, like)
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(directory.absolute(), _abstract(like, mesh))
    except Exception as error:
        _check_damage(directory, error)
        way_out = "remove that folder, then python -m fgvc_jax.train makes it again"
        if directory.name == "selected":
            way_out = "take --which final; only a new training selects again"
        raise UserError(
            f"the {what} in {str(directory)!r} is missing or damaged ({_first_line(error)}): "
            f"{way_out}"
        ) from error


def _check_damage(directory: Path, error: Exception) -> None:
    """Raise again what does not say that a checkpoint is damaged: a mismatch, or a failure of the
    system, in one line that advises no removal."""
    if isinstance(error, UserError):
        raise error
    failed = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
    if failed or isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        raise UserError(
            f"{str(directory)!r} could not be read ({_first_line(error)}); nothing was changed, "
            "try again once that is mended"
        ) from error


def _compare(directory: Path, like: Any) -> None:
    """Raise a UserError that names the first array in which a sound checkpoint is not like `like`.

    Whatever else it raises says that the checkpoint is damaged.
    """
    with ocp.StandardCheckpointer() as checkpointer:
        stored = checkpointer.metadata(directory.absolute()).item_metadata.tree
    theirs, ours = _shapes(stored), _shapes(like)
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            raise UserError(
                f"{str(directory)!r} is of another network or optimizer: {name} is "
                f"{theirs.get(name, 'not')} there and {ours.get(name, 'not')} here; nothing was "
                "changed, name another --workdir"
            )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Shape of every array by its place, whatever containers the places are in."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x.shape for path, x in leaves}


def _bytes(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) + SLACK


def _abstract(like: Any, mesh: Mesh) -> Any:
    sharding = replicated(mesh)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
