"""The one place that turns an Experiment into the parts of a run."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from fgvc_jax import ensemble, machine, networks
from fgvc_jax.config import Experiment
from fgvc_jax.data import pipeline, sources
from fgvc_jax.data.sources import Source
from fgvc_jax.engine import mesh as devices
from fgvc_jax.engine import step as steps
from fgvc_jax.engine.loop import ahead
from fgvc_jax.engine.maps import AttentionMaps
from fgvc_jax.engine.optimizer import optimizer, schedule
from fgvc_jax.engine.state import State, backbone_only, stack_teachers
from fgvc_jax.networks import heads, weights
from fgvc_jax.objectives.base import Objective
from fgvc_jax.transfer import weigh

DEVICE_SHARE = 0.3  # of an accelerator's memory that decoded images may take by themselves
HOST_SHARE = 0.5  # likewise of the free memory of this machine


@dataclass(frozen=True)
class Images:
    """A source at one size, wherever its decoded images live."""

    source: Source
    fetch: pipeline.Fetch | None
    store: jax.Array | None


class Run:
    """An experiment's parts, built from plain values when they are first needed."""

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        data = experiment.data
        self.splits = sources.restrict(
            sources.open_source(data.source),
            classes=data.classes,
            images_per_class=data.images_per_class,
            validation=data.validation,
            seed=experiment.seed,
        )
        self.mesh = devices.create(experiment.batch_size, experiment.evaluation_batch_size)
        devices.check_batch(self.mesh, experiment.batch_size, "--batch-size")
        devices.check_batch(self.mesh, experiment.evaluation_batch_size, "--evaluation-batch-size")
        self.steps_per_epoch = pipeline.steps_per_epoch(self.splits.train, experiment.batch_size)
        self.total_steps = self.steps_per_epoch * experiment.epochs
        self.objective = self._objective()
        self.network = self._network()

    # -- network ---------------------------------------------------------------------------------

    def _objective(self) -> Objective:
        method = self.experiment.method.settle(self.splits.train.labels)
        return method.make(
            classes=len(self.splits.classes), label_smoothing=self.experiment.label_smoothing
        )

    @property
    def dtype(self) -> str:
        """Precision of the computation, with `auto` resolved for these devices."""
        chosen = self.experiment.network.dtype
        if chosen != "auto":
            return chosen
        return "float32" if jax.default_backend() == "cpu" else "bfloat16"

    def _network(self) -> Any:
        spec, classes = self.experiment.network, len(self.splits.classes)
        pool = spec.pool
        if pool == "auto":
            linear = "token" if spec.name.startswith("vit") else "avg"
            pool = "max" if spec.head == "kt" else linear
        main = (
            heads.KTHead(classes=classes, width=spec.head_width, pool=pool)
            if spec.head == "kt"
            else heads.LinearHead(classes=classes, pool=pool)
        )
        return networks.create(
            spec.name,
            heads={"logits": main, **self.objective.heads},
            dtype=jnp.dtype(self.dtype),
            batch_norm_groups=spec.batch_norm_groups,
        )

    @property
    def _one_image(self) -> jax.Array:
        return jnp.zeros((1, self.experiment.data.crop, self.experiment.data.crop, 3))

    @cached_property
    def _initialize(self):
        def initialize(key):
            initial = self.network.init(key, self._one_image, False)
            return {"params": initial["params"], "batch_stats": initial.get("batch_stats", {})}

        return jax.jit(initialize)

    @property
    def abstract_variables(self) -> Any:
        """Shapes and dtypes of one member's variables."""
        return jax.eval_shape(self._initialize, jax.random.key(0))

    @cached_property
    def _abstract_answer(self) -> tuple[dict, dict]:
        """Shapes and dtypes of (taps, outputs) of one image."""
        return jax.eval_shape(
            lambda v: self.network.apply(v, self._one_image, False), self.abstract_variables
        )

    def variables(self, member: int) -> Any:
        """Initial variables of a member: pretrained where there are weights, its own elsewhere."""
        key = jax.random.fold_in(jax.random.key(self.experiment.seed), member)
        initial = jax.device_get(self._initialize(key))

        def choose(pretrained, own):
            return own if isinstance(pretrained, jax.ShapeDtypeStruct) else np.asarray(pretrained)

        return jax.tree.map(choose, self._pretrained, initial)

    @cached_property
    def _pretrained(self) -> Any:
        """Variables of the weights' file; a ShapeDtypeStruct where it has none."""
        file = self.experiment.network.weights
        return (
            weights.load_torch(file, self.abstract_variables) if file else self.abstract_variables
        )

    def state(self, member: int, frozen: list[Any]) -> State:
        """The state of member `member` (from 1) at step 0, with the frozen members as teachers."""
        variables = self.variables(member)
        transfer = self.experiment.transfer
        online = transfer.name == "orthogonal" and transfer.maps == "online"
        room = self.experiment.members - 1 if online else 0
        teachers = stack_teachers(frozen if room else [], room, variables)
        _, outputs = self._abstract_answer
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

    # -- data ------------------------------------------------------------------------------------

    @cached_property
    def _processes_here(self) -> int:
        return devices.processes_here()

    @cached_property
    def placement(self) -> str:
        """Where decoded images live, with `auto` resolved by their size."""
        chosen = self.experiment.data.placement
        if chosen != "auto":
            return chosen
        device = jax.local_devices()[0]
        limit = (device.memory_stats() or {}).get("bytes_limit", 0)
        if device.platform != "cpu" and self.image_bytes < DEVICE_SHARE * limit:
            return "device"
        free = machine.free_memory(self._processes_here)
        return "host" if self.image_bytes < HOST_SHARE * free else "stream"

    @property
    def image_bytes(self) -> int:
        """Memory of all decoded images."""
        parts = self.splits.train, self.splits.test, self.splits.validation
        return 3 * self.experiment.data.resize**2 * sum(len(part) for part in parts if part)

    def _images(self, source: Source) -> Images:
        size = self.experiment.data.resize
        how = {
            "orientation": self.splits.orientation,
            "threads": machine.cores(self._processes_here),
        }
        if self.placement == "stream":
            return Images(source, pipeline.streamed(source, size, **how), None)
        images, _ = pipeline.decoded(source, size, **how)
        if self.placement == "host":
            return Images(source, images.__getitem__, None)
        return Images(source, None, devices.replicate(self.mesh, images))

    @cached_property
    def train_images(self) -> Images:
        return self._images(self.splits.train)

    @cached_property
    def test_images(self) -> Images:
        return self._images(self.splits.test)

    @cached_property
    def validation_images(self) -> Images | None:
        return self._images(self.splits.validation) if self.splits.validation else None

    def attention_maps(self, folder: Path, frozen: list[Any], report) -> AttentionMaps | None:
        """The frozen members' attention on every training view, where it is precomputed."""
        transfer = self.experiment.transfer
        if transfer.name == "none" or transfer.maps == "online":
            return None
        taps, _ = self._abstract_answer
        maps = AttentionMaps(
            folder,
            views=self.views,
            shape=(len(self.splits.train), *taps["stage5"].shape[1:3]),
        )
        backbones = [backbone_only(member) for member in frozen]
        maps.add(backbones, self._attention, write=jax.process_index() == 0, progress=report)
        multihost_utils.sync_global_devices("attention maps are written")
        maps.open()
        return maps

    def _attention(self, variables: Any, view: int) -> np.ndarray:
        images = self.train_images
        batches = self.evaluation_batches(images)
        parts = [
            self._attention_step(variables, batch, images.store, np.int32(view))
            for batch in batches
        ]
        return np.concatenate(jax.device_get(parts))[: len(images.source)]

    def train_batches(
        self, member: int, start: int, maps: AttentionMaps | None
    ) -> Iterator[dict[str, np.ndarray]]:
        return pipeline.train_batches(
            self.train_images.source,
            self.train_images.fetch,
            seed=self.experiment.seed,
            member=member,
            batch_size=self.experiment.batch_size,
            start=start,
            process=jax.process_index(),
            processes=jax.process_count(),
            views=self.views,
            attention=maps.mean if maps else None,
        )

    def evaluation_batches(self, images: Images) -> Iterator[dict[str, jax.Array]]:
        """Every image of a set once, on the devices: in no more batches than the size asked for
        needs, each as small as that allows, so that little of the last one is padding."""
        count = -(-len(images.source) // self.experiment.evaluation_batch_size)
        share = -(-len(images.source) // (count * self.mesh.size))  # images per batch and device
        batches = pipeline.evaluation_batches(
            images.source,
            images.fetch,
            batch_size=share * self.mesh.size,
            process=jax.process_index(),
            processes=jax.process_count(),
        )
        return ahead(batches, partial(devices.shard_batch, self.mesh))

    # -- optimizer and steps ---------------------------------------------------------------------

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
        experiment = self.experiment
        return steps.train_step(
            network=self.network,
            objective=self.objective,
            optimizer=self.optimizer,
            learning_rate=self._schedule(experiment.optimizer.learning_rate),
            weigh=partial(
                weigh,
                alpha=experiment.transfer.alpha,
                weighting=experiment.transfer.weighting,
            ),
            view=experiment.data.view,
            seed=experiment.seed,
            total_steps=self.total_steps,
            mesh=self.mesh,
        )

    @cached_property
    def _attention_step(self):
        return steps.attention_step(
            network=self.network,
            view=self.experiment.data.view,
            seed=self.experiment.seed,
            mesh=self.mesh,
        )

    @property
    def views(self) -> int:
        """Number of different views of a training image."""
        return self.experiment.data.views or self.experiment.epochs

    @cached_property
    def evaluation_step(self):
        return steps.evaluation_step(
            network=self.network,
            predict=self.objective.predict,
            view=self.experiment.data.view,
            mesh=self.mesh,
        )

    @cached_property
    def judge_step(self):
        return ensemble.judge_step(
            network=self.network,
            predict=self.objective.predict,
            how=self.experiment.fusion,
            members_per_pass=self.experiment.members_per_pass,
            view=self.experiment.data.view,
            mesh=self.mesh,
        )

    def check_input(self) -> None:
        """Read the weights and, unless they are streamed, all images, so that what is wrong with
        them is told before anything is written."""
        _ = self._pretrained, self.train_images, self.test_images, self.validation_images

    # -- judging ---------------------------------------------------------------------------------

    def evaluate(self, variables: Any) -> dict[str, int | float]:
        """Exact counts and accuracies on the test set and, if there is one, the validation set."""
        scores: dict[str, int | float] = {}
        for name, images in (("test", self.test_images), ("validation", self.validation_images)):
            if images is None:
                continue
            total = len(images.source)
            counts = steps.count_correct(
                self.evaluation_step, variables, self.evaluation_batches(images), images.store
            )
            scores[f"{name}_images"] = total
            scores[f"{name}_accuracy"] = counts.pop("prediction") / total
            if len(counts) > 1:
                scores |= {f"{name}_accuracy_{head}": n / total for head, n in counts.items()}
        return scores

    def judge(self, members: list[Any]) -> dict[str, Any]:
        """Members and ensembles on the test set, see `ensemble.judge`."""
        images = self.test_images
        return ensemble.judge(
            self.judge_step, members, self.evaluation_batches(images), images.store
        )
