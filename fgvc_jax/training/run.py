"""What training needs of an experiment: its parts, the outputs of frozen networks, and batches."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from flax.typing import VariableDict

from fgvc_jax.data import feed
from fgvc_jax.inference.architecture import Member
from fgvc_jax.inference.model import Model
from fgvc_jax.training.precomputed import Embeddings, OutputCache, Teacher, Trunk, open_teacher
from fgvc_jax.training.prepared import Prepared
from fgvc_jax.training.state import State
from fgvc_jax.workdir import training_images
from fgvc_jax.workdir.folder import Workdir
from fgvc_jax.workdir.record import Record


class Run(Prepared):
    """The parts of an experiment: its data, start, precomputed outputs, and compiled steps."""

    def member(self, member: int, variables: VariableDict) -> Member:
        """Member `member` (from 1) with its variables."""
        return self.plan(member).architecture.member(variables, *self.shared)

    @cached_property
    def record(self) -> Record:
        """What identifies the run: its experiment, classes, and digests of data and weights."""
        spec = self.experiment
        # Stored outputs of frozen networks are identified by the contents of the images, so that
        # these are read in any case.
        train = ["train"] if spec.method.asks or spec.method.solves else []
        read = self.splits.parts if spec.network.frozen else train
        for part in read:
            self.images.content(part)
        known = self.images.digests()
        files = self.start.digests()
        known["weights"] = files if spec.networks or spec.network.start else files[0]
        known["trunk"] = self.trunk.digest if self.trunk else None
        known["teacher"] = self.teacher.digest if self.teacher else None
        if self.teacher:
            known["teacher_parts"] = self.teacher.parts
        selects = self.splits.validation is not None
        return Record(self.experiment, self.splits.classes, known, selects)

    def marks(self, part: str) -> np.ndarray:
        """What each image of a part is known by, see `training_images.marks`."""
        return training_images.marks(self.splits.parts[part], self.images[part].contents)

    @cached_property
    def seen_by_teachers(self) -> dict[str, int | None]:
        """How many validation and test images the teachers were trained on, where the objective
        asks some; None where that is not known."""
        asked = self.experiment.method.asks
        if not asked:
            return {}
        teachers = Workdir(asked.workdir, f"--{self.experiment.objective}.teacher")
        return {
            part: training_images.trained_on(teachers, self.record, self.marks(part))
            for part in self.images.judged
        }

    def check_input(self) -> None:
        """Read the weights, the teachers and, unless they are streamed, all images, so that what is
        wrong with them is told before anything is written."""
        self.start.check()
        _ = self.record

    @cached_property
    def trunk(self) -> Trunk | None:
        """The trunk that all members share: the frozen part of the network, or all but adapters."""
        spec, architecture = self.experiment, self.plan(1).architecture
        if not architecture.trunk:
            return None
        return Trunk.of(
            spec.network, architecture, self.start.trunk(), spec.data.view_seed, self.mesh
        )

    @property
    def features(self) -> Trunk | None:
        """The trunk, where it is run by itself and members go on from what it makes."""
        return self.trunk if self.experiment.network.frozen else None

    @property
    def shared(self) -> Sequence[VariableDict]:
        """The trunk's variables, on the devices, where members run it with adapters of their own:
        one, else none."""
        return [self.trunk.on_devices] if self.trunk and not self.features else []

    @cached_property
    def teacher(self) -> Teacher | None:
        """The trained ensemble that the objective asks, where it does."""
        asked, data = self.experiment.method.asks, self.experiment.data
        return asked and open_teacher(
            asked, self.splits.classes, view=data.view, seed=data.view_seed, mesh=self.mesh
        )

    @cached_property
    def embeddings(self) -> Embeddings | None:
        """What the frozen network sees of the training images, where the objective is solved."""
        spec, architecture = self.experiment, self.plan(1).architecture
        if not spec.method.solves:
            return None
        return Embeddings(spec.network, architecture, self.start.variables(1), self.mesh)

    @cached_property
    def cache(self) -> OutputCache:
        """Outputs of frozen networks, computed once."""
        return OutputCache(
            self.experiment,
            self.images,
            lambda: self.record.digests,
            trunk=self.features or self.embeddings,
            teacher=self.teacher,
            mesh=self.mesh,
        )

    def state(self, member: int, frozen: Sequence[VariableDict]) -> State:
        """The state of member `member` (from 1) at step 0, with the frozen members as teachers."""
        return self.plan(member).state(member, self.start.variables(member), frozen)

    def model(self, members: Sequence[Member], identities: Sequence[str]) -> Model:
        """Members of this run as a model, with their digests."""
        return Model(
            classes=self.splits.classes,
            view=self.experiment.data.view,
            members=members,
            identities=identities,
            logits_of=self.plan(1).architecture.objective.predict,
            fusion=self.experiment.fusion,
            mesh=self.mesh,
            trunk=self.features.on_devices if self.features else None,
            members_at_once=self.experiment.members_at_once,
        )

    def train_batches(self, member: int, start: int) -> Iterator[dict[str, np.ndarray]]:
        """This process's rows of a member's batches from step `start` on."""
        return feed.train_batches(
            self.cache.train,
            seed=self.experiment.seed,
            member=member,
            batch_size=self.experiment.batch_size,
            start=start,
            views=self.cache.views(member),
            balance=self.experiment.data.balance,
        )
