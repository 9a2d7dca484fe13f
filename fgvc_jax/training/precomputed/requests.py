"""Which outputs of frozen networks are stored, within a budget, and in which folder each is."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fgvc_jax.config import Experiment
from fgvc_jax.training.precomputed.store import Frozen, Output, Store
from fgvc_jax.utils import digests, processes
from fgvc_jax.utils.progress import Report
from fgvc_jax.workdir import space, storage
from fgvc_jax.workdir.folder import Workdir

RESERVE = 2 * 2**30  # bytes that stay free on the disk, for checkpoints among others


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
        images = f"{self.count:,} {self.part} images"
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


def affordable(requests: Sequence[Request], gib: float, report: Report) -> list[Request]:
    """Those of the requests, the most important first, that fit the budget and the disk; of the
    others people are told."""
    left = int(gib * 2**30)
    added: Counter[Path] = Counter()
    chosen = []
    for request in requests:
        stores = list(request.stores.values())
        new = sum(s.bytes_per_view * len(s.missing(request.views)) for s in stores)
        folder = stores[0].folder
        full = new and added[folder] + new + RESERVE > space.free_space(folder)
        full = bool(processes.of_first(np.bool_(full)))  # the first process decides
        if request.bytes > left or full:
            over = f"are more than is left of --data.cache-gib {gib:g}"
            problem = over if request.bytes > left else "do not fit the disk"
            report(f"{request}, {problem}: {request.frozen.instead} instead")
            continue
        left -= request.bytes
        added[folder] += new
        chosen.append(request)
        if new:
            report(f"{request}, in {folder}")
    return chosen


class Stores:
    """The stores of a run, in its workdir or in a folder that runs share.

    Args:
        experiment: settled.
        known: gives the digests of the dataset, see `digests.of_data`.
    """

    def __init__(self, experiment: Experiment, known: Callable[[], Mapping[str, Any]]):
        self._known = known
        self._sizes = experiment.batch_size, experiment.evaluation_batch_size
        self._own = self._shared = Workdir(experiment.workdir).precomputed
        if experiment.data.cache:
            self._shared = storage.location(experiment.data.cache, "--data.cache")
        self._open: dict[str, Store] = {}  # by content; a file is checked once

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
            # A newer sum takes the place of older ones, which another run might be at.
            folder = self._shared if output.earlier is None else self._own
            store = Store(folder, output, count=count, content=content, of=frozen)
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
