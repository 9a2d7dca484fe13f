"""Free space on the disk, asked for before something large is written."""

import shutil
from pathlib import Path

from fgvc_jax.utils.errors import UserError, reason


def existing(folder: Path) -> Path:
    """A folder, or the nearest of its parents that exists."""
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
    except OSError as error:
        raise UserError(f"{str(folder)!r} cannot be used ({reason(error)})") from error
    return folder


def free_space(folder: Path) -> int:
    """Free bytes of the disk that a folder, which may not exist yet, is on."""
    return shutil.disk_usage(existing(folder)).free


def check_space(folder: Path, needed: int) -> None:
    """Raise a UserError where fewer than `needed` bytes are free: asked for before a write, since
    one that runs out of space ends in tracebacks of threads."""
    if (free := free_space(folder)) < needed:
        raise UserError(
            f"no space left on the disk: {str(folder)!r} needs {needed / 2**20:.1f} MiB, "
            f"{free / 2**20:.1f} are free; free some, then the same command continues"
        )
