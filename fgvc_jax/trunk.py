"""A run's frozen trunk: one for all its members, run once for every view of every image.

What it makes of a view is kept in a cache while that fits the budget and the disk; beyond, it runs
before every step. Either way members are given the same float16 features.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from fgvc_jax import digests, storage
from fgvc_jax.data import augment
from fgvc_jax.data.view import View
from fgvc_jax.engine import feed
from fgvc_jax.engine import mesh as devices
from fgvc_jax.engine import step as steps
from fgvc_jax.engine.features import Features
from fgvc_jax.engine.feed import Images
from fgvc_jax.errors import UserError
from fgvc_jax.model import Architecture

RESERVE = 2 * 2**30  # bytes that a cache leaves free on the disk, for checkpoints among others


class Budget(NamedTuple):
    """Where features are kept, and how many bytes of them a run may take."""

    folder: Path
    bytes: int


class Wanted(NamedTuple):
    """Features that a run needs: of a part of the data, in some of the views that it will need."""

    part: str  # "train", or one that members are judged on, which has one view, number 0
    images: Images
    digest: str  # of the images, by what the files hold
    views: Sequence[int]
    views_in_all: int


@dataclass(frozen=True)
class Trunk:
    """The frozen trunk of an architecture, on the way from images to members.

    Args:
        architecture: of the members, whose network has a trunk.
        variables: the trunk's, on the host.
        structure: what tells its network from others, beside the variables.
        view: what is shown of an image.
        seed: of the views in training.
        mesh: devices.
    """

    architecture: Architecture
    variables: Any
    structure: Sequence[Any]
    view: View
    seed: int
    mesh: Mesh

    @cached_property
    def digest(self) -> str:
        """Digest of the variables."""
        return digests.of_arrays(self.variables)

    @cached_property
    def on_devices(self) -> Any:
        """The variables, on every device."""
        return devices.replicate(self.mesh, self.variables)

    # -- what is shown -----------------------------------------------------------------------------

    @cached_property
    def _training(self) -> dict[str, tuple[Callable, list[Any]]]:
        """By its name in a batch, what is shown of an image in training: how, and known by what."""
        view, second = self.view, self.architecture.objective.second
        known = [{**vars(view), "test_view": None}, self.seed]

        def first_view(arrays, images):
            return steps.normalized_view(view, self.seed, arrays, images)

        def second_view(arrays, images):
            return steps.normalized_view(view, self.seed, arrays, images, second.show)

        shown = {"features": (first_view, known)}
        if second:
            shown["second"] = (second_view, [*known, dict(second.options)])
        return shown

    @cached_property
    def _test(self) -> dict[str, tuple[Callable, list[Any]]]:
        view = self.view
        known = ["test", view.test_side, view.crop, view.normalize, view.orientation]
        return {"features": (lambda arrays, images: augment.test_view(view, images), known)}

    def shown(self, part: str) -> dict[str, tuple[Callable, list[Any]]]:
        """By its name in a batch, what is shown of an image of a part: how, and known by what."""
        return self._training if part == "train" else self._test

    @cached_property
    def _training_step(self) -> Callable:
        show = {name: look for name, (look, _) in self._training.items()}
        return steps.trunk_step(network=self.architecture.network, show=show, mesh=self.mesh)

    def run(self, batch: dict[str, jax.Array], store: jax.Array | None) -> dict[str, Any]:
        """A training batch with the features of its views, unless they were looked up."""
        if "features" in batch:
            return batch
        return self._training_step(self.on_devices, batch, store)


class FeatureCache:
    """A trunk's features, as far as they are kept.

    Args:
        trunk: that makes them.
        budget: see `Budget`.
        most: images in a batch, at the most.
    """

    def __init__(self, trunk: Trunk, budget: Budget, *, most: int):
        self._trunk = trunk
        self._budget = budget
        self._most = most
        # By their content; a file is checked once, whatever the number of members.
        self._opened: dict[str, Features] = {}

    def prepare(self, wanted: Sequence[Wanted], report: Callable[[str], None]) -> dict[str, Images]:
        """Make what features are missing, the earlier in the list the more important.

        Args:
            wanted: of every part.
            report: prints a line for people.

        Returns:
            By part, its images as they are looked up; those that are not there run the trunk in
            every step, since they do not fit the budget or the disk.

        Raises:
            UserError: when the cache cannot be written.
        """
        left, kept = self._budget.bytes, {}
        for each in wanted:
            sets = {
                name: self._features(each, known)
                for name, (_, known) in self._trunk.shown(each.part).items()
            }
            per_view = sum(features.bytes_per_view for features in sets.values())
            missing = {name: features.missing(each.views) for name, features in sets.items()}
            new = sum(sets[name].bytes_per_view * len(views) for name, views in missing.items())
            size = per_view * each.views_in_all
            what = f"features of {len(each.images.source):,} {each.part} images"
            if each.views_in_all > 1:
                what += f" in {each.views_in_all} views"
            what += f", {size / 2**30:.2f} GiB"
            problem = self._problem(size, left, new)
            if problem:
                report(f"{what}, {problem}: the frozen trunk runs in every step instead")
                continue
            left -= size
            if new:
                self._make(each, sets, missing, f"{what}, in {self._budget.folder}", report)
            lookups = {name: features.rows for name, features in sets.items()}
            kept[each.part] = dataclasses.replace(
                each.images, fetch=None, store=None, lookups=lookups
            )
        return kept

    def _features(self, wanted: Wanted, known: list[Any]) -> Features:
        source = wanted.images.source
        ids = np.asarray(source.ids).tolist()
        trunk = [self._trunk.digest, *self._trunk.structure]
        content = [digests.NUMERICS, trunk, wanted.digest, ids, known]
        digest = digests.of_value(content)
        if digest not in self._opened:
            self._opened[digest] = Features(
                self._budget.folder,
                shapes={
                    name: leaf.shape[1:] for name, leaf in self._trunk.architecture.features.items()
                },
                count=len(source),
                content=digest,
            )
        return self._opened[digest]

    def _problem(self, size: int, left: int, new: int) -> str:
        """Why features are not to be kept; empty if they are. The first process decides."""
        if size > left:
            return f"are more than is left of --data.cache-gib {self._budget.bytes / 2**30:g}"
        full = new and new + RESERVE > storage.free_space(self._budget.folder)
        if bool(devices.of_first(np.bool_(full))):
            return "do not fit the disk"
        return ""

    def _make(
        self,
        wanted: Wanted,
        sets: Mapping[str, Features],
        missing: Mapping[str, list[int]],
        what: str,
        report: Callable[[str], None],
    ) -> None:
        first = jax.process_index() == 0
        if first and not storage.writable(self._budget.folder):
            raise UserError(
                f"features cannot be kept in {str(self._budget.folder)!r}, where nothing can be "
                "written: name another folder by --data.cache"
            )
        report(what)
        began = time.perf_counter()
        for name, (look, _) in self._trunk.shown(wanted.part).items():
            step = steps.trunk_step(
                network=self._trunk.architecture.network,
                show={"features": look},
                mesh=self._trunk.mesh,
                everywhere=True,
            )
            for view in missing[name]:
                batches = feed.evaluation_batches(
                    wanted.images, most=self._most, mesh=self._trunk.mesh, view=view
                )
                parts = feed.ahead(
                    batches,
                    lambda batch, step=step: step(
                        self._trunk.on_devices, batch, wanted.images.store
                    ),
                    depth=1,
                )
                sets[name].make(view, parts, write=first)
        devices.wait_for_all("features are written")
        count = sum(map(len, missing.values())) * len(wanted.images.source)
        seconds = time.perf_counter() - began
        report(f"{count:,} features in {seconds:.1f} s ({count / seconds:.0f} images/s)")
