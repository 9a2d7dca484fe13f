"""Which files of several parts have the same content."""

import hashlib
import os
from collections.abc import Callable
from typing import Any

PAGE = 4096


def shared_files(files: list[tuple[str, str, str, int]]) -> list[list[tuple[str, str, str, int]]]:
    """Groups of (part, name, path, bytes), whose content is the same in several parts.

    Only files of equal size are read, and of these at first a page: what differs, differs there.
    """
    found = _in_several_parts([files], lambda file: file[3])
    found = _in_several_parts(found, lambda file: _digest(file[2], PAGE))
    return _in_several_parts(found, lambda file: _digest(file[2], -1))


def _in_several_parts(groups: list[list[Any]], key: Callable[[Any], Any]) -> list[list[Any]]:
    """The groups divided by `key`; only groups with files of several parts are left."""
    found = []
    for group in groups:
        by_key: dict[Any, list[Any]] = {}
        for file in group:
            by_key.setdefault(key(file), []).append(file)
        found += [files for files in by_key.values() if len({part for part, *_ in files}) > 1]
    return found


def _digest(path: str, size: int) -> bytes:
    """Digest of the first `size` bytes of a file, of all where it is negative; its path where it
    cannot be read, which is told when it is looked at."""
    try:
        with open(path, "rb") as stream:
            return hashlib.sha256(stream.read(size)).digest()
    except OSError:
        return os.fsencode(path)
