"""Paths as users type them, and what may be read and written there."""

import ctypes
import errno
import os
import re
import sys
from pathlib import Path
from typing import IO, Any

from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import is_utf8

LONGEST_NAME = 255  # bytes, on every common file system
_RENAME_EXCHANGE = _RENAME_SWAP = 2  # of Linux and macOS
_HERE = -100  # AT_FDCWD of Linux
# s3://bucket/x, and misspelt gs:/bucket/x, gs:bucket/x, gs//bucket/x.
_URL = re.compile(r"[a-z][a-z0-9+.-]*:/|(gs|gcs|s3)(:|//)", re.IGNORECASE)


def local(text: str, what: str) -> Path:
    """The path that a user typed, with `~` and `~user` expanded; nothing need be there.

    Args:
        text: as typed.
        what: the option or the kind of file, for the message.

    Raises:
        UserError: for an empty path, an address elsewhere, an unknown user, or a name that no file
            can have.
    """
    if not text:
        raise UserError(f"{what} is empty: name a path, such as . for this folder")
    if _URL.match(text):
        raise UserError(
            f"{what} {text!r} is no path of this machine: name one (./{text} is a local one)"
        )
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise UserError(f"{what} {text!r}: nobody here has the home folder {path.split('/')[0]!r}")
    longest = max(len(os.fsencode(name)) for name in path.split("/"))
    if longest > LONGEST_NAME:
        raise UserError(
            f"{what} {text[:20] + '...'!r} has a name of {longest} bytes, and {LONGEST_NAME} are "
            "the most: shorten it"
        )
    if "\0" in path:
        raise UserError(f"{what} {text!r} has a null character in it")
    return Path(path)


def cache() -> Path:
    """The program's folder among the user's caches, which need not be there.

    Raises:
        FileNotFoundError: for a user without a home, as in a container whose user has no name.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if base.startswith("~"):
        raise FileNotFoundError(errno.ENOENT, "this user has no home folder")
    return Path(base) / "fgvc_jax"


def workdir(text: str, what: str = "--workdir") -> Path:
    """As `local`, for a folder that checkpoints are written to."""
    path = local(text, what)
    if not is_utf8(text):
        raise UserError(f"{what} {text!r} is not UTF-8, as checkpoints want: rename it")
    return path


def output(text: str, what: str = "--output") -> Path:
    """The file to write, as an option names it; refused before the work begins if it cannot be.

    Raises:
        UserError: for a missing folder, or one that cannot be written.
    """
    path = local(text, what)
    if not os.path.isdir(path.parent):
        folder = str(path.parent)
        raise UserError(f"{what} {text!r}: there is no folder {folder!r}; make it first")
    another = os.path.exists(path) and not os.path.isfile(path)  # a device would be replaced, too
    if another or not os.access(path.parent, os.W_OK):
        raise UserError(f"{what} {text!r} cannot be written there: name a file, elsewhere")
    return path


def above(folder: Path, file: str | Path) -> Path:
    """The lowest folder above both, as it is named from here."""
    return Path(
        os.path.relpath(os.path.commonpath([os.path.abspath(folder), os.path.abspath(file)]))
    )


def readable(path: Path) -> Path:
    """The path of something to read; OSError for a pipe or a device, whose end may never come."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return path


def in_place(path: Path, mode: str) -> IO:
    """A file that is written where it is, and not beside and renamed: of UTF-8, or of bytes, which
    are not buffered. OSError for a pipe, a device, or a link, whose target would be written."""
    how: dict[str, Any] = {"buffering": 0} if "b" in mode else {"encoding": "utf-8"}
    return open(readable(path), mode, opener=_no_link, **how)


def _no_link(name: str, flags: int) -> int:
    try:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(errno.ELOOP, "it is a symbolic link", name) from error


def exchange(one: Path, other: Path) -> bool:
    """Have two folders change names in one step; False where the system or a network's file system
    cannot."""
    libc, names = ctypes.CDLL(None), (os.fsencode(one), os.fsencode(other))
    if sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        return libc.renamex_np(*names, _RENAME_SWAP) == 0
    if hasattr(libc, "renameat2"):
        return libc.renameat2(_HERE, names[0], _HERE, names[1], _RENAME_EXCHANGE) == 0
    return False
