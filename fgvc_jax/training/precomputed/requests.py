"""What is stored, within a budget, and in which folder each output of a frozen network is."""

import contextlib
import math
import stat
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from fgvc_jax.config import Experiment
from fgvc_jax.training.precomputed.store import Frozen, Output, Store
from fgvc_jax.utils import digests, paths, processes
from fgvc_jax.utils.progress import Reporter
from fgvc_jax.utils.text import counted
from fgvc_jax.workdir import mirror, space, storage
from fgvc_jax.workdir.folder import Workdir

AUTO = "auto"  # of `data.cache`: among the user's caches
IN_USE = 24 * 3600  # seconds; Linux notes once a day that a file was read
RESERVE = 2 * 2**30  # bytes that stay free on the disk, for checkpoints among others


class Storable(Protocol):
    """Something that may be stored; `str` tells people what."""

    @property
    def bytes(self) -> int:
        """What it takes of the budget."""

    @property
    def new(self) -> int:
        """Bytes of it that are not on the disk yet."""

    @property
    def folder(self) -> Path:
        """Where it is."""

    @property
    def instead(self) -> str:
        """What happens where it is not stored."""


R = TypeVar("R", bound=Storable)


@dataclass(frozen=True)
class Request:
    """The outputs of a frozen network for a part of the data, in some of the views that the run
    will need. A part that members are judged on has one view, number 0."""

    frozen: Frozen
    part: str
    views: Sequence[int]
    views_in_all: int
    outputs: Mapping[str, Output]  # by name in a batch
    stores: Mapping[str, Store]

    def __str__(self) -> str:
        images = counted(self.count, f"{self.part} image")
        views = f" in {self.views_in_all} views" if self.views_in_all > 1 else ""
        return f"{self.frozen.what} of {images}{views}, {self.bytes / 2**30:.2f} GiB"

    @property
    def count(self) -> int:
        """Number of images."""
        return next(iter(self.stores.values())).count

    @property
    def bytes(self) -> int:
        """What they take of the budget."""
        sizes = (s.bytes_per_view * self.outputs[name].room for name, s in self.stores.items())
        return int(sum(sizes)) * self.views_in_all

    @property
    def new(self) -> int:
        """Bytes that are not there yet."""
        stores = self.stores.values()
        return sum(s.bytes_per_view * len(s.missing(self.views)) for s in stores)

    @property
    def folder(self) -> Path:
        """Where they are."""
        return next(iter(self.stores.values())).folder

    @property
    def instead(self) -> str:
        """What happens where they are not kept."""
        return self.frozen.instead


class Budget:
    """What a run may keep: so many GiB, and no more than the disk has room for.

    Args:
        gib: of the budget.
        report: hears what is kept, and of what is not what would do.
    """

    def __init__(self, gib: float, report: Reporter):
        self._gib = gib
        self._report = report
        self._taken = 0
        self._added: Counter[Path] = Counter()

    def afford(self, requests: Iterable[R]) -> list[R]:
        """Those of the requests, the most important first, that fit beside what was afforded
        before."""
        return [request for request in requests if self._fits(request)]

    def _fits(self, request: Storable) -> bool:
        needed = self._taken + request.bytes
        if needed > int(self._gib * 2**30):
            enough = math.ceil(needed / 2**30 * 10) / 10
            over = f"are more than is left of --data.cache-gib {self._gib:g}, {enough:g} would do"
            self._report(f"{request}, {over}: {request.instead} instead")
            return False
        new, folder = request.new, request.folder
        full = new and self._added[folder] + new + RESERVE > space.free_space(folder)
        if processes.of_first(np.bool_(full)):  # the first process decides
            self._report(f"{request}, do not fit the disk: {request.instead} instead")
            return False
        self._taken = needed
        self._added[folder] += new
        if new:
            self._report(f"{request}, in {folder}")
        return True


def shared_folder(experiment: Experiment) -> Path | None:
    """The folder that a run shares with others for what it computes once; None: it has its own.

    The user's own cache serves one process and a workdir of this machine: the processes of a
    cluster, and whoever goes on with a bucket, may each have another home.

    Raises:
        UserError: for a `data.cache` that can be no folder.
    """
    named = experiment.data.cache
    if named != AUTO:
        return storage.location(named, "--data.cache") if named else None
    if experiment.distributed or mirror.is_url(experiment.workdir):
        return None
    try:
        own = paths.cache() / "precomputed"
        own.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:  # a convenience, and done without
        return None
    return own if storage.writable(own) else None


class Stores:
    """The stores of a run, in its workdir or in a folder that runs share.

    Args:
        experiment: settled.
        known: gives the digests of the dataset, see `digests.of_data`.
    """

    def __init__(self, experiment: Experiment, known: Callable[[], Mapping[str, Any]]):
        self._known = known
        self._gib = experiment.data.cache_gib
        self._sizes = experiment.batch_size, experiment.evaluation_batch_size
        self._own = Workdir(experiment.workdir).precomputed
        shared = shared_folder(experiment)
        self.shared = shared or self._own
        self._users = shared if experiment.data.cache == AUTO else None
        self._open: dict[str, Store] = {}  # by content; a file is checked once

    def make_room(self) -> None:
        """Keep the user's cache within the budget of a run: what was used longest ago goes, but not
        what was used within the last day, which another run may be using."""
        if not self._users:
            return
        files = []
        for path in self._users.rglob("*"):
            with contextlib.suppress(OSError):  # another run removes, too
                status = path.lstat()
                if stat.S_ISREG(status.st_mode):
                    used = max(status.st_atime, status.st_mtime)
                    files.append((used, status.st_size, path))
        left = sum(size for _, size, _ in files)
        for used, size, path in sorted(files):
            if left <= self._gib * 2**30 or used > time.time() - IN_USE:
                return
            storage.remove(path)
            left -= size

    def batch_size(self, output: Output) -> int:
        """Images at a time when an output is stored, at the most."""
        return self._sizes[not output.as_in_step]

    def open(self, frozen: Frozen, part: str, output: Output, count: int) -> Store:
        """The store of an output for a part of `count` images."""
        images = digests.best(self._known()[part])
        numerics = digests.numerics(output.parts)
        content = digests.of_value(
            [numerics, output.name, output.known, images, self.batch_size(output)]
        )
        if content not in self._open:
            # A newer sum takes the place of older ones, which another run may still be reading.
            folder = self.shared if output.earlier is None else self._own
            store = Store(folder, output.layout, count=count, content=content, of=frozen)
            self._open[content] = store
        return self._open[content]

    def request(
        self,
        frozen: Frozen,
        part: str,
        outputs: Mapping[str, Output],
        count: int,
        views: Sequence[int],
        views_in_all: int,
    ) -> Request:
        """These outputs for a part of `count` images, with their stores opened."""
        stores = {name: self.open(frozen, part, each, count) for name, each in outputs.items()}
        return Request(frozen, part, views, views_in_all, outputs, stores)

    def close_others(self, stores: Collection[Store]) -> None:
        """Let go of all others: files that are gone take space as long as they are mapped."""
        self._open = {key: store for key, store in self._open.items() if store in stores}
