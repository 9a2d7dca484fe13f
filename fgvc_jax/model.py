"""All that inference needs, from a workdir alone: classes, view, members, fusion.

Neither the dataset nor anything of the training is opened here.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from PIL import Image

from fgvc_jax import digests, ensemble, networks
from fgvc_jax.config import Experiment
from fgvc_jax.config import Network as NetworkOptions
from fgvc_jax.data.images import decode
from fgvc_jax.data.view import View
from fgvc_jax.engine import checkpoint
from fgvc_jax.engine import mesh as devices
from fgvc_jax.engine import step as steps
from fgvc_jax.errors import UserError
from fgvc_jax.networks import heads
from fgvc_jax.networks.flash import attention_on
from fgvc_jax.objectives.base import Objective
from fgvc_jax.workdir import Workdir

MOST = 64  # images that are answered for at a time


class Member(NamedTuple):
    """A network and what it learned."""

    network: networks.Network
    variables: Any


@dataclass(frozen=True)
class Architecture:
    """A network with the heads of its objective, before it has variables."""

    network: networks.Network
    objective: Objective
    side: int  # of the square images that it sees

    @property
    def _one_image(self) -> jax.Array:
        return jnp.zeros((1, self.side, self.side, 3))

    @cached_property
    def initialize(self) -> Any:
        """The compiled start: random key -> variables."""

        def initialize(key):
            initial = self.network.init(key, self._one_image, False)
            return {"params": initial["params"], "batch_stats": initial.get("batch_stats", {})}

        return jax.jit(initialize)

    @cached_property
    def variables(self) -> Any:
        """Shapes and dtypes of the variables."""
        return jax.eval_shape(self.initialize, jax.random.key(0))

    @cached_property
    def answer(self) -> tuple[dict, dict]:
        """Shapes and dtypes of (taps, outputs) of one image."""
        return jax.eval_shape(
            lambda v: self.network.apply(v, self._one_image, False), self.variables
        )

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the attention map."""
        taps, _ = self.answer
        return taps["stage5"].shape[1:3]


def settle(network: NetworkOptions) -> NetworkOptions:
    """The options with pooling and precision decided for the network and these devices."""
    values = vars(network).copy()
    if network.pool == "auto":
        linear = "token" if network.name.startswith("vit") else "avg"
        values["pool"] = "max" if network.head == "kt" else linear
    if network.dtype == "auto":
        values["dtype"] = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return NetworkOptions(**values)


def architecture(experiment: Experiment, classes: int, mesh: Mesh) -> Architecture:
    """What an experiment's members are, for so many classes and on given devices; its options are
    settled."""
    spec = experiment.network
    main = (
        heads.KTHead(classes=classes, width=spec.head_width, pool=spec.pool)
        if spec.head == "kt"
        else heads.LinearHead(classes=classes, pool=spec.pool)
    )
    objective = experiment.method.make(classes=classes, label_smoothing=experiment.label_smoothing)
    network = networks.create(
        spec.name,
        heads={"logits": main, **objective.heads},
        dtype=jnp.dtype(spec.dtype),
        batch_norm_groups=spec.batch_norm_groups,
        attention=attention_on(mesh),
    )
    return Architecture(network, objective, experiment.data.crop)


class Model:
    """Trained members that answer for images.

    Args:
        classes: their names.
        view: how an image is shown at test.
        members: at least one, in the order of training.
        identities: digest of each member's variables.
        predict: outputs of a network -> (B, K) logits.
        fusion: see `ensemble.fuse`.
        mesh: devices.
        compiled: answer steps that there are already, by the id of their network.
    """

    def __init__(
        self,
        *,
        classes: Sequence[str],
        view: View,
        members: Sequence[Member],
        identities: Sequence[str],
        predict: Any,
        fusion: str,
        mesh: Mesh,
        compiled: dict[int, Any] | None = None,
    ):
        self.classes = tuple(classes)
        self.view = view
        self.members = tuple(members)
        self.identities = tuple(identities)
        self.fusion = fusion
        self.mesh = mesh
        self._predict = predict
        self._steps = dict(compiled or {})  # Linen's modules have no hash

    # -- answers for batches -----------------------------------------------------------------------

    def answers(
        self, batches: Iterable[dict[str, jax.Array]], store: jax.Array | None, members: Any = None
    ) -> Iterator[list[dict[str, jax.Array]]]:
        """What every member answers, batch by batch (`engine.step.answer_step`).

        Args:
            batches: evaluation batches on the devices.
            store: the images on the devices, where the batches have none.
            members: numbers of the members to ask, from 0; None asks all.
        """
        chosen = [self.members[n] for n in members] if members is not None else self.members
        for batch in batches:
            yield [self._step(m.network)(m.variables, batch, store) for m in chosen]

    def _step(self, network: networks.Network) -> Any:
        if id(network) not in self._steps:
            self._steps[id(network)] = steps.answer_step(
                network=network, predict=self._predict, view=self.view, mesh=self.mesh
            )
        return self._steps[id(network)]

    def grid(self, number: int) -> tuple[int, int]:
        """(h, w) of the attention map of a member, counted from 0."""
        member, side = self.members[number], self.view.crop
        taps = jax.eval_shape(
            lambda variables, images: member.network.apply(variables, images, False, method="taps"),
            member.variables,
            jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32),
        )
        return taps["stage5"].shape[1:3]

    # -- what Python users ask ---------------------------------------------------------------------

    def predict(self, images: Any) -> np.ndarray:
        """Probabilities of all classes, as the ensemble sees them.

        Args:
            images: paths, PIL images or (H, W, 3) uint8 arrays; one or several.

        Returns:
            (B, K) float32, rows sum to 1. They are raw, not calibrated.

        Raises:
            UserError: for an image that cannot be read.
        """
        parts = []
        for answers in self._asked(images):
            each = [answer["log_probabilities"] for answer in answers]
            *_, fused = ensemble.growing(each, self.fusion)
            probabilities = np.exp(fused)
            parts.append(probabilities / probabilities.sum(-1, keepdims=True))
        return np.concatenate(parts)

    def attention(self, images: Any) -> np.ndarray:
        """Where each member looks: (N, B, h, w) float32, KT's standardised attention maps.

        Raises:
            UserError: for an image that cannot be read, or members whose maps differ in size.
        """
        if len({self.grid(n) for n in range(len(self.members))}) > 1:
            raise UserError("the members' attention maps differ in size: ask them one by one")
        parts = [[answer["attention"] for answer in answers] for answers in self._asked(images)]
        return np.concatenate([np.stack(part) for part in parts], axis=1).astype(np.float32)

    def top(self, images: Any, k: int = 5) -> list[list[tuple[str, float]]]:
        """The k likeliest classes of each image, with their probabilities, the likeliest first."""
        probabilities = self.predict(images)
        best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :k]
        return [
            [(self.classes[c], float(row[c])) for c in order]
            for row, order in zip(probabilities, best, strict=True)
        ]

    def _asked(self, images: Any) -> Iterator[list[dict[str, np.ndarray]]]:
        """Answers for images of any kind, at most MOST at a time, without padding."""
        several = isinstance(images, (list, tuple)) or (
            isinstance(images, np.ndarray) and images.ndim == 4
        )
        images = list(images) if several else [images]
        if not images:
            raise UserError("no image was given")
        for start in range(0, len(images), MOST):
            some = images[start : start + MOST]
            # Few sizes of batches, so that few programs are compiled.
            size = max(self.mesh.size, 1 << (len(some) - 1).bit_length())
            size = -(-size // self.mesh.size) * self.mesh.size
            squares = np.zeros((size, self.view.test_side, self.view.test_side, 3), np.uint8)
            for i, image in enumerate(some):
                squares[i] = self.square(image)
            batch = {
                "image": squares,
                "label": np.zeros(size, np.int32),
                "row": np.arange(size, dtype=np.int32),
                "mask": np.arange(size) < len(some),
            }
            (answers,) = self.answers([devices.shard_batch(self.mesh, batch)], None)
            yield [_in_order(answer, len(some)) for answer in jax.device_get(answers)]

    def square(self, image: Any) -> np.ndarray:
        """(R, R, 3) uint8 of a path, a PIL image or an (H, W, 3) uint8 array."""
        if isinstance(image, Image.Image):
            record = {"image": np.asarray(image.convert("RGB")), "name": "image"}
        elif isinstance(image, np.ndarray):
            record = {"image": image, "name": "array"}
        else:
            path = os.fspath(image)
            try:
                record = {"image": Path(path).expanduser().read_bytes(), "name": path}
            except (OSError, ValueError, RuntimeError) as error:
                reason = getattr(error, "strerror", None) or error
                raise UserError(f"cannot read image {path!r}: {reason}") from error
        return decode(record, self.view.test_side, orientation=self.view.orientation)


def _in_order(answer: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """Answers in the order of the rows, without padding."""
    order = np.argsort(answer["row"])[:count]
    return {name: answer[name][order] for name in ("log_probabilities", "attention")}


def open_model(
    path: str | os.PathLike,
    *,
    which: str = "final",
    members: int = 0,
    fusion: str = "",
    mesh: Mesh | None = None,
) -> Model:
    """The trained members of a workdir, which may still be in training.

    Args:
        path: of the workdir.
        which: "final", or "selected": the epoch that did best on the validation part.
        members: how many, from the first; 0 takes all that are trained.
        fusion: see `ensemble.fuse`; empty: as the run was configured.
        mesh: devices; None takes all.

    Raises:
        UserError: when there is no such workdir, or it has no such members.
    """
    workdir = Workdir(path)
    record = workdir.record()
    experiment = record.experiment
    trained = workdir.trained()
    if not trained:
        raise UserError(f"workdir {str(workdir.path)!r} has no trained member yet")
    if not 0 <= members <= trained:
        raise UserError(f"--members is {members}: {trained} are trained (0 takes all)")
    if which == "selected" and not record.selects:
        raise UserError(
            f"workdir {str(workdir.path)!r} has no validation part, so no epoch was selected: "
            "take --which final, or train with --data.validation"
        )
    if mesh is None:
        mesh = devices.create()
    plan = architecture(experiment, len(record.classes), mesh)
    numbers = range(1, (members or trained) + 1)
    variables = [
        checkpoint.load_final(workdir.kept(n, which), plan.variables, mesh) for n in numbers
    ]
    return Model(
        classes=record.classes,
        view=experiment.data.view,
        members=[Member(plan.network, v) for v in variables],
        identities=[digests.of_arrays(v) for v in variables],
        predict=plan.objective.predict,
        fusion=fusion or experiment.fusion,
        mesh=mesh,
    )
