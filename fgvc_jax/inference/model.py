"""All that inference needs, from a workdir alone: classes, view, members, fusion.

Neither the dataset nor anything of the training is opened here.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from fgvc_jax import ensemble
from fgvc_jax.data import augment
from fgvc_jax.data.images import decode, record_of
from fgvc_jax.data.records import check_names
from fgvc_jax.data.view import Photographs, View
from fgvc_jax.ensemble import log_softmax
from fgvc_jax.evaluation.calibration import Calibration
from fgvc_jax.inference import passes
from fgvc_jax.inference.architecture import Member, architectures
from fgvc_jax.utils import devices, digests, options
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import checkpoint
from fgvc_jax.workdir.calibration import Ensemble
from fgvc_jax.workdir.folder import Workdir

MOST = 64  # images that are answered for at a time
log = logging.getLogger(__name__)


class Model:
    """Trained members that answer for images.

    It is what Python users have in hand, so every question to it is here, which makes it long.

    Args:
        classes: their names.
        view: how an image is cut at test; how it is normalised, each member says.
        photographs: how images that are asked for are read.
        cut: rows that were cut off the images that the members were trained on.
        members: at least one, in the order of training.
        identities: digest of each member's variables.
        predict: outputs of a network -> (B, K) logits; kept as `logits_of`.
        fusion: see `ensemble.fuse`.
        mesh: devices.
        kept: where their calibration is found; None without a workdir.
        trunk: variables of the frozen trunk that the members share; empty without one.
        compiled: steps that there are already, which this adds to.
        numbers: of the members in their run, from 1; empty for the first ones.
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
        kept: Ensemble | None = None,
        trunk: Any = None,
        compiled: dict[Any, Any] | None = None,
        photographs: Photographs | None = None,
        cut: int = 0,
        numbers: Sequence[int] = (),
    ):
        check_names(classes, "the model")
        self.classes = tuple(classes)
        self.view = view
        self.photographs = photographs or Photographs()
        self._untold = 0 if self.photographs.banner else cut
        self.members = tuple(members)
        self.identities = tuple(identities)
        self.fusion = fusion
        self.mesh = mesh
        self.kept = kept
        self.trunk = trunk or {}
        self.logits_of = predict
        self.compiled = {} if compiled is None else compiled
        self.numbers = tuple(numbers) or tuple(range(1, len(members) + 1))

    # -- answers for batches -----------------------------------------------------------------------

    def answers(
        self,
        batches: Iterable[Mapping[str, jax.Array]],
        store: jax.Array | None,
        members: Any = None,
        *,
        exact: bool = False,
    ) -> Iterator[list[dict[str, jax.Array]]]:
        """What every member answers, batch by batch (`inference.passes.answer_step`).

        Args:
            batches: evaluation batches on the devices.
            store: the images on the devices, where the batches have none.
            members: numbers of the members to ask, from 0; None asks all.
            exact: log-probabilities that nobody keeps, hence not rounded.
        """
        chosen = [self.members[n] for n in members] if members is not None else self.members
        for batch in batches:
            if self.trunk and "features" not in batch:
                batch = batch | {"features": self._trunk_step(self.trunk, batch, store)}
            yield [self._step(m, exact)(m.variables, batch, store) for m in chosen]

    def step(self, key: Any, make: Callable[[], Any]) -> Any:
        """The compiled step that is known by `key`, made the first time."""
        if key not in self.compiled:
            self.compiled[key] = make()
        return self.compiled[key]

    def _step(self, member: Member, exact: bool) -> Any:
        made = partial(passes.answer_step, predict=self.logits_of, view=member.view, mesh=self.mesh)
        key = id(member.network), exact  # Linen's modules have no hash
        return self.step(key, partial(made, network=member.network, exact=exact))

    @property
    def _trunk_step(self) -> Any:
        network, _, view = self.members[0]

        def show(arrays, images):
            return augment.test_view(view, images)

        return self.step(
            "trunk", partial(passes.trunk_step, network=network, show=show, mesh=self.mesh)
        )

    def grid(self, number: int) -> tuple[int, int]:
        """(h, w) of the attention map of a member, counted from 0."""
        network, variables, _ = self.members[number]
        side = self.view.crop

        def stage5(trunk, variables, images):
            inputs = network.apply(trunk, images, method="features")
            return network.apply(variables, inputs, False, method="taps")["stage5"]

        image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
        return jax.eval_shape(stage5, self.trunk, variables, image).shape[1:3]

    # -- what Python users ask ---------------------------------------------------------------------

    def predict(self, images: Any, *, calibrated: bool = False) -> np.ndarray:
        """Probabilities of all classes, as the ensemble sees them.

        Args:
            images: paths, PIL images or (H, W, 3) uint8 arrays; one or several.
            calibrated: by the temperature that fits the validation part, instead of raw.

        Returns:
            (B, K) float32, rows sum to 1.

        Raises:
            UserError: for an image that cannot be read, or without a calibration.
        """
        parts = [self.fused(answers, calibrated=calibrated) for answers in self._asked(images)]
        return np.exp(np.concatenate(parts))

    def fused(
        self, answers: Sequence[dict[str, np.ndarray]], *, calibrated: bool = False
    ) -> np.ndarray:
        """(B, K) float32 log-probabilities of the ensemble, from what each member answers."""
        each = [answer["log_probabilities"] for answer in answers]
        *_, fused = ensemble.growing(each, self.fusion)
        return self.calibration.log_probabilities(fused) if calibrated else log_softmax(fused)

    @cached_property
    def calibration(self) -> Calibration:
        """What was fitted to the validation part; a UserError says how to get it."""
        if self.kept is None:
            raise UserError("these members are of no workdir, so that nothing is fitted to them")
        return self.kept.find()

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
            squares = self.squares(len(some))
            for i, image in enumerate(some):
                squares[i] = self.square(image)
            yield collect(self.ask(squares), len(some))

    def squares(self, count: int) -> np.ndarray:
        """(B, R, R, 3) uint8 for `count` images, B of few sizes, so that few programs are compiled:
        a power of two, or the next multiple of the devices."""
        size = max(self.mesh.size, 1 << (count - 1).bit_length())
        size = -(-size // self.mesh.size) * self.mesh.size
        return np.zeros((size, self.view.test_side, self.view.test_side, 3), np.uint8)

    def square(self, image: Any) -> np.ndarray:
        """(R, R, 3) uint8 of a path, a PIL image or an (H, W, 3) uint8 array."""
        return self.decoded(record_of(image))

    def decoded(self, record: dict[str, Any]) -> np.ndarray:
        """(R, R, 3) uint8 of the record of a new photograph."""
        rows, self._untold = self._untold, 0
        if rows:
            log.warning(
                "warning: %d rows were cut off the bottom of the images that the members were "
                "trained on; photographs are taken whole, unless --banner (in Python banner=) says "
                "how many rows they have of such a strip",
                rows,
            )
        return decode(record, self.view.test_side, **self.photographs.reading)

    def ask(self, squares: np.ndarray) -> list[dict[str, jax.Array]]:
        """Begin to answer for (B, R, R, 3) uint8; `collect` waits for what every member says."""
        rows = np.arange(len(squares), dtype=np.int32)
        batch = {"image": squares, "label": 0 * rows, "row": rows, "mask": rows >= 0}
        (answers,) = self.answers([devices.shard_batch(self.mesh, batch)], None, exact=True)
        return answers


def collect(answers: list[dict[str, jax.Array]], count: int) -> list[dict[str, np.ndarray]]:
    """What every member answers for the first `count` images that it was asked for, in order."""
    found = []
    for answer in jax.device_get(answers):
        order = np.argsort(answer["row"])[:count]
        found.append({name: answer[name][order] for name in ("log_probabilities", "attention")})
    return found


def open_model(
    path: str | os.PathLike,
    *,
    which: str = "final",
    members: int | str | Sequence[int] = 0,
    fusion: str = "",
    mesh: Mesh | None = None,
    orientation: str = "exif",
    banner: int = 0,
) -> Model:
    """The trained members of a workdir, which may still be in training.

    Args:
        path: of the workdir.
        which: "final", or "selected": the epoch that did best on the validation part.
        members: how many, from the first, 0 for all that are trained; or which: "2..3", "1,3".
        fusion: see `ensemble.fuse`; empty: as the run was configured.
        mesh: devices; None takes all.
        orientation: of new photographs, see `view.Photographs`; the dataset's own keep theirs.
        banner: rows to cut off new photographs, likewise.

    Raises:
        UserError: when there is no such workdir, or it has no such members.
    """
    photographs = Photographs(orientation=orientation, banner=banner)
    options.check(photographs)
    workdir = Workdir(path)
    record = workdir.record()
    experiment = record.experiment
    numbers = workdir.chosen(members, experiment.members)
    if which == "selected" and not record.selects:
        raise UserError(
            f"workdir {str(workdir.path)!r} has no validation part, so no epoch was selected: "
            "take --which final, or train with --data.validation"
        )
    if mesh is None:
        mesh = devices.create()
    plans = architectures(experiment, len(record.classes), mesh)
    plans = [plans[number - 1] for number in numbers]
    trunk = None
    if plans[0].trunk:
        trunk = checkpoint.load_final(workdir.trunk, plans[0].trunk, mesh, what="frozen trunk")
        if digests.of_arrays(trunk) != record.digests["trunk"]:
            raise UserError(
                f"{str(workdir.trunk)!r} is not the frozen trunk that the members were trained "
                "with: put that one back"
            )
    found = [
        plan.member(checkpoint.load_final(workdir.kept(n, which), plan.variables, mesh))
        for n, plan in zip(numbers, plans, strict=True)
    ]
    identities = [digests.of_arrays(member.variables) for member in found]
    return Model(
        classes=record.classes,
        view=experiment.data.view,
        members=found,
        identities=identities,
        predict=plans[0].objective.predict,
        fusion=fusion or experiment.fusion,
        mesh=mesh,
        kept=Ensemble.of(workdir.path, record, identities, fusion or experiment.fusion),
        trunk=trunk,
        photographs=photographs,
        cut=experiment.data.cut,
        numbers=numbers,
    )
