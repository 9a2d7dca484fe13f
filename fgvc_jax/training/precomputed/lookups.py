"""What frozen networks say of the views of a run's images: computed once, looked up after.

The trunk's features stand in the place of images; the frozen members' attention and the teachers'
answers beside them.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fgvc_jax.config import Experiment
from fgvc_jax.data import feed
from fgvc_jax.data.feed import Dataset, Images
from fgvc_jax.data.pipeline import Lookup
from fgvc_jax.inference import passes
from fgvc_jax.inference.architecture import Member
from fgvc_jax.training.precomputed.attention import AttentionMaps
from fgvc_jax.training.precomputed.cache import Cache, Request
from fgvc_jax.training.precomputed.teacher import Teacher
from fgvc_jax.training.precomputed.trunk import Trunk
from fgvc_jax.training.state import backbone_only
from fgvc_jax.utils import digests, processes
from fgvc_jax.workdir import storage
from fgvc_jax.workdir.folder import Workdir
from fgvc_jax.workdir.record import Record

Report = Callable[[str], None]


class Lookups:
    """What of a run is looked up instead of being computed in the step.

    Args:
        experiment: settled.
        images: of the dataset.
        trunk: the frozen trunk, or None.
        teacher: the ensemble that the objective asks, or None.
        mesh: devices.
    """

    def __init__(
        self,
        experiment: Experiment,
        images: Dataset,
        trunk: Trunk | None,
        teacher: Teacher | None,
        mesh: jax.sharding.Mesh,
    ):
        self._experiment = experiment
        self._images = images
        self._trunk = trunk
        self._teacher = teacher
        self._cache = _cache(experiment, mesh)
        self._mesh = mesh
        self._kept: dict[str, dict[str, Lookup]] = {}
        self._attention_steps: dict[Any, Callable] = {}

    def prepare(self, member: int, report: Report) -> None:
        """Have what frozen networks say for the training of a member, as far as it is kept.

        Args:
            member: its number.
            report: prints a line for people.
        """
        if not (self._trunk or self._teacher):
            return
        data = self._experiment.data
        own = data.view_sharing == "own"
        views, in_all = self.views(member), data.views * (self._experiment.members if own else 1)
        train = self._images["train"], self._images.content("train"), views, in_all
        wanted = [Request(self._teacher, "train", *train)] if self._teacher else []
        if self._trunk:
            wanted += [
                Request(self._trunk, part, images, self._images.content(part), [0], 1)
                for part, images in self._images.judged.items()
            ]
            wanted.append(Request(self._trunk, "train", *train))
        self._kept = self._cache.prepare(wanted, report)

    def views(self, member: int) -> range:
        """Numbers of the views that a member is shown in training."""
        data = self._experiment.data
        first = (member - 1) * data.views if data.view_sharing == "own" else 0
        return range(first, first + data.views)

    @property
    def train(self) -> Images:
        """The training images, with what is looked up beside them or in their place."""
        return self._looked_up("train", self._images["train"])

    @property
    def judged(self) -> dict[str, Images]:
        """Likewise the parts that members are judged on, by name."""
        return {part: self._looked_up(part, images) for part, images in self._images.judged.items()}

    def _looked_up(self, part: str, images: Images) -> Images:
        """Without the images themselves where no network that runs in the step looks at them."""
        kept = self._kept.get(part, {})
        asked = part == "train" and self._teacher and "taught" not in kept
        unseen = "features" in kept and not asked
        return dataclasses.replace(
            images, lookups=kept, **({"fetch": None, "store": None} if unseen else {})
        )

    def inputs(self, batch: Mapping[str, jax.Array]) -> Mapping[str, Any]:
        """A batch of training views as `train_step` takes it: with the teachers' answers, behind
        the frozen trunk."""
        if self._teacher:
            batch = self._teacher.run(batch, self._images["train"].store)
        return self._behind_trunk(batch)

    def _behind_trunk(self, batch: Mapping[str, jax.Array]) -> Mapping[str, Any]:
        return self._trunk.run(batch, self._images["train"].store) if self._trunk else batch

    def attention_maps(
        self,
        folder: Path,
        record: Record,
        frozen: Sequence[tuple[str, Member]],
        grid: tuple[int, int],
        report: Report,
    ) -> AttentionMaps | None:
        """The frozen members' attention on every training view, where it is precomputed.

        Members of different networks have a sum on every grid, in a folder of its own.

        Args:
            folder: of the maps.
            record: of the run.
            frozen: (digest, member) of the members before.
            grid: (h, w) of the student's maps.
            report: prints a line for people.
        """
        transfer, data = self._experiment.transfer, self._experiment.data
        if transfer.name == "none" or transfer.maps == "online":
            return None
        known = record.digests
        shown = [digests.best(known["train"]), data.view.known, data.view_seed, known["trunk"]]
        if self._experiment.networks:
            shown, folder = [*shown, grid], folder / "x".join(map(str, grid))
        maps = AttentionMaps(
            folder,
            views=data.views,
            shape=(len(self._images["train"].source), *grid),
            content=digests.of_value(shown),
        )
        backbones = [
            (digest, member._replace(variables=backbone_only(member.variables)))
            for digest, member in frozen
        ]
        attention = partial(self.attention, grid=grid)
        maps.add(backbones, attention, write=jax.process_index() == 0, progress=report)
        processes.wait_for_all("attention maps are written")
        return maps

    def attention(self, member: Member, view: int, grid: tuple[int, int]) -> np.ndarray:
        """|Z| of one frozen member on a view of every training image and on a grid (h, w):
        (images, h, w) float32."""
        images, step = self.train, self._attention_step(member, grid)
        batches = feed.evaluation_batches(
            images, most=self._experiment.evaluation_batch_size, mesh=self._mesh, view=view
        )
        parts = (
            step(member.variables, self._behind_trunk(batch), images.store) for batch in batches
        )
        return feed.by_row(parts, "attention", len(images.source))

    def _attention_step(self, member: Member, grid: tuple[int, int]) -> Callable:
        """The compiled attention on a grid, one for all members of a network."""
        key = id(member.network), grid
        if key not in self._attention_steps:
            self._attention_steps[key] = passes.attention_step(
                network=member.network,
                view=member.view,
                seed=self._experiment.data.view_seed,
                grid=grid,
                mesh=self._mesh,
            )
        return self._attention_steps[key]


def _cache(experiment: Experiment, mesh: jax.sharding.Mesh) -> Cache:
    """Where what frozen networks say is kept: in the workdir, or a folder that runs share."""
    data = experiment.data
    folder = Workdir(experiment.workdir).features
    if data.cache:
        folder = storage.location(data.cache, "--data.cache")
    budget = int(data.cache_gib * 2**30)
    return Cache(folder, budget, most=experiment.evaluation_batch_size, mesh=mesh)
