"""What training needs beside networks: data, optimizer, steps; from an Experiment."""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from flax.typing import VariableDict
from jax.sharding import Mesh

from fgvc_jax import config
from fgvc_jax.config import Experiment
from fgvc_jax.data import feed, left_out, pipeline, sources
from fgvc_jax.data.feed import Dataset
from fgvc_jax.data.left_out import LeftOut
from fgvc_jax.data.records import Splits
from fgvc_jax.inference import architecture, own_images
from fgvc_jax.inference.architecture import Member
from fgvc_jax.inference.model import Model
from fgvc_jax.training import warm_start
from fgvc_jax.training.initial import Start, found
from fgvc_jax.training.plan import MemberPlan
from fgvc_jax.training.precomputed import Embeddings, OutputCache, Teacher, Trunk, open_teacher
from fgvc_jax.training.state import State
from fgvc_jax.utils import devices
from fgvc_jax.workdir import training_images
from fgvc_jax.workdir.folder import Workdir
from fgvc_jax.workdir.record import Record


class Run:
    """An experiment's parts: what it reads, starts from, looks up, and steps with.

    `experiment` is the one given with everything automatic settled for this data and these devices.
    """

    def __init__(self, experiment: Experiment):
        # Told, or fetched, before images are read; in one order in all processes.
        each = [network for network in experiment.each if not network.start]
        names = dict.fromkeys(network.weights for network in each if network.weights)
        pretrained = {name: found(name) for name in names}
        self._given, self._pretrained = experiment, pretrained
        self._predecessors = warm_start.predecessors(experiment)
        self.left_out: list[LeftOut] = []  # images that the run does without
        self._broken: list[LeftOut] = []  # those of them that are so now
        self._opened = opened(experiment)
        self._begin(self._opened)

    def _begin(self, splits: Splits) -> None:
        """Settle everything for a dataset."""
        self.splits = splits
        self.experiment = spec = settled(self._given, splits)
        part, others = spec.batch_size // spec.optimizer.accumulate, spec.evaluation_batch_size
        self.mesh = devices.create(part, others)
        devices.check_batch(self.mesh, part, spec.batch_words)
        devices.check_batch(self.mesh, others, f"--evaluation-batch-size {others}")
        self.steps_per_epoch = 1
        if not spec.method.solves:
            self.steps_per_epoch = pipeline.steps_per_epoch(self.splits.train, spec.batch_size)
        self.place(self.mesh)
        self.images = Dataset(
            self.splits,
            spec.data.view,
            place=spec.data.placement,
            mesh=self.mesh,
            as_tested=spec.method.solves,
        )
        warm = warm_start.starts(self._predecessors, spec, self.splits.classes, self.mesh)
        self.start = Start(
            [plan.architecture for plan in self.plans],
            [
                start or self._pretrained.get(network.weights)
                for start, network in zip(warm, spec.each, strict=True)
            ],
            spec.seed,
        )

    def place(self, mesh: Mesh) -> None:
        """Have the programs of the members made for a mesh.

        Raises UserError for options that a member's network does not have.
        """
        self.mesh, spec = mesh, self.experiment
        plans = architecture.architectures(spec, len(self.splits.classes), mesh)
        made = {
            id(plan): MemberPlan(spec.of(member), plan, self.steps_per_epoch, mesh)
            for member, plan in enumerate(plans, start=1)
        }
        self.plans = [made[id(plan)] for plan in plans]  # of one network it is the same

    def plan(self, member: int) -> MemberPlan:
        """How member `member` (from 1) is trained."""
        return self.plans[member - 1]

    def member(self, member: int, variables: VariableDict) -> Member:
        """Member `member` (from 1) with its variables."""
        return self.plan(member).architecture.member(variables, *self.shared)

    @cached_property
    def record(self) -> Record:
        """What identifies the run: its experiment, classes, and digests of data and weights."""
        spec = self.experiment
        # What frozen networks say is known by contents, so that these are read in any case.
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

    def leave_out(self, before: Sequence[LeftOut], found: Sequence[LeftOut]) -> None:
        """Go on without images that the run was begun without, and without those that are found to
        be broken; nothing may have been computed of the dataset yet.

        Raises a UserError when too many are broken, see `left_out.check`.
        """
        self._broken += found
        strict = left_out.STRICT if self.experiment.data.strict else ""
        left_out.check(self._opened, self._broken, strict=strict)
        known = {each.name: each for each in (*found, *before, *self.left_out)}
        self.left_out = [known[name] for name in sorted(known)]
        if not known.keys().isdisjoint(self.splits.names):
            self._begin(left_out.without(self._opened, known))

    def check_input(self) -> None:
        """Read the weights, the teachers and, unless they are streamed, all images, so that what is
        wrong with them is told before anything is written."""
        self.start.check()
        _ = self.record

    @cached_property
    def trunk(self) -> Trunk | None:
        """What all members share, where a part of the network is frozen, or all but adapters."""
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
            trunk=self.features and self.features.on_devices,
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


def opened(experiment: Experiment) -> Splits:
    """The dataset that an experiment names, restricted as it says."""
    splits = own_images.opened(experiment)
    sources.check_can_learn(splits)
    return splits


def settled(experiment: Experiment, splits: Splits) -> Experiment:
    """The experiment with everything automatic decided for this data and these devices."""
    data, transfer = experiment.data, experiment.transfer
    sharing = data.view_sharing
    if sharing == "auto":
        precomputed = transfer.name == "orthogonal" and transfer.maps == "precomputed"
        looked_up = precomputed or experiment.network.frozen or experiment.method.asks
        sharing = "shared" if looked_up else "own"
    data = dataclasses.replace(
        data,
        views=min(data.views or experiment.epochs, experiment.epochs),
        view_sharing=sharing,
        view_seed=experiment.seed if data.view_seed < 0 else data.view_seed,
        orientation=splits.orientation if data.orientation == "auto" else data.orientation,
        decode=splits.decode if data.decode == "auto" else data.decode,
    )
    method = config.settle(experiment, splits.train.labels)
    own: dict[str, Any] = {experiment.objective: method} if dataclasses.fields(method) else {}
    if experiment.networks:
        own["networks"] = tuple(map(architecture.settle, experiment.networks))
    else:
        own["network"] = architecture.settle(experiment.network)
    return dataclasses.replace(experiment, data=data, **own)
