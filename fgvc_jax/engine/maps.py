"""Precomputed teacher attention: one map per training image and view, for any number of members.

The orthogonal loss is linear in |Z_teacher|, and a view of an image is a pure function of (seed,
view, id). So the sum over the frozen members of |Z| is all that the next member needs, and its
training step costs what a step without teachers costs.
"""

import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_NAME = re.compile(r"view(\d+)\.members(\d+)\.crc([0-9a-f]{8})\.npy")


class AttentionMaps:
    """Sum over members of |Z| of every training image, one memory-mapped file per view.

    A file's name tells the view, how many members are summed in it and its checksum. It is replaced
    by a rename, the old one removed after; so there is one copy (and, for a moment, two of a single
    view), a kill leaves every view readable, and adding a member goes on where it stopped. A file
    that is missing or damaged is made again from the members.

    Args:
        folder: where the files are.
        views: number of views, counted from 0.
        shape: (images, h, w) of one view.
    """

    def __init__(self, folder: Path, *, views: int, shape: tuple[int, int, int]):
        self._folder = folder
        self._views = views
        self._shape = shape
        self._maps: list[np.ndarray] = []
        self._members = 0

    def add(
        self,
        members: list[Any],
        attention: Callable[[Any, int], np.ndarray],
        *,
        write: bool,
        progress: Callable[[str], None],
    ) -> None:
        """Bring every view to the sum over `members`.

        Args:
            members: variables of the frozen members, in order.
            attention: (variables, view) -> (images, h, w) float32 |Z| of all training images.
            write: whether this process writes; the others compute along and read.
            progress: told in words what is being done.
        """
        told = False
        for view in range(self._views):
            total, summed = self._load(view, len(members))
            if summed == len(members):
                continue
            if not told:
                progress(f"attention of member {len(members)} in {self._views} views")
                told = True
            total = np.zeros(self._shape, np.float32) if total is None else total.astype(np.float32)
            for variables in members[summed:]:
                total += attention(variables, view)
            if write:
                self._store(view, len(members), total.astype(np.float16))
        self._members = len(members)

    def open(self) -> None:
        """Map the files of all views into memory."""
        self._maps = [self._load(view, self._members)[0] for view in range(self._views)]

    def mean(self, view: int, rows: np.ndarray) -> np.ndarray:
        """Mean over the members of |Z| in a view: rows (b,) -> (b, h, w) float32.

        Zero while there is no member.
        """
        if not self._members:
            return np.zeros((len(rows), *self._shape[1:]), np.float32)
        return self._maps[view][rows].astype(np.float32) / self._members

    def _load(self, view: int, most: int) -> tuple[np.ndarray | None, int]:
        """The intact file of a view with the most members, up to `most`: (map or None, members)."""
        found = []
        for path in self._folder.glob(f"view{view:05d}.*.npy"):
            name = _NAME.fullmatch(path.name)
            if name and int(name[2]) <= most:
                found.append((int(name[2]), int(name[3], 16), path))
        for members, checksum, path in sorted(found, reverse=True):
            try:
                maps = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError):
                continue
            fits = maps.shape == self._shape and maps.dtype == np.float16
            if fits and zlib.crc32(maps) == checksum:
                return maps, members
        return None, 0

    def _store(self, view: int, members: int, maps: np.ndarray) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        older = list(self._folder.glob(f"view{view:05d}.*"))
        name = f"view{view:05d}.members{members:02d}.crc{zlib.crc32(maps):08x}.npy"
        partial = self._folder / f"view{view:05d}.partial"
        with partial.open("wb") as file:
            np.save(file, maps)
        partial.replace(self._folder / name)
        for path in older:
            if path.name != name:
                path.unlink(missing_ok=True)
