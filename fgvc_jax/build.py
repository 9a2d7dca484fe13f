"""What training needs beside networks: data, optimizer, steps, maps; from an Experiment."""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fgvc_jax import digests, machine, model, options, paths, predictions
from fgvc_jax.config import Experiment
from fgvc_jax.data import pipeline, sources
from fgvc_jax.engine import feed
from fgvc_jax.engine import mesh as devices
from fgvc_jax.engine import step as steps
from fgvc_jax.engine.feed import Images
from fgvc_jax.engine.maps import AttentionMaps
from fgvc_jax.engine.optimizer import optimizer, schedule
from fgvc_jax.engine.state import State, backbone_only, stack_teachers
from fgvc_jax.errors import UserError
from fgvc_jax.model import Architecture, Member, Model
from fgvc_jax.networks import weights
from fgvc_jax.objectives import OBJECTIVES
from fgvc_jax.options import LARGEST
from fgvc_jax.transfer import weigh
from fgvc_jax.trunk import Cache, Trunk, Wanted
from fgvc_jax.workdir import Record, Workdir


class Run:
    """An experiment's parts, built from plain values when they are first needed.

    `experiment` is the one given with everything automatic settled for this data and these devices.
    """

    def __init__(self, experiment: Experiment):
        data = experiment.data
        self.splits = sources.restrict(
            sources.open_source(data.source),
            classes=data.classes,
            images_per_class=data.images_per_class,
            validation=data.validation,
            seed=experiment.seed,
        )
        self.experiment = self._settled(experiment)
        batch_sizes = experiment.batch_size, experiment.evaluation_batch_size
        self.mesh = devices.create(*batch_sizes)
        for size, flag in zip(
            batch_sizes, ("--batch-size", "--evaluation-batch-size"), strict=True
        ):
            devices.check_batch(self.mesh, size, flag)
        self.steps_per_epoch = pipeline.steps_per_epoch(self.splits.train, experiment.batch_size)
        self.total_steps = self.steps_per_epoch * experiment.epochs
        if self.total_steps > LARGEST:
            raise UserError(
                f"--epochs {experiment.epochs} are {self.total_steps:,} steps, more than "
                f"{LARGEST:,}: lower it"
            )
        self.architecture: Architecture = model.architecture(
            self.experiment, len(self.splits.classes), self.mesh
        )
        self.network, self.objective = self.architecture.network, self.architecture.objective
        self._compiled: dict[Any, Any] = {}  # what the run's models have compiled
        self._kept: dict[str, Images] = {}  # by part, where a frozen trunk's features are looked up

    def _settled(self, experiment: Experiment) -> Experiment:
        data, transfer = experiment.data, experiment.transfer
        sharing, orientation = data.view_sharing, data.orientation
        if sharing == "auto":
            precomputed = transfer.name == "orthogonal" and transfer.maps == "precomputed"
            sharing = "shared" if precomputed or experiment.network.frozen else "own"
        data = dataclasses.replace(
            data,
            views=min(data.views or experiment.epochs, experiment.epochs),
            view_sharing=sharing,
            view_seed=experiment.seed if data.view_seed < 0 else data.view_seed,
            orientation=self.splits.orientation if orientation == "auto" else orientation,
        )
        method = experiment.method.settle(self.splits.train.labels)
        own = {experiment.objective: method} if dataclasses.fields(method) else {}
        network = model.settle(experiment.network)
        return dataclasses.replace(experiment, data=data, network=network, **own)

    @cached_property
    def record(self) -> Record:
        """What identifies the run: its experiment, classes, and digests of data and weights."""
        contents = {
            name: images.contents
            for name, images in (
                ("train", self.train_images),
                ("validation", self.validation_images),
                ("test", self.test_images),
            )
            if images is not None
        }
        file = self.experiment.network.weights
        known = digests.of_data(self.splits, contents)
        known["weights"] = digests.of_file(weights.resolve(file)) if file else None
        known["trunk"] = self.trunk.digest if self.trunk else None
        selects = self.splits.validation is not None
        return Record(self.experiment, self.splits.classes, known, selects)

    def training_digest(self, member: int, teachers: Sequence[str]) -> str:
        """Digest of all that the variables of member `member` (from 1) depend on.

        Args:
            member: its number.
            teachers: digests of the frozen members before it.
        """
        spec = self.experiment
        fields = {
            flag: value
            for flag, field, value in options.fields(spec)
            if not field.metadata.get("free")
        }
        for flag in _NOT_OF_ONE_MEMBER:
            del fields[flag]
        if member == 1:  # whose own views are those that all share
            del fields["--data.view-sharing"]
        taught = spec.transfer.name != "none" and bool(teachers)
        others = {f"--{name}." for name in OBJECTIVES if name != spec.objective}
        others |= set() if taught else {"--transfer."}
        return digests.of_value(
            {
                "numerics": digests.NUMERICS,
                "member": member,
                "teachers": list(teachers) if taught else [],
                "weights": self.record.digests["weights"],
                "data": self.record.digests["data"],
                "fields": {k: v for k, v in fields.items() if not k.startswith(tuple(others))},
            }
        )

    # -- members and state -------------------------------------------------------------------------

    @property
    def abstract_variables(self) -> Any:
        """Shapes and dtypes of one member's variables."""
        return self.architecture.variables

    def variables(self, member: int) -> Any:
        """Initial variables of a member: pretrained where there are weights, its own elsewhere."""
        return self.architecture.split(self._whole(member))[1]

    @cached_property
    def trunk(self) -> Trunk | None:
        """What all members share; where there are no weights, what the first would start with."""
        spec = self.experiment
        if not spec.network.frozen:
            return None
        own, _ = self.architecture.split(self._whole(1))
        return Trunk(
            architecture=self.architecture,
            variables=own,
            structure=(spec.network.name, spec.network.frozen, spec.network.dtype),
            view=spec.data.view,
            seed=spec.data.view_seed,
            mesh=self.mesh,
            most=spec.evaluation_batch_size,
            cache=Cache(
                paths.local(spec.data.cache, "--data.cache")
                if spec.data.cache
                else Workdir(spec.workdir).features,
                int(spec.data.cache_gib * 2**30),
            ),
        )

    def _whole(self, member: int) -> Any:
        key = jax.random.fold_in(jax.random.key(self.experiment.seed), member)
        initial = jax.device_get(self.architecture.initialize(key))

        def choose(pretrained, own):
            return own if isinstance(pretrained, jax.ShapeDtypeStruct) else np.asarray(pretrained)

        return jax.tree.map(choose, self._pretrained, initial)

    @cached_property
    def _pretrained(self) -> Any:
        """Variables of the weights' file; a ShapeDtypeStruct where it has none."""
        file = self.experiment.network.weights
        return (
            weights.load_torch(file, self.architecture.whole) if file else self.architecture.whole
        )

    def state(self, member: int, frozen: list[Any]) -> State:
        """The state of member `member` (from 1) at step 0, with the frozen members as teachers."""
        variables = self.variables(member)
        transfer = self.experiment.transfer
        online = transfer.name == "orthogonal" and transfer.maps == "online"
        room = self.experiment.members - 1 if online else 0
        teachers = stack_teachers(frozen if room else [], room, variables)
        _, outputs = self.architecture.answer
        memory = self.objective.init_memory(variables, outputs)
        state = State(
            step=np.int32(0),
            params=variables["params"],
            batch_stats=variables["batch_stats"],
            opt_state=self.optimizer.init(variables["params"]),
            memory=memory,
            teachers=teachers,
        )
        return devices.replicate(self.mesh, state)

    def model(self, members: list[Any], identities: Sequence[str]) -> Model:
        """Members of this run as a model: variables of each, and their digests."""
        return Model(
            classes=self.splits.classes,
            view=self.experiment.data.view,
            members=[Member(self.network, variables) for variables in members],
            identities=identities,
            predict=self.objective.predict,
            fusion=self.experiment.fusion,
            mesh=self.mesh,
            trunk=self.trunk and self.trunk.on_devices,
            compiled=self._compiled,
        )

    # -- data --------------------------------------------------------------------------------------

    @cached_property
    def _processes_here(self) -> int:
        return devices.processes_here()

    @cached_property
    def placement(self) -> str:
        """Where decoded images live, with `auto` resolved by their size."""
        chosen = self.experiment.data.placement
        return feed.placement(chosen, self.image_bytes, self._processes_here)

    @property
    def image_bytes(self) -> int:
        """Memory of all decoded images."""
        return sum(3 * self._side(name) ** 2 * len(p) for name, p in self.splits.parts.items())

    def _side(self, part: str) -> int:
        data = self.experiment.data
        return data.resize if part == "train" else data.test_side

    def _images(self, part: str) -> Images:
        return feed.load(
            self.splits.parts[part],
            self._side(part),
            orientation=self.experiment.data.orientation,
            place=self.placement,
            threads=machine.cores(self._processes_here),
            mesh=self.mesh,
        )

    @cached_property
    def train_images(self) -> Images:
        return self._images("train")

    @cached_property
    def test_images(self) -> Images:
        return self._images("test")

    @cached_property
    def validation_images(self) -> Images | None:
        return self._images("validation") if self.splits.validation is not None else None

    @property
    def decoded(self) -> dict[str, Images]:
        """The parts that members are judged on, by name."""
        parts = {"test": self.test_images, "validation": self.validation_images}
        return {name: images for name, images in parts.items() if images is not None}

    @property
    def judged(self) -> dict[str, Images]:
        """The same, with a frozen trunk's features in the place of images where they are kept."""
        return self.decoded | {n: self._kept[n] for n in self.decoded if n in self._kept}

    def prepare(self, member: int, report) -> None:
        """Have the frozen trunk's features for the training of a member, as far as they are kept.

        Args:
            member: its number.
            report: prints a line for people.
        """
        if not self.trunk:
            return
        data = self.experiment.data
        own = data.view_sharing == "own"
        views = range(self._first_view(member), self._first_view(member) + data.views)
        in_all = data.views * (self.experiment.members if own else 1)
        wanted = [
            Wanted(name, images, self._content(name, images), *shown)
            for name, images, *shown in (
                ("test", self.test_images, [0], 1),
                ("validation", self.validation_images, [0], 1),
                ("train", self.train_images, views, in_all),
            )
            if images is not None
        ]
        self._kept = self.trunk.prepare(wanted, report)

    def _first_view(self, member: int) -> int:
        data = self.experiment.data
        return (member - 1) * data.views if data.view_sharing == "own" else 0

    def _content(self, part: str, images: Images) -> str:
        """Digest of a part by what its files hold, which are read if nothing has read them yet."""
        return self.record.digests[part]["contents"] or digests.of_images(
            images.source, self.splits.classes, feed.contents(images.source)
        )

    def attention_maps(
        self, folder: Path, frozen: Sequence[tuple[str, Any]], report
    ) -> AttentionMaps | None:
        """The frozen members' attention on every training view, where it is precomputed.

        Args:
            folder: of the maps.
            frozen: (digest, variables) of the members before.
            report: prints a line for people.
        """
        transfer = self.experiment.transfer
        if transfer.name == "none" or transfer.maps == "online":
            return None
        data = self.experiment.data
        known = self.record.digests
        shown = [digests.best(known["train"]), vars(data.view), data.view_seed, known["trunk"]]
        maps = AttentionMaps(
            folder,
            views=data.views,
            shape=(len(self.splits.train), *self.architecture.grid),
            content=digests.of_value(shown),
        )
        backbones = [(digest, backbone_only(variables)) for digest, variables in frozen]
        maps.add(backbones, self._attention, write=jax.process_index() == 0, progress=report)
        devices.wait_for_all("attention maps are written")
        return maps

    def _attention(self, variables: Any, view: int) -> np.ndarray:
        images = self._kept.get("train", self.train_images)
        batches = self.evaluation_batches(images, view)
        parts = (
            self._attention_step(variables, self.inputs(batch), images.store) for batch in batches
        )
        return feed.by_row(parts, "attention", len(images.source))

    def inputs(self, batch: dict[str, jax.Array]) -> dict[str, Any]:
        """A batch of training views as `train_step` takes it: behind the frozen trunk."""
        return self.trunk.run(batch, self.train_images.store) if self.trunk else batch

    def train_batches(
        self, member: int, start: int, maps: AttentionMaps | None
    ) -> Iterator[dict[str, np.ndarray]]:
        """This process's rows of a member's batches from step `start` on."""
        images = self._kept.get("train", self.train_images)
        attention = {"attention": maps.mean} if maps else {}
        count, first = self.experiment.data.views, self._first_view(member)
        return pipeline.train_batches(
            images.source,
            images.fetch,
            seed=self.experiment.seed,
            member=member,
            batch_size=self.experiment.batch_size,
            start=start,
            process=jax.process_index(),
            processes=jax.process_count(),
            views=range(first, first + count),
            lookups=images.lookups | attention,
        )

    def evaluation_batches(self, images: Images, view: int = 0) -> Iterator[dict[str, jax.Array]]:
        """Every image of a set once, on the devices; of training images, the view of a number."""
        most = self.experiment.evaluation_batch_size
        return feed.evaluation_batches(images, most=most, mesh=self.mesh, view=view)

    def check_input(self) -> None:
        """Read the weights and, unless they are streamed, all images, so that what is wrong with
        them is told before anything is written."""
        _ = self._pretrained, self.record

    # -- optimizer and steps -----------------------------------------------------------------------

    def _schedule(self, peak: float):
        spec = self.experiment.optimizer
        return schedule(
            peak,
            kind=spec.schedule,
            steps_per_epoch=self.steps_per_epoch,
            epochs=self.experiment.epochs,
            warmup_steps=spec.warmup_steps,
            step_epochs=spec.step_epochs,
            step_factor=spec.step_factor,
        )

    @cached_property
    def optimizer(self):
        spec = self.experiment.optimizer
        return optimizer(
            spec.name,
            backbone=self._schedule(spec.learning_rate),
            heads=self._schedule(spec.head_learning_rate),
            momentum=spec.momentum,
            weight_decay=spec.weight_decay,
            clip_norm=spec.clip_norm,
        )

    @cached_property
    def train_step(self):
        spec = self.experiment
        return steps.train_step(
            network=self.network,
            objective=self.objective,
            optimizer=self.optimizer,
            learning_rate=self._schedule(spec.optimizer.learning_rate),
            weigh=partial(weigh, alpha=spec.transfer.alpha, weighting=spec.transfer.weighting),
            view=spec.data.view,
            seed=spec.data.view_seed,
            total_steps=self.total_steps,
            mesh=self.mesh,
        )

    @cached_property
    def _attention_step(self):
        return steps.attention_step(
            network=self.network,
            view=self.experiment.data.view,
            seed=self.experiment.data.view_seed,
            mesh=self.mesh,
        )

    # -- judging -----------------------------------------------------------------------------------

    def evaluate(self, variables: Any, keep: dict[str, np.ndarray] | None = None) -> dict[str, Any]:
        """Exact counts and accuracies on the test set and, if there is one, the validation set.

        Args:
            variables: of a member.
            keep: arrays (N, K) float16 by part, to fill in with the log-probabilities.
        """
        scores: dict[str, Any] = {}
        member = self.model([variables], ["in training"])
        for name, images in self.judged.items():
            total = len(images.source)
            answers = member.answers(self.evaluation_batches(images), images.store)
            arrays = [(keep[name],)] if keep and name in keep else []
            (counts,) = predictions.fill(answers, arrays)
            scores[f"{name}_images"] = total
            scores[f"{name}_accuracy"] = counts.pop("prediction") / total
            if len(counts) > 1:
                scores |= {f"{name}_accuracy_{head}": n / total for head, n in counts.items()}
        return scores


# Fields that change no number of a single member: what is data or weights has digests of its own.
_NOT_OF_ONE_MEMBER = (
    "--members",
    "--fusion",
    "--evaluate-every",
    "--data.source",
    "--data.classes",
    "--data.images-per-class",
    "--data.validation",
    "--network.weights",
)
