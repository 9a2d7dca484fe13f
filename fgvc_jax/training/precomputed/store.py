"""The one store for what is computed once, memory-mapped, a file per view: outputs of frozen
networks for images, and the decoded images themselves.

A view of an image is a pure function of (seed, view, id), and a frozen network never changes. So
its output for a view serves every epoch, member, run and study that shows that view.
"""

import logging
import re
import threading
import time
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from numpy.typing import DTypeLike

from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.processes import SHOWN, of_first
from fgvc_jax.utils.text import Json
from fgvc_jax.workdir import storage

MAPPED = 8  # views that are open at a time: each takes a descriptor
log = logging.getLogger(__name__)

# (batch, decoded images on the devices) -> arrays (B, ...) by name, where the batch's rows are.
Compute = Callable[[Mapping[str, Any], jax.Array | None], Mapping[str, jax.Array]]


class Layout(NamedTuple):
    """What a file holds."""

    name: str  # which it begins with
    shapes: Mapping[str, tuple[int, ...]]  # of one image's arrays, by name
    dtype: DTypeLike = np.float16  # of all of them
    grows: bool = False  # whether of a view only the newest one is kept


class Output(NamedTuple):
    """One output of a frozen network for a view of an image."""

    name: str  # files begin with it
    compute: Compute
    shapes: Mapping[str, tuple[int, ...]]  # of one image's arrays, by name
    known: Json  # all that they depend on but the images and the view's number, as JSON has it
    parts: Sequence[str]  # of `digests.NUMERICS` that the network computes with
    needs: tuple[str, ...] = ()  # names of the outputs that a batch must have before
    # Whether it is stored in batches of the training's size, rounded as in a step; else in those of
    # evaluation, which are larger.
    as_in_step: bool = False
    # Of a sum that grows: the earlier sums, the latest first, and what goes on from each when the
    # batch has it. Of a view one file is kept, that of the newest sum.
    earlier: Sequence[tuple["Output", Compute]] | None = None
    room: float = 1.0  # what it takes of the budget, in times its own size

    @property
    def layout(self) -> Layout:
        """Of the files that it is stored in."""
        return Layout(self.name, self.shapes, grows=self.earlier is not None)


class Told(Protocol):
    """How people are told of what is stored."""

    what: str  # it is
    broken: str  # why it may not be finite


class Frozen(Told, Protocol):
    """A frozen network, and how people are told of its outputs."""

    instead: str  # what happens where they are not stored

    def outputs(self, part: str) -> Mapping[str, Output]:
        """Its outputs for an image of a part of the data, by their names in a batch."""
        ...


class Store:
    """What is known of each image of a set, as an output of a frozen network.

    A file is called NAME.view00000.CONTENT.crc01234567.npy: CONTENT is the digest of all that made
    it, at the end stands the checksum; so it is never served for anything else. It holds a record
    of arrays for each image, in their order, and appears by a rename once it is whole: a
    kill costs the view that is being made and no other.

    Args:
        folder: where the files are; runs may share it.
        layout: of the files.
        count: number of images.
        content: digest of all that made it, but for the view's number.
        of: what is stored, for messages.
    """

    def __init__(self, folder: Path, layout: Layout, *, count: int, content: str, of: Told):
        self.folder = folder
        self._name = layout.name
        self._grows = layout.grows
        self._names = sorted(layout.shapes)
        self._dtype = np.dtype([(name, layout.dtype, layout.shapes[name]) for name in self._names])
        self.count = count
        self._content = content[:32]
        self._of = of
        self._intact: dict[int, Path] = {}
        self._open: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def bytes_per_view(self) -> int:
        """Size of a view's file, but for its header."""
        return self.count * self._dtype.itemsize

    def missing(self, views: Iterable[int]) -> list[int]:
        """Those of the views that have no intact file, as the first process sees it."""
        views = list(views)
        there = of_first(np.array([self.has(view) for view in views], bool)).tolist()
        return [view for view, found in zip(views, there, strict=True) if not found]

    def has(self, view: int) -> bool:
        """Whether there is an intact file of a view, as this process sees it; damaged ones are told
        of and passed over."""
        if view in self._intact:
            return True
        begin = f"{self._name}.view{view:05d}.{self._content}"
        for path in storage.matching(self.folder, f"{begin}.crc*.npy"):
            checksum = re.fullmatch(r"crc([0-9a-f]{8})\.npy", path.name[len(begin) + 1 :])
            try:
                records = storage.map_array(path)
                fits = records.shape == (self.count,) and records.dtype == self._dtype
            except (OSError, ValueError):
                fits = False
            if checksum and fits and _checksum(records) == int(checksum[1], 16):
                self._intact[view] = path
                return True
            log.warning("%s is damaged: it is made again", path)
        return False

    def make(self, view: int, batches: Iterable[dict[str, Any]], *, write: bool) -> None:
        """Write a view.

        Args:
            view: its number.
            batches: with "row", "mask" and, under "output", arrays by name; in any order.
            write: whether this process writes; the others compute along.

        Raises:
            UserError: when an output is not finite, or cannot be written.
        """
        if not write:
            for batch in batches:
                jax.block_until_ready(batch)
            return
        # Another run may make the same: until the checksum is known each has a name of its own.
        begin = f"{self._name}.view{view:05d}."
        whole = self.folder / f"{begin}{self._content}.{uuid.uuid4().hex[:8]}.npy"
        with storage.new_array(whole, (self.count,), self._dtype) as records:
            for batch in batches:
                batch = jax.device_get(batch)
                rows = batch["row"][batch["mask"]]
                for name, array in batch["output"].items():
                    array = array[batch["mask"]]
                    if array.dtype.kind != "u" and not np.isfinite(array).all():
                        raise UserError(
                            f"{self._of.what} are not finite numbers: {self._of.broken}"
                        )
                    records[name][rows] = array
            checksum = _checksum(records)
        named = self.folder / f"{begin}{self._content}.crc{checksum:08x}.npy"
        storage.rename(whole, named)
        self._intact[view] = named
        if self._grows:
            for path in storage.matching(self.folder, f"{begin}*"):
                if path != named:
                    storage.remove(path)

    def rows(self, view: int, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The output for images in a view: rows (b,) -> arrays (b, ...) by name."""
        records = self._map(view)[rows]
        return {name: np.ascontiguousarray(records[name]) for name in self._names}

    def _map(self, view: int) -> np.ndarray:
        """A view, mapped into memory while it is among the last few asked for."""
        with self._lock:
            if view not in self._open:
                if not self._appears(view):
                    raise UserError(
                        f"the {self._of.what} of view {view} in {str(self.folder)!r} are gone: "
                        "the same command makes them again"
                    )
                self._open[view] = storage.map_array(self._intact[view])
                if len(self._open) > MAPPED:
                    self._open.popitem(last=False)
            self._open.move_to_end(view)
            return self._open[view]

    def _appears(self, view: int) -> bool:
        """Whether there is a view; a network file system may show what another host has written
        some time after."""
        deadline = time.monotonic() + (SHOWN if jax.process_count() > 1 else 0)
        while not self.has(view) and time.monotonic() < deadline:
            time.sleep(0.1)
        return view in self._intact


def check_can_store(what: str, folder: Path) -> None:
    """Raise a UserError where nothing can be kept of what is to be stored in a folder."""
    if not storage.writable(folder):
        raise UserError(
            f"{what} cannot be kept in {str(folder)!r}, where nothing can be written: name another "
            "folder by --data.cache"
        )


def _checksum(records: np.ndarray) -> int:
    """CRC-32 of all bytes, read in pieces."""
    flat = records.view(np.uint8).reshape(-1)
    value = 0
    for start in range(0, len(flat), 2**24):
        value = zlib.crc32(flat[start : start + 2**24].data, value)
    return value
