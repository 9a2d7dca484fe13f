"""Precomputed teacher attention: one map per training image and view, for any number of members.

The orthogonal loss is linear in |Z_teacher|, and a view of an image is a pure function of (seed,
view, id). So the sum over the frozen members of |Z| is all that the next member needs, and its
training step costs what a step without teachers costs.
"""

import re
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fgvc_jax.utils import digests
from fgvc_jax.utils.processes import of_first
from fgvc_jax.workdir import storage

_NAME = re.compile(r"view(\d+)\.([0-9a-f]{16})\.crc([0-9a-f]{8})\.npy")
MAPPED = 8  # views that are open at a time: each takes a descriptor


class AttentionMaps:
    """Sum over members of |Z| of every training image, one memory-mapped file per view.

    A file's name tells the view, the digest of all that made it (images, view, seed and the members
    summed in it, in order) and its checksum, so that it serves nobody else. It is replaced by a
    rename, the old one removed after; so there is one copy (and, for a moment, two of a single
    view), a kill leaves every view readable, and adding a member goes on where it stopped. A file
    that is missing or damaged is made again from the members, with the same bits: the sum is
    rounded to float16 after each member, wherever it began.

    Args:
        folder: where the files are.
        views: number of views, counted from 0.
        shape: (images, h, w) of one view.
        content: digest of the images, the view and its seed.
    """

    def __init__(self, folder: Path, *, views: int, shape: tuple[int, int, int], content: str):
        self._folder = folder
        self._views = views
        self._shape = shape
        self._content = content
        self._members: list[str] = []
        self._open: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def add(
        self,
        members: Sequence[tuple[str, Any]],
        attention: Callable[[Any, int], np.ndarray],
        *,
        write: bool,
        progress: Callable[[str], None],
    ) -> None:
        """Bring every view to the sum over `members`.

        Args:
            members: (digest, what `attention` takes) of the frozen members, in order.
            attention: (member, view) -> (images, h, w) float32 |Z| of all training images.
            write: whether this process writes; the others compute along and read.
            progress: told in words what is being done.
        """
        self._members = [digest for digest, _ in members]
        self._open.clear()
        told = False
        for view in range(self._views):
            total, found = self._load(view)
            # The first process looks for all: a file system may show others an older listing.
            summed = int(of_first(np.int32(found)))
            if summed == len(members):
                continue
            if not told:
                progress(f"attention of member {len(members)} in {self._views} views")
                told = True
            total = np.zeros(self._shape, np.float16) if found != summed or not found else total
            for _, member in members[summed:]:
                total = (total.astype(np.float32) + attention(member, view)).astype(np.float16)
            if write:
                self._store(view, total)

    def mean(self, view: int, rows: np.ndarray) -> np.ndarray:
        """Mean over the members of |Z| in a view: rows (b,) -> (b, h, w) float32.

        Zero while there is no member.
        """
        if not self._members:
            return np.zeros((len(rows), *self._shape[1:]), np.float32)
        return self._map(view)[rows].astype(np.float32) / len(self._members)

    def _map(self, view: int) -> np.ndarray:
        """A view, mapped into memory while it is among the last few asked for."""
        with self._lock:
            if view not in self._open:
                maps, summed = self._load(view)
                if summed != len(self._members):
                    raise FileNotFoundError(f"the attention maps of view {view} are gone")
                self._open[view] = maps
                if len(self._open) > MAPPED:
                    self._open.popitem(last=False)
            self._open.move_to_end(view)
            return self._open[view]

    def _key(self, count: int) -> str:
        """What the sum over the first `count` members is known by."""
        return digests.of_value([self._content, self._members[:count]])[:16]

    def _load(self, view: int) -> tuple[np.ndarray | None, int]:
        """The intact file of a view with the most members: (map or None, members)."""
        found = {}
        for path in storage.matching(self._folder, f"view{view:05d}.*.npy"):
            if name := _NAME.fullmatch(path.name):
                found[name[2]] = int(name[3], 16), path
        for count in range(len(self._members), 0, -1):
            checksum, path = found.get(self._key(count), (0, None))
            if path is None:
                continue
            try:
                maps = storage.map_array(path)
            except (OSError, ValueError):
                continue
            fits = maps.shape == self._shape and maps.dtype == np.float16
            if fits and zlib.crc32(maps) == checksum:
                return maps, count
        return None, 0

    def _store(self, view: int, total: np.ndarray) -> None:
        """Write a view's sum over all members and remove what it replaces."""
        name = f"view{view:05d}.{self._key(len(self._members))}.crc{zlib.crc32(total):08x}.npy"
        storage.write_array(self._folder / name, total)
        for path in storage.matching(self._folder, f"view{view:05d}.*"):
            if path.name != name:
                storage.remove(path)
