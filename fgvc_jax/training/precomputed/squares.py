"""Decoded images, stored: what a set that is larger than memory is trained on.

They are decoded in a pass of their own, before the first epoch: so a broken image is told at once,
every file is written from its beginning to its end, and processes, hosts and runs share the work.
"""

import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from tqdm import tqdm

from fgvc_jax.data import feed, images
from fgvc_jax.data.feed import Dataset
from fgvc_jax.data.records import Source
from fgvc_jax.training.precomputed.requests import Budget
from fgvc_jax.training.precomputed.store import Layout, Store, check_can_store
from fgvc_jax.utils import digests, progress
from fgvc_jax.utils.errors import InUse, UserError
from fgvc_jax.utils.progress import Reporter
from fgvc_jax.workdir import locks, mirror, storage

T = TypeVar("T")
FILE = 2**28  # bytes of a file: what a kill may cost
FILES = 256  # at the most, of one size of squares: each takes a descriptor
BATCH = 2**26  # bytes that are decoded at a time
WAIT = 0.2  # seconds until files that others are at are looked at again


@dataclass(frozen=True)
class ImageSubset:
    """Images of a dataset that are decoded to one side: (part, row) of each."""

    parts: Mapping[str, Source]
    side: int
    places: Sequence[tuple[str, int]]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        part, row = self.places[index]
        return self.parts[part][row]

    @property
    def names(self) -> list[str]:
        """Of the images, of which a box is a part."""
        return [self.parts[part].names[row] for part, row in self.places]

    @property
    def stats(self) -> list[tuple[int, int] | None]:
        """Bytes and time of change of each image's file."""
        return [self.parts[part].stat(row) for part, row in self.places]

    def batches(self) -> Iterator["ImageSubset"]:
        """The same, as many at a time as fit `BATCH`."""
        count = max(BATCH // (3 * self.side**2), 1)
        for start in range(0, len(self), count):
            yield ImageSubset(self.parts, self.side, self.places[start : start + count])

    def look(self, folder: Path) -> Path | None:
        """Where it is kept what images of these names, sizes and times hold; None where there are
        no such times."""
        stats = self.stats
        if None in stats:
            return None
        return folder / f"{digests.of_value([self.names, stats])[:32]}.seen"

    def content(self, folder: Path) -> str:
        """What they hold: digest of their bytes, which are read where `look` knows of none."""
        if (look := self.look(folder)) is None:
            return _digest(feed.contents(self))
        try:
            known = storage.read_text(look)
        except (FileNotFoundError, UserError):
            known = ""
        if not re.fullmatch("[0-9a-f]{64}", known):
            known = _digest(feed.contents(self))
            if storage.writable(folder.parent):
                storage.write_text(look, known)
        return known


class Squares:
    """All decoded images of a dataset, in files of some hundred MiB.

    Which file an image is in is decided by its name, so that another split has the same files, and
    a new image or a changed one costs the one that it is in. A file is known by its images' names,
    their contents, and how they are read. What its images hold is read where their sizes and times
    of change are not those of an earlier look.

    Args:
        folder: where what is computed once is kept; on this machine or its network.
        dataset: whose images are stored.
        reading: how they are read, by name, with the `banner` that the dataset has.
    """

    what = "decoded images"
    broken = ""
    instead = "they are decoded in every epoch"

    def __init__(self, folder: Path, dataset: Dataset, reading: Mapping[str, Any]):
        self.folder = folder
        self._own = folder / "squares"
        self._dataset = dataset
        self._reading = reading

    def __str__(self) -> str:
        count = sum(map(len, self._dataset.splits.parts.values()))
        return f"{count:,} {self.what}, {self.bytes / 2**30:.2f} GiB"

    @property
    def bytes(self) -> int:
        """What they take of the budget."""
        return self._dataset.bytes

    @property
    def new(self) -> int:
        """Bytes that are not there yet, as this process sees it."""
        return sum(self._stores[number].bytes_per_view for number in self._missing())

    def rows(self, part: str, rows: np.ndarray) -> np.ndarray:
        """The images of a part, as `pipeline.Fetch` has them."""
        side = self._dataset.side(part)
        squares = np.empty((len(rows), side, side, 3), np.uint8)
        files, places = self._where[part][rows].T
        order = np.lexsort((places, files))
        for chosen in np.split(order, np.flatnonzero(np.diff(files[order])) + 1):
            store = self._stores[files[chosen[0]]]
            squares[chosen] = store.rows(0, places[chosen])["square"]
        return squares

    def kept(self, budget: Budget, report: Reporter) -> bool:
        """Whether they are stored, which they are from here on where the budget has room."""
        if mirror.of(self.folder):
            report(
                f"{self}, are not kept in a bucket, from which they would come no faster: "
                f"{self.instead} instead; --data.cache may name a folder of this machine"
            )
            return False
        if not budget.afford([self]):
            return False
        self.fill(report)
        return True

    def fill(self, report: Reporter) -> None:
        """Decode what is missing, or wait until others have: processes, of this run and of others,
        take the files in turn, each from another one on.

        Raises:
            UserError: for images that cannot be decoded, or that change meanwhile; and where
                nothing can be written.
        """
        missing, began = self._missing(), time.perf_counter()
        if not missing:
            return
        check_can_store(self.what, self.folder)
        count = sum(len(self._files[number]) for number in missing)
        left = _in_turn(missing)
        with progress.image_bar(self.what, count) as bar:
            while left:
                others = [number for number in left if not self._filled(number, bar)]
                if len(others) == len(left):
                    time.sleep(WAIT)
                left = others
        seconds = time.perf_counter() - began
        report(f"{count:,} of them in {seconds:.1f} s ({count / seconds:.0f} images/s)")

    @cached_property
    def _files(self) -> list[ImageSubset]:
        return list(_shared_out(self._dataset))

    @cached_property
    def _where(self) -> dict[str, np.ndarray]:
        return _places(self._files, self._dataset.splits.parts)

    @cached_property
    def _contents(self) -> list[str]:
        """What the images of each file are: digest of their bytes."""
        what, files = f"{self.what}: files are compared", self._files
        return _each(files, what, lambda n: files[n].content(self._own), self._dataset.threads)

    @cached_property
    def _stores(self) -> list[Store]:
        how = [digests.numerics(), images.decoders(), dict(self._reading)]
        stores = []
        for file, known in zip(self._files, self._contents, strict=True):
            content = digests.of_value([*how, file.side, file.names, known])
            layout = Layout("squares", {"square": (file.side, file.side, 3)}, np.uint8)
            folder = self._own / content[:32]
            stores.append(Store(folder, layout, count=len(file), content=content, of=self))
        return stores

    def _missing(self) -> list[int]:
        """The files that are not there, by number."""
        what, stores = f"{self.what} are checked", self._stores
        there = _each(self._files, what, lambda n: stores[n].has(0), self._dataset.threads)
        return [number for number, found in enumerate(there) if not found]

    def _filled(self, number: int, bar: tqdm) -> bool:
        """Have a file filled; whether it is, or somebody else is at it."""
        store, before = self._stores[number], bar.n
        try:
            with locks.lock(store.folder):
                if not store.has(0):
                    store.make(0, self._decoded(number, bar), write=True)
        except InUse:
            return False
        bar.update(before + len(self._files[number]) - bar.n)
        return True

    def _decoded(self, number: int, bar: tqdm) -> Iterator[dict[str, Any]]:
        file, row, contents = self._files[number], 0, []
        for some in file.batches():
            squares, found = self._dataset.decoded(some, some.side)
            yield {
                "row": np.arange(row, row + len(some)),
                "mask": np.ones(len(some), bool),
                "output": {"square": squares},
            }
            row += len(some)
            contents += found
            bar.update(len(some))
        if _digest(contents) != self._contents[number]:
            if look := file.look(self._own):
                storage.remove(look)
            raise UserError(
                "images of the dataset changed while they were decoded: when that is over, the "
                "same command goes on with what they are then"
            )


def _shared_out(dataset: Dataset) -> Iterator[ImageSubset]:
    """The images of a dataset by the files that they are in, in the order of their names."""
    parts = dataset.splits.parts
    for side in sorted({dataset.side(part) for part in parts}):
        chosen = [part for part in parts if dataset.side(part) == side]
        named = sorted(
            (name, part, row) for part in chosen for row, name in enumerate(parts[part].names)
        )
        size, count = 3 * side**2 * len(named), 1
        while count < FILES and size > count * FILE:  # a power of two: some images more are not
            count *= 2  # another number of files
        places: list[list[tuple[str, int]]] = [[] for _ in range(count)]
        for name, part, row in named:
            hashed = zlib.crc32(name.encode(errors="surrogateescape"))
            places[hashed % count].append((part, row))
        yield from (ImageSubset(parts, side, each) for each in places if each)


def _places(files: Sequence[ImageSubset], parts: Mapping[str, Source]) -> dict[str, np.ndarray]:
    """By part and row: the file, and the row there, (N, 2) int64."""
    where = {part: np.zeros((len(source), 2), np.int64) for part, source in parts.items()}
    for number, file in enumerate(files):
        for place, (part, row) in enumerate(file.places):
            where[part][row] = number, place
    return where


def _each(
    files: Sequence[ImageSubset], what: str, look: Callable[[int], T], threads: int
) -> list[T]:
    """What is found of each file by its number, by threads, with a bar."""
    found: dict[int, T] = {}
    order = _in_turn(range(len(files)))
    with (
        ThreadPoolExecutor(threads, thread_name_prefix="squares") as pool,
        progress.image_bar(what, sum(map(len, files))) as bar,
    ):
        for number, each in zip(order, pool.map(look, order), strict=True):
            found[number] = each
            bar.update(len(files[number]))
    return [found[number] for number in range(len(files))]


def _in_turn(files: Sequence[int]) -> list[int]:
    """Files in an order in which each process begins at another one: what one has done the others
    find."""
    first = len(files) * jax.process_index() // jax.process_count()
    return [*files[first:], *files[:first]]


def _digest(contents: Sequence[bytes]) -> str:
    return digests.of_value([content.hex() for content in contents])
