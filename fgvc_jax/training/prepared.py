"""What an experiment reads, starts from and steps with, before anything is computed."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jax.sharding import Mesh

from fgvc_jax import config
from fgvc_jax.config import Experiment
from fgvc_jax.data import left_out, pipeline, sources
from fgvc_jax.data.feed import Dataset
from fgvc_jax.data.left_out import LeftOut
from fgvc_jax.data.records import Splits
from fgvc_jax.inference import architecture, own_images
from fgvc_jax.training import warm_start
from fgvc_jax.training.initial import Start, weights_named
from fgvc_jax.training.plan import MemberPlan
from fgvc_jax.utils import devices


class Prepared:
    """An experiment's dataset, networks at their start, and programs.

    `experiment` is the one given with everything automatic settled for this data and these devices.
    """

    def __init__(self, experiment: Experiment):
        # Told, or fetched, before images are read; in one order in all processes.
        each = [network for network in experiment.each if not network.start]
        names = dict.fromkeys(network.weights for network in each if network.weights)
        pretrained = {name: weights_named(name) for name in names}
        self._given, self._pretrained = experiment, pretrained
        self._predecessors = warm_start.predecessors(experiment)
        self.left_out: list[LeftOut] = []  # images that the run does without
        self._broken: list[LeftOut] = []  # those of them that are so now
        self._opened = open_dataset(experiment)
        self._begin(self._opened)

    def _begin(self, splits: Splits) -> None:
        """Settle everything for a dataset."""
        self.splits = splits
        self.experiment = spec = settled(self._given, splits)
        # By the training batch alone, since the number of devices changes the last bits of its
        # sums.
        part = spec.batch_size // spec.optimizer.accumulate
        self.mesh = devices.create_mesh(part)
        devices.check_batch(self.mesh, part, spec.batch_words)
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


def open_dataset(experiment: Experiment) -> Splits:
    """The dataset that an experiment names, restricted as it says."""
    splits = own_images.dataset_of(experiment)
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
