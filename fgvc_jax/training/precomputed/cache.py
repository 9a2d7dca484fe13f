"""Outputs of frozen networks on their way into batches: looked up, or computed before each step.

Frozen networks are a trunk that all members share, a trained ensemble that they learn from, and the
members before. Their outputs are computed once for each view and looked up after; those beyond the
budget, or where the disk is full, before every step. Both ways run the same programs, and a trunk
sees batches of one size, on which a transformer's rounding depends. So their numbers are the same,
up to the rounding of convolutions, which may depend on an image's place in its batch, and of larger
batches where there is no trunk.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
from jax.sharding import Mesh

from fgvc_jax.config import Experiment
from fgvc_jax.data.feed import Dataset, Images
from fgvc_jax.data.pipeline import Lookup
from fgvc_jax.training.precomputed.attention import SummedAttention
from fgvc_jax.training.precomputed.embeddings import Embeddings
from fgvc_jax.training.precomputed.filling import Filling
from fgvc_jax.training.precomputed.requests import Budget, Request, Stores
from fgvc_jax.training.precomputed.squares import Squares
from fgvc_jax.training.precomputed.store import Frozen, Output
from fgvc_jax.training.precomputed.teacher import Teacher
from fgvc_jax.training.precomputed.trunk import Trunk
from fgvc_jax.utils.devices import Packed
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.progress import Reporter
from fgvc_jax.workdir import storage
from fgvc_jax.workdir.folder import Workdir


class OutputCache:
    """The outputs of a run's frozen networks, on their way into batches.

    Args:
        experiment: settled.
        images: of the dataset.
        known: gives the digests of the dataset, see `digests.of_data`.
        trunk: the frozen trunk, or the embeddings of a network that is frozen whole, or None.
        teacher: the ensemble that the objective asks, or None.
        mesh: devices.
    """

    def __init__(
        self,
        experiment: Experiment,
        images: Dataset,
        known: Callable[[], Mapping[str, Any]],
        *,
        trunk: Trunk | Embeddings | None,
        teacher: Teacher | None,
        mesh: Mesh,
    ):
        self._spec = experiment
        self._data = images
        self._trunk = trunk
        self._teacher = teacher
        self._attention: SummedAttention | None = None
        self._stores = Stores(experiment, known)
        self._squares: Squares | None = None  # where they are looked up
        self._filling = Filling(self._stores, self._seen, self._with, mesh)
        self._lookups: dict[str, dict[str, Lookup]] = {}  # by part and by name in a batch
        self._outputs: dict[str, Output] = {}  # of all networks for a training image

    def prepare(self, member: int, attention: SummedAttention | None, report: Reporter) -> None:
        """Store the outputs that the training of a member needs, as far as they fit.

        Args:
            member: its number.
            attention: of the members before, where it is precomputed.
            report: prints a line for people.

        Raises:
            UserError: when nothing can be written.
        """
        self._attention = attention
        requests = self._requests(member)
        if requests and not self._lookups:
            _tell_of_older(Workdir(self._spec.workdir), report)
            self._stores.make_room()
        self._lookups = {part: {} for part in self._data.splits.parts}
        budget = Budget(self._spec.data.cache_gib, report)
        chosen = budget.afford(requests)
        looked = self._data.place == "store" and self._looks(chosen)
        self._squares = self._decoded if looked and self._decoded.kept(budget, report) else None
        for request in reversed(chosen):  # members go on from the trunk's features
            self._filling.fill(request, self._lookups[request.part], report)
        self._stores.close_others([s for each in chosen for s in each.stores.values()])

    def views(self, member: int) -> range:
        """Numbers of the views that a member is shown in training."""
        data = self._spec.data
        first = (member - 1) * data.views if data.view_sharing == "own" else 0
        return range(first, first + data.views)

    @property
    def train(self) -> Images:
        """The training images, with what is looked up beside them or in their place."""
        return self._seen("train", self._outputs)

    @property
    def judged(self) -> dict[str, Images]:
        """Likewise the parts that members are judged on, by name."""
        return {part: self._seen(part, self._lookups.get(part, {})) for part in self._data.judged}

    def embeddings(self) -> np.ndarray:
        """(N, D) float16 of the training images, see `Embeddings`.

        Raises:
            UserError: where they were not stored.
        """
        if "embedding" not in self._lookups["train"]:
            raise UserError(
                "an objective that is solved needs the embeddings of all training images: raise "
                "--data.cache-gib, or free some disk"
            )
        rows = np.arange(len(self._data["train"].source))
        return self._lookups["train"]["embedding"](0, rows)["embedding"]

    def seen_at_test(self, rows: np.ndarray) -> np.ndarray | None:
        """(M, D): what the main head sees of training images; None where that is not stored."""
        stored = self._lookups.get("train", {}).get("embedding")
        if stored is None or self._spec.network.pool == "norm":
            return None
        return stored(0, rows)["embedding"].astype(np.float32)

    def complete(self, batch: Packed) -> Packed:
        """A batch of training views as `train_step` takes it: outputs that were not looked up are
        computed now, and the mean attention of the earlier members is added."""
        batch = self._with(batch, self._outputs)
        return batch | {"attention": self._attention.mean(batch)} if self._attention else batch

    def _with(self, batch: Packed, names: Collection[str]) -> Packed:
        for name in names:
            if name not in batch:
                made = self._outputs[name].compute(batch, self._data["train"].store)
                batch = batch | {name: made}
        return batch

    def _seen(self, part: str, names: Collection[str]) -> Images:
        """A part with the outputs `names` as far as they are stored, and without the images where
        no network looks at them any more."""
        stored = self._lookups.get(part, {})
        found = {name: stored[name] for name in names if name in stored}
        images = dataclasses.replace(self._data[part], lookups=found)
        if _unseen(self._outputs, names, found):
            return dataclasses.replace(images, fetch=None, store=None)
        if self._squares:
            return dataclasses.replace(images, fetch=partial(self._squares.rows, part))
        return images

    def _looks(self, chosen: Sequence[Request]) -> bool:
        """Whether a network looks at images in every epoch where these outputs are stored."""
        parts = self._data.splits.parts
        stored = {part: {n for r in chosen if r.part == part for n in r.outputs} for part in parts}
        asked = {part: stored[part] for part in self._data.judged} | {"train": set(self._outputs)}
        unseen = all(_unseen(self._outputs, names, stored[part]) for part, names in asked.items())
        return not (unseen or self._spec.method.solves)

    @cached_property
    def _decoded(self) -> Squares:
        reading = self._spec.data.view.reading | {"banner": self._spec.data.cut}
        return Squares(self._stores.shared, self._data, reading)

    def _requests(self, member: int) -> list[Request]:
        """What a member needs, the most important first."""
        data = self._spec.data
        in_all = data.views * (self._spec.members if data.view_sharing == "own" else 1)
        asked: list[tuple[Frozen | None, str]] = [(self._attention, "train")]
        asked += [(self._teacher, "train")]
        asked += [(self._trunk, part) for part in (*self._data.judged, "train")]
        requests, self._outputs = [], {}
        for frozen, part in asked:
            if not frozen or not (outputs := frozen.outputs(part)):
                continue
            views, number = (self.views(member), in_all) if part == "train" else (range(1), 1)
            if part == "train":
                self._outputs = {**outputs, **self._outputs}
            count = len(self._data[part].source)
            requests.append(self._stores.request(frozen, part, outputs, count, views, number))
        return requests


def _unseen(outputs: Mapping[str, Output], names: Collection[str], stored: Collection[str]) -> bool:
    """Whether no network looks at images for the outputs `names`, some of which are stored."""
    computed = [outputs[name] for name in names if name not in stored]
    return "features" in stored and all("features" in output.needs for output in computed)


def _tell_of_older(workdir: Workdir, report: Reporter) -> None:
    """Say what an older version has left in a workdir."""
    names = [name for name in ("attention", "features") if storage.exists(workdir.path / name)]
    if names:
        report(
            f"{' and '.join(names)} in {workdir.path}: of an older version and not read; what was "
            f"there is computed again, in {workdir.precomputed}, so that you may remove it"
        )
