"""What a frozen network says of every image in every view, computed once and looked up after.

A view of an image is a pure function of (seed, view, id), and a frozen network never changes. So
what a trunk makes of a view, or an ensemble answers for it, serves every epoch, member, run and
study that shows that view.
"""

import logging
import re
import threading
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.processes import of_first
from fgvc_jax.workdir import storage

MAPPED = 8  # views that are open at a time: each takes a descriptor
log = logging.getLogger(__name__)


class Features:
    """The features of a set of images, one memory-mapped file per view.

    A file is called CONTENT.view00000.crc01234567.npy: CONTENT is the digest of all that made it,
    then come the view and the checksum, so that it serves nobody else. It holds a record for each
    image, in their order, with the arrays by name, and appears by a rename once it is whole: a kill
    costs the view that is being made and no other.

    Args:
        folder: where the files are; runs may share it.
        shapes: of one image's arrays, by name.
        count: number of images.
        content: digest of the network, the images and how they are shown, but for the view's
            number.
        what: they are, for messages.
        broken: why they may not be finite.
    """

    def __init__(
        self,
        folder: Path,
        *,
        shapes: Mapping[str, tuple[int, ...]],
        count: int,
        content: str,
        what: str,
        broken: str,
    ):
        self._folder = folder
        self._dtype = np.dtype([(name, np.float16, shapes[name]) for name in sorted(shapes)])
        self._count = count
        self._content = content[:32]
        self._what = what
        self._broken = broken
        self._name = re.compile(rf"{self._content}\.view(\d+)\.crc([0-9a-f]{{8}})\.npy")
        self._intact: dict[int, Path] = {}
        self._open: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def bytes_per_view(self) -> int:
        """Size of a view's file, but for its header."""
        return self._count * self._dtype.itemsize

    def missing(self, views: Iterable[int]) -> list[int]:
        """Those of the views that have no intact file, as the first process sees it."""
        views = list(views)
        for view in views:
            self._find(view)
        return [v for v, there in zip(views, self._all_there(views), strict=True) if not there]

    def _all_there(self, views: list[int]) -> list[bool]:
        return of_first(np.array([view in self._intact for view in views], bool)).tolist()

    def make(self, view: int, parts: Iterable[dict[str, Any]], *, write: bool) -> None:
        """Write the features of a view.

        Args:
            view: its number.
            parts: batches with "row", "mask" and, under "features", arrays by name; in any order.
            write: whether this process writes; the others compute along.

        Raises:
            UserError: when features are not finite, or cannot be written.
        """
        if not write:
            for part in parts:
                jax.block_until_ready(part)
            return
        # Another run may make the same: until the checksum is known each has a name of its own.
        whole = self._folder / f"{self._content}.view{view:05d}.{uuid.uuid4().hex[:8]}.npy"
        with storage.new_array(whole, (self._count,), self._dtype) as kept:
            for part in parts:
                part = jax.device_get(part)
                rows = part["row"][part["mask"]]
                for name, array in part["features"].items():
                    array = array[part["mask"]]
                    if not np.isfinite(array).all():
                        raise UserError(f"{self._what} are not finite numbers: {self._broken}")
                    kept[name][rows] = array
            checksum = _checksum(kept)
        named = self._folder / (f"{self._content}.view{view:05d}.crc{checksum:08x}.npy")
        storage.rename(whole, named)
        self._intact[view] = named

    def rows(self, view: int, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Features of images in a view: rows (b,) -> arrays (b, ...) float16 by name."""
        records = self._map(view)[rows]
        return {name: np.ascontiguousarray(records[name]) for name in self._dtype.names}

    def _map(self, view: int) -> np.ndarray:
        """A view, mapped into memory while it is among the last few asked for."""
        with self._lock:
            if view not in self._open:
                if view not in self._intact:
                    self._find(view)
                if view not in self._intact:
                    raise UserError(
                        f"the {self._what} of view {view} in {str(self._folder)!r} are gone: "
                        "the same command makes them again"
                    )
                self._open[view] = storage.map_array(self._intact[view])
                if len(self._open) > MAPPED:
                    self._open.popitem(last=False)
            self._open.move_to_end(view)
            return self._open[view]

    def _find(self, view: int) -> None:
        """Look for an intact file of a view, once; damaged ones are told of and passed over."""
        if view in self._intact:
            return
        for path in storage.matching(self._folder, f"{self._content}.view{view:05d}.crc*.npy"):
            name = self._name.fullmatch(path.name)
            try:
                records = storage.map_array(path)
                fits = records.shape == (self._count,) and records.dtype == self._dtype
            except (OSError, ValueError):
                fits = False
            if name and fits and _checksum(records) == int(name[2], 16):
                self._intact[view] = path
                return
            log.warning("%s is damaged: it is made again", path)


def _checksum(records: np.ndarray) -> int:
    """CRC-32 of all bytes, read in pieces."""
    flat = records.view(np.uint8).reshape(-1)
    value = 0
    for start in range(0, len(flat), 2**24):
        value = zlib.crc32(flat[start : start + 2**24], value)
    return value
