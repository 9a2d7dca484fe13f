"""What training needs beside networks: data, optimizer, steps; from an Experiment."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from fgvc_jax import config, networks
from fgvc_jax.config import Experiment
from fgvc_jax.config import Network as NetworkOptions
from fgvc_jax.config import Optimizer as OptimizerOptions
from fgvc_jax.data import pipeline, sources
from fgvc_jax.data.feed import Dataset
from fgvc_jax.data.records import Splits
from fgvc_jax.inference import architecture
from fgvc_jax.inference.architecture import Architecture, Member
from fgvc_jax.inference.model import Model
from fgvc_jax.training import step as steps
from fgvc_jax.training.initial import Start, found
from fgvc_jax.training.optimizer import Layers, optimizer, schedule
from fgvc_jax.training.precomputed import OutputCache, Teacher, Trunk, open_teacher
from fgvc_jax.training.state import State, stack_teachers
from fgvc_jax.transfer import weigh
from fgvc_jax.utils import devices
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.options import LARGEST
from fgvc_jax.workdir import training_images
from fgvc_jax.workdir.folder import Workdir
from fgvc_jax.workdir.record import Record


class Run:
    """An experiment's parts: what it reads, starts from, looks up, and steps with.

    `experiment` is the one given with everything automatic settled for this data and these devices.
    """

    def __init__(self, experiment: Experiment):
        # Told, or fetched, before images are read; in one order in all processes.
        names = dict.fromkeys(n.weights for n in experiment.each if n.weights)
        pretrained = {name: found(name) for name in names}
        self.splits = opened(experiment)
        self.experiment = spec = settled(experiment, self.splits)
        self.mesh = devices.create(spec.batch_size, spec.evaluation_batch_size)
        devices.check_batch(self.mesh, spec.batch_size, "--batch-size")
        devices.check_batch(self.mesh, spec.evaluation_batch_size, "--evaluation-batch-size")
        self.steps_per_epoch = pipeline.steps_per_epoch(self.splits.train, spec.batch_size)
        self.total_steps = self.steps_per_epoch * spec.epochs
        if self.total_steps > LARGEST:
            raise UserError(
                f"--epochs {spec.epochs} are {self.total_steps:,} steps, more than {LARGEST:,}: "
                "lower it"
            )
        self.place(self.mesh)
        self.images = Dataset(
            self.splits, spec.data.view, place=spec.data.placement, mesh=self.mesh
        )
        self.start = Start(
            [plan.architecture for plan in self.plans],
            [pretrained.get(network.weights) for network in spec.each],
            spec.seed,
        )
        self.compiled: dict[Any, Any] = {}  # what the run's models have compiled

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

    def plan(self, member: int) -> "MemberPlan":
        """How member `member` (from 1) is trained."""
        return self.plans[member - 1]

    def member(self, member: int, variables: Any) -> Member:
        """Member `member` (from 1) with its variables."""
        return self.plan(member).architecture.member(variables)

    @cached_property
    def record(self) -> Record:
        """What identifies the run: its experiment, classes, and digests of data and weights."""
        spec = self.experiment
        # What frozen networks say is known by contents, so that these are read in any case.
        read = self.splits.parts if spec.network.frozen else ["train"] if spec.method.asks else []
        for part in read:
            self.images.content(part)
        known = self.images.digests()
        files = self.start.digests()
        known["weights"] = files if spec.networks else files[0]
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
        teachers = Workdir(asked.workdir, "--kd.teacher")
        return {
            part: training_images.trained_on(teachers, self.record, self.marks(part))
            for part in self.images.judged
        }

    def check_input(self) -> None:
        """Read the weights, the teachers and, unless they are streamed, all images, of which
        header and end are looked at in any case, so that what is wrong with them is told before
        anything is written."""
        self.start.check()
        self.images.check()
        _ = self.record

    @cached_property
    def trunk(self) -> Trunk | None:
        """What all members share, where a part of the network is frozen."""
        spec, network = self.experiment, self.experiment.network
        if not network.frozen:
            return None
        return Trunk(
            architecture=self.plan(1).architecture,
            variables=self.start.trunk(),
            structure=(network.name, network.frozen, network.dtype),
            parts=networks.parts(network.name, dtype=network.dtype, kept=True),
            view=self.plan(1).architecture.view,
            seed=spec.data.view_seed,
            mesh=self.mesh,
        )

    @cached_property
    def teacher(self) -> Teacher | None:
        """The trained ensemble that the objective asks, where it does."""
        asked, data = self.experiment.method.asks, self.experiment.data
        return asked and open_teacher(
            asked, self.splits.classes, view=data.view, seed=data.view_seed, mesh=self.mesh
        )

    @cached_property
    def cache(self) -> OutputCache:
        """Outputs of frozen networks, computed once."""
        return OutputCache(
            self.experiment,
            self.images,
            lambda: self.record.digests,
            trunk=self.trunk,
            teacher=self.teacher,
            mesh=self.mesh,
        )

    def state(self, member: int, frozen: list[Any]) -> State:
        """The state of member `member` (from 1) at step 0, with the frozen members as teachers."""
        variables = self.start.variables(member)
        transfer = self.experiment.transfer
        online = transfer.name == "orthogonal" and transfer.maps == "online"
        room = self.experiment.members - 1 if online else 0
        plan = self.plan(member)
        _, outputs = plan.architecture.answer
        state = State(
            member=np.int32(member),
            step=np.int32(0),
            params=variables["params"],
            batch_stats=variables["batch_stats"],
            opt_state=plan.optimizer.init(variables["params"]),
            memory=plan.architecture.objective.init_memory(variables, outputs),
            teachers=stack_teachers(frozen if room else [], room, variables),
        )
        return devices.replicate(self.mesh, state)

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
            trunk=self.trunk and self.trunk.on_devices,
            compiled=self.compiled,
        )

    def train_batches(self, member: int, start: int) -> Iterator[dict[str, np.ndarray]]:
        """This process's rows of a member's batches from step `start` on."""
        images = self.cache.train
        return pipeline.train_batches(
            images.source,
            images.fetch,
            seed=self.experiment.seed,
            member=member,
            batch_size=self.experiment.batch_size,
            start=start,
            process=jax.process_index(),
            processes=jax.process_count(),
            views=self.cache.views(member),
            lookups=images.lookups,
        )


@dataclass(frozen=True)
class MemberPlan:
    """How members of one network are trained.

    Args:
        experiment: as they see it.
        architecture: of them.
        steps_per_epoch: of their training.
        mesh: devices.
    """

    experiment: Experiment
    architecture: Architecture
    steps_per_epoch: int
    mesh: Mesh

    def __post_init__(self) -> None:
        _ = self.layers
        check_batch_norm(self.experiment.network, self.architecture)

    @cached_property
    def layers(self) -> Layers | None:
        """How the layers share the backbone's learning rate."""
        return layers_of(self.experiment, self.architecture.network.backbone)

    @cached_property
    def optimizer(self) -> optax.GradientTransformation:
        spec = self.experiment
        return optimizer_of(spec.optimizer, self.steps_per_epoch, spec.epochs, self.layers)

    @cached_property
    def train_step(self) -> Callable:
        spec = self.experiment
        rates = schedules(spec.optimizer, self.steps_per_epoch, spec.epochs)
        return steps.train_step(
            network=self.architecture.network,
            objective=self.architecture.objective,
            optimizer=self.optimizer,
            learning_rate=rates["backbone"],
            weigh=partial(weigh, alpha=spec.transfer.alpha, weighting=spec.transfer.weighting),
            view=self.architecture.view,
            seed=spec.data.view_seed,
            total_steps=self.steps_per_epoch * spec.epochs,
            mesh=self.mesh,
        )


def check_batch_norm(network: NetworkOptions, architecture: Architecture) -> None:
    """Raise a UserError where statistics are asked for in groups that nothing computes."""
    if network.batch_norm_groups > 1 and not architecture.whole["batch_stats"]:
        raise UserError(
            f"--network.batch-norm-groups {network.batch_norm_groups}: there is no batch norm in "
            f"{network.name} and its heads, leave it at 1"
        )


def opened(experiment: Experiment) -> Splits:
    """The dataset that an experiment names, restricted as it says."""
    data = experiment.data
    splits = sources.restrict(
        sources.open_source(data.source, allow_links=data.allow_links),
        classes=data.classes,
        images_per_class=data.images_per_class,
        validation=data.validation,
        seed=experiment.seed,
    )
    sources.check_can_learn(splits)
    return splits


def settled(experiment: Experiment, splits: Splits) -> Experiment:
    """The experiment with everything automatic decided for this data and these devices."""
    data, transfer = experiment.data, experiment.transfer
    sharing, orientation = data.view_sharing, data.orientation
    if sharing == "auto":
        precomputed = transfer.name == "orthogonal" and transfer.maps == "precomputed"
        looked_up = precomputed or experiment.network.frozen or experiment.method.asks
        sharing = "shared" if looked_up else "own"
    data = dataclasses.replace(
        data,
        views=min(data.views or experiment.epochs, experiment.epochs),
        view_sharing=sharing,
        view_seed=experiment.seed if data.view_seed < 0 else data.view_seed,
        orientation=splits.orientation if orientation == "auto" else orientation,
    )
    method = config.settle(experiment, splits.train.labels)
    own = {experiment.objective: method} if dataclasses.fields(method) else {}
    if experiment.networks:
        own["networks"] = tuple(map(architecture.settle, experiment.networks))
    else:
        own["network"] = architecture.settle(experiment.network)
    return dataclasses.replace(experiment, data=data, **own)


def layers_of(experiment: Experiment, backbone: Any) -> Layers | None:
    """How the layers of a backbone share its learning rate; None for all alike.

    Raises UserError for a backbone whose layers have no order of their own.
    """
    decay = experiment.optimizer.layer_decay
    if decay == 1:
        return None
    if not hasattr(backbone, "layer"):
        raise UserError(
            f"--optimizer.layer-decay {decay:g}: {experiment.network.name} has no layer-wise "
            "learning rates, leave it at 1"
        )
    return Layers(decay, backbone.layers, backbone.layer)


def schedules(spec: OptimizerOptions, steps_per_epoch: int, epochs: int) -> dict[str, Any]:
    """Learning rates by step of the "backbone" and the "heads"."""
    peaks = {"backbone": spec.learning_rate, "heads": spec.head_learning_rate}
    return {
        part: schedule(
            peak,
            kind=spec.schedule,
            steps_per_epoch=steps_per_epoch,
            epochs=epochs,
            warmup_steps=spec.warmup_steps,
            step_epochs=spec.step_epochs,
            step_factor=spec.step_factor,
        )
        for part, peak in peaks.items()
    }


def optimizer_of(
    spec: OptimizerOptions, steps_per_epoch: int, epochs: int, layers: Layers | None
) -> optax.GradientTransformation:
    """The optax transformation that the options describe."""
    return optimizer(
        spec.name,
        **schedules(spec, steps_per_epoch, epochs),
        momentum=spec.momentum,
        weight_decay=spec.weight_decay,
        decayed=spec.decayed,
        clip_norm=spec.clip_norm,
        layers=layers,
    )
