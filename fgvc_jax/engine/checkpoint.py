"""Saving and restoring with Orbax, the only file that knows of it."""

import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from fgvc_jax.engine.mesh import replicated
from fgvc_jax.errors import UserError

log = logging.getLogger(__name__)

SLACK = 2**20  # bytes that a checkpoint takes beside its arrays, at the most


class Checkpoints:
    """The checkpoints of one member's training, newest few kept, saved in the background.

    A save becomes visible by a rename once it is complete, so a kill at any moment leaves the
    earlier ones. Should the newest not be readable all the same, the one before it is taken.
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

        Raises:
            UserError: when there are checkpoints and none of them can be read.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                return self._manager.restore(
                    step, args=ocp.args.StandardRestore(_abstract(like, self._mesh))
                )
            except Exception as error:  # Orbax names no common class for a damaged checkpoint
                log.warning("checkpoint %d is not readable (%s)", step, _first_line(error))
                damaged = Path(self._manager.directory) / str(step)
                damaged.rename(damaged.with_name(f"{step}.damaged"))
                self._manager.reload()
        if steps:
            raise UserError(
                f"no checkpoint in {str(self._manager.directory)!r} can be read: "
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
            _check_space(Path(self._manager.directory), tree)
            self._manager.save(step, args=ocp.args.StandardSave(tree))

    def close(self) -> None:
        """Wait until everything is on disk."""
        self._manager.wait_until_finished()
        self._manager.close()


def save_final(directory: Path, variables: Any) -> None:
    """Write a frozen member; `directory` appears only when it is complete.

    Raises:
        UserError: when there is no space for it.
    """
    _check_space(directory.parent, variables)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(directory.absolute(), variables, force=True)


def load_final(directory: Path, like: Any, mesh: Mesh) -> Any:
    """Read a frozen member as variables like `like`, replicated over the mesh.

    Raises:
        UserError: when it cannot be read or is of another network.
    """
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(directory.absolute(), _abstract(like, mesh))
    except Exception as error:
        raise UserError(
            f"the trained member in {str(directory)!r} cannot be read ({_first_line(error)}): "
            "remove that folder to train it again"
        ) from error


def _check_space(folder: Path, tree: Any) -> None:
    """Ask for space before a save: one that runs out of it ends in tracebacks of threads."""
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) + SLACK
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"no space left on the disk: a checkpoint in {str(folder)!r} needs "
            f"{needed / 2**20:.1f} MiB, {free / 2**20:.1f} are free; free some, "
            "then the same command continues"
        )


def _abstract(like: Any, mesh: Mesh) -> Any:
    sharding = replicated(mesh)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
