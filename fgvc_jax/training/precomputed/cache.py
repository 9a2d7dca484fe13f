"""What frozen networks say of the views of a run's images, as far as it is kept.

A frozen network is a trunk that all members share, or a trained ensemble that they learn from. Of a
view it says the same whenever it is asked: so that is computed once for each view, and beyond the
budget, or where the disk is full, before every step, with the same float16 numbers.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from fgvc_jax.data import feed
from fgvc_jax.data.feed import Images
from fgvc_jax.data.pipeline import Lookup
from fgvc_jax.training.precomputed.features import Features
from fgvc_jax.utils import digests, processes
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import storage

RESERVE = 2 * 2**30  # bytes that a cache leaves free on the disk, for checkpoints among others


class Output(NamedTuple):
    """One of the things that a frozen network says of a view."""

    # (batch, store) -> {"row", "mask", "features": arrays by name}, on every device.
    ask: Callable[[dict[str, jax.Array], jax.Array | None], dict[str, Any]]
    shapes: Mapping[str, tuple[int, ...]]  # of one image's arrays, by name
    network: Any  # what the frozen network is known by, as JSON has it
    known: Any  # all else that they depend on, but the images and the view's number
    parts: Sequence[str] = ()  # of `digests.NUMERICS` that the network computes with


class Frozen(Protocol):
    """A frozen network, and how people are told of it."""

    what: str  # it says
    broken: str  # why what it says may not be finite
    instead: str  # what happens where nothing is kept

    def looks(self, part: str) -> Mapping[str, Output]:
        """What it says of an image of a part, by its name in a batch."""
        ...


class Request(NamedTuple):
    """What a run needs of a frozen network: of a part of the data, in some of the views that it
    will need."""

    frozen: Frozen
    part: str  # "train", or one that members are judged on, which has one view, number 0
    images: Images
    digest: str  # of the images, by what the files hold
    views: Sequence[int]
    views_in_all: int


class Cache:
    """What frozen networks say, as far as it is kept.

    Args:
        folder: where; runs may share it.
        budget: bytes of it that a run may take.
        most: images in a batch, at the most.
        mesh: devices.
    """

    def __init__(self, folder: Path, budget: int, *, most: int, mesh: Mesh):
        self._folder = folder
        self._budget = budget
        self._most = most
        self._mesh = mesh
        # By their content; a file is checked once, whatever the number of members.
        self._opened: dict[str, Features] = {}

    def prepare(
        self, wanted: Sequence[Request], report: Callable[[str], None]
    ) -> dict[str, dict[str, Lookup]]:
        """Make what is missing, the earlier in the list the more important.

        Args:
            wanted: of every network and part.
            report: prints a line for people.

        Returns:
            By part, by its name in a batch, how it is looked up; what is not there does not fit the
            budget or the disk.

        Raises:
            UserError: when the cache cannot be written.
        """
        left, kept = self._budget, {}
        for each in wanted:
            looks = each.frozen.looks(each.part)
            sets = {name: self._features(each, look) for name, look in looks.items()}
            per_view = sum(features.bytes_per_view for features in sets.values())
            missing = {name: features.missing(each.views) for name, features in sets.items()}
            new = sum(sets[name].bytes_per_view * len(views) for name, views in missing.items())
            size = per_view * each.views_in_all
            what = f"{each.frozen.what} of {len(each.images.source):,} {each.part} images"
            if each.views_in_all > 1:
                what += f" in {each.views_in_all} views"
            what += f", {size / 2**30:.2f} GiB"
            problem = self._problem(size, left, new)
            if problem:
                report(f"{what}, {problem}: {each.frozen.instead} instead")
                continue
            left -= size
            if new:
                self._check_writable(each.frozen.what)
                report(f"{what}, in {self._folder}")
                self._make(each, looks, sets, missing, report)
            kept.setdefault(each.part, {}).update(
                {name: features.rows for name, features in sets.items()}
            )
        return kept

    def _features(self, wanted: Request, look: Output) -> Features:
        source = wanted.images.source
        ids = np.asarray(source.ids).tolist()
        content = [digests.numerics(look.parts), look.network, wanted.digest, ids, look.known]
        digest = digests.of_value(content)
        if digest not in self._opened:
            self._opened[digest] = Features(
                self._folder,
                shapes=look.shapes,
                count=len(source),
                content=digest,
                what=wanted.frozen.what,
                broken=wanted.frozen.broken,
            )
        return self._opened[digest]

    def _problem(self, size: int, left: int, new: int) -> str:
        """Why something is not to be kept; empty if it is. The first process decides."""
        if size > left:
            return f"are more than is left of --data.cache-gib {self._budget / 2**30:g}"
        full = new and new + RESERVE > storage.free_space(self._folder)
        if bool(processes.of_first(np.bool_(full))):
            return "do not fit the disk"
        return ""

    def _check_writable(self, what: str) -> None:
        if jax.process_index() == 0 and not storage.writable(self._folder):
            raise UserError(
                f"{what} cannot be kept in {str(self._folder)!r}, where nothing can be written: "
                "name another folder by --data.cache"
            )

    def _make(
        self,
        wanted: Request,
        looks: Mapping[str, Output],
        sets: Mapping[str, Features],
        missing: Mapping[str, list[int]],
        report: Callable[[str], None],
    ) -> None:
        began = time.perf_counter()
        for name, look in looks.items():
            for view in missing[name]:
                batches = feed.evaluation_batches(
                    wanted.images, most=self._most, mesh=self._mesh, view=view
                )
                parts = feed.ahead(
                    batches, lambda batch, ask=look.ask: ask(batch, wanted.images.store), depth=1
                )
                sets[name].make(view, parts, write=jax.process_index() == 0)
        processes.wait_for_all(f"{wanted.frozen.what} are written")
        count = sum(map(len, missing.values())) * len(wanted.images.source)
        seconds = time.perf_counter() - began
        report(f"{count:,} of them in {seconds:.1f} s ({count / seconds:.0f} images/s)")
