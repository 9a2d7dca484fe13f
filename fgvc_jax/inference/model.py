"""All that inference needs, from a workdir alone: classes, view, members, fusion.

Neither the dataset nor anything of the training is opened here.
"""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self, TypedDict, get_args

import numpy as np
from jax.sharding import Mesh

from fgvc_jax.config import Experiment, MembersAtOnce
from fgvc_jax.data.images import Several
from fgvc_jax.data.view import TTA, Photographs
from fgvc_jax.inference.architecture import architectures
from fgvc_jax.inference.classifier import Classifier
from fgvc_jax.inference.neighbours import NOVELTY, Neighbour
from fgvc_jax.inference.predictor import collect
from fgvc_jax.utils import devices, digests, options, progress
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import counted, printable
from fgvc_jax.workdir import checkpoint
from fgvc_jax.workdir.calibration import CalibrationStore
from fgvc_jax.workdir.folder import Workdir


@dataclass(kw_only=True, eq=False, repr=False)
class Model(Classifier):
    """Trained members that answer for images: what Python users have in hand.

    Its bases have the parts: `Predictor` runs members, `Embedder` decodes and gives vectors,
    `Classifier` fuses answers, names classes and knows the calibration.

    Args:
        about: of what they are and what their networks are called, see `told_of`.
    """

    about: str = "images"

    def __repr__(self) -> str:
        count, side = len(self.classes), self.view.crop
        members = counted(len(self.members), "member")
        named = ", ".join(self.classes[:3]) + (", ..." if count > 3 else "")
        shown = f"{counted(count, 'class')} ({named}), seen at {side} x {side} px"
        return printable(f"<{members} of {self.about}: {shown}>")

    def predict(self, images: Several, *, calibrated: bool = False) -> np.ndarray:
        """Probabilities of all classes, as the ensemble sees them.

        Args:
            images: paths, PIL images or (H, W, 3) uint8 arrays; one or several.
            calibrated: by the temperature that fits the validation part, instead of raw.

        Returns:
            (B, K) float32, rows sum to 1.

        Raises:
            UserError: for an image that cannot be read, or without a calibration.
        """
        parts = [
            self.fused(collect(self.ask(squares), count), calibrated=calibrated)
            for squares, count in self.read(images)
        ]
        return np.exp(np.concatenate(parts))

    def with_tta(self, tta: TTA) -> Self:
        """The same members, who answer for several views of an image and average what they say
        (test-time augmentation): `fgvc_jax.load("runs/birds").with_tta("flip").predict("a.jpg")`.

        What is calibrated is fitted to answers in the same views, which `evaluate --tta` keeps.
        Vectors and maps stay those of the one view.

        Args:
            tta: "flip", "five" or "scales", see `augment.test_views`; empty: one view.

        Raises:
            UserError: for others, for "five" where images are shown whole, and for "flip" where
                members never saw a mirror image.
        """
        if tta not in get_args(TTA):
            raise UserError(f"--tta is {tta!r}: choose {', '.join(filter(None, get_args(TTA)))}")
        if tta == self.tta:
            return self
        if tta == "five" and self.view.test_side == self.view.crop:
            raise UserError(
                "--tta five: these members see an image whole, so that it has no other corners: "
                "take --tta flip or scales"
            )
        if tta == "flip" and not self.view.flip:
            raise UserError(
                "--tta flip: these members never saw a mirror image (--data.flip False): left "
                "and right may tell their classes apart, so take --tta five or scales"
            )
        return replace(
            self,
            tta=tta,
            calibration_store=self.calibration_store and replace(self.calibration_store, tta=tta),
        )

    def outside(self, images: Several, *, calibrated: bool = False) -> np.ndarray:
        """The probability that all members' classes beside those of `among` have: (B,) float32.
        Much of it says that the photograph may be of none of these. Arguments as for `predict`."""
        parts = [
            self.mass_outside(collect(self.ask(squares), count), calibrated=calibrated)
            for squares, count in self.read(images)
        ]
        return np.concatenate(parts)

    def coarsen(self, images: Several, *, risk: float = 0.05) -> list[tuple[str, str, float]]:
        """What can be said of each image so that at most the share `risk` of images gets a wrong
        answer, see `coarsening`: (answer, its level, its calibrated probability). What is left open
        is ("", "", 1.0): it is not even sure of the coarsest level, and counts as not wrong."""
        found = self.coarsening(risk)
        parts = [
            found.told(self._among(self._together(collect(self.ask(squares), count))))
            for squares, count in self.read(images)
        ]
        return list(itertools.chain(*parts))

    def neighbours(self, images: Several, count: int = 5) -> list[list[Neighbour]]:
        """The training photographs that the members take for most like each image, the most similar
        first, of those that the run keeps (at most 5,000, as evenly by class as there are). Of
        several members the similarity is the mean of their cosines. With `among` they are of the
        listed classes.

            for name, of_class, similarity in model.neighbours("a.jpg")[0]: ...

        Raises:
            UserError: for an image that cannot be read, or where none are kept.
        """
        if count < 1:
            raise UserError(f"{count} neighbours: ask for at least 1")
        _ = self.remembered
        parts = [
            self.nearest(collect(self.begin(squares), number, ["embedding"]), count)
            for squares, number in self.read(images)
        ]
        return list(itertools.chain(*parts))

    def typicality(self, images: Several) -> np.ndarray:
        """Of each image the share of known images that are as strange or stranger, (B,): one of at
        most 0.05 may be of none of the classes; 5 in 100 photographs of known ones have it, too.
        See `novelty.about`.

        Raises:
            UserError: for an image that cannot be read, or where it is not known how strange known
                images are.
        """
        _ = self.novelty
        parts = [
            self.strangeness(collect(self.ask(squares, embed=True), count, NOVELTY))
            for squares, count in self.read(images)
        ]
        return self.novelty.typicality(np.concatenate(parts))

    def attention(self, images: Several) -> np.ndarray:
        """Where each member looks: (N, B, h, w) float32, KT's standardised attention maps.

        Raises:
            UserError: for an image that cannot be read, or members whose maps differ in size.
        """
        if len({self.grid(n) for n in range(len(self.members))}) > 1:
            raise UserError("the members' attention maps differ in size: ask them one by one")
        parts = [
            [answer["attention"] for answer in collect(self.ask(squares), count)]
            for squares, count in self.read(images)
        ]
        return np.concatenate([np.stack(part) for part in parts], axis=1).astype(np.float32)

    def top(self, images: Several, k: int = 5) -> list[list[tuple[str, float]]]:
        """The k likeliest classes of each image, with their probabilities, the likeliest first."""
        probabilities = self.predict(images)
        best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :k]
        return [
            [(self.classes[c], float(row[c])) for c in order]
            for row, order in zip(probabilities, best, strict=True)
        ]


def told_of(path: str | os.PathLike, experiment: Experiment, numbers: Sequence[int]) -> str:
    """Where chosen members are from, what they were trained on, and their networks, in words."""
    names = dict.fromkeys(experiment.each[number - 1].name for number in numbers)
    return f"{os.fspath(path)}, {' and '.join(names)} trained on {experiment.data.source}"


class ModelOptions(TypedDict, total=False):
    """Arguments of `open_model` that are alike for a workdir and an export."""

    which: str
    members: int | str | Sequence[int]
    fusion: str
    mesh: Mesh | None
    orientation: Literal["exif", "stored"]
    banner: int
    members_at_once: MembersAtOnce


def open_model(
    path: str | os.PathLike,
    *,
    kind: type[Model] = Model,
    which: str = "final",
    members: int | str | Sequence[int] = 0,
    fusion: str = "",
    mesh: Mesh | None = None,
    orientation: Literal["exif", "stored"] = "exif",
    banner: int = 0,
    members_at_once: MembersAtOnce = "auto",
) -> Model:
    """The trained members of a workdir, which may still be in training.

    Args:
        path: of the workdir.
        kind: a class of models.
        which: "final", or "selected": the epoch that did best on the validation part.
        members: how many, from the first, 0 for all that are trained; or which: "2..3", "1,3".
        fusion: see `ensemble.fuse`; empty: as the run was configured.
        mesh: devices; None takes all.
        orientation: of new photographs, see `view.Photographs`; the dataset's own keep theirs.
        banner: rows to cut off new photographs, likewise.
        members_at_once: see `together.at_once`.

    Raises:
        UserError: when there is no such workdir, or it has no such members.
    """
    photographs = Photographs(orientation=orientation, banner=banner)
    options.check(photographs)
    workdir = Workdir(path)
    record = workdir.record()
    experiment = record.experiment
    numbers = workdir.chosen(members, experiment.members)
    if which == "selected" and record.unselected:
        raise UserError(
            f"workdir {str(workdir.path)!r} {record.unselected}: take --which final, or train "
            "with --data.validation"
        )
    with progress.waiting("loading the run"):
        if mesh is None:
            mesh = devices.create_mesh()
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
        own = [
            checkpoint.load_final(workdir.kept(n, which), plan.variables, mesh)
            for n, plan in zip(numbers, plans, strict=True)
        ]
        found = [plan.member(variables, trunk) for plan, variables in zip(plans, own, strict=True)]
        identities = [digests.of_arrays(variables) for variables in own]
    return kind(
        classes=record.classes,
        view=experiment.data.view,
        members=found,
        identities=identities,
        logits_of=plans[0].objective.predict,
        fusion=fusion or experiment.fusion,
        mesh=mesh,
        calibration_store=CalibrationStore.of(
            workdir.path, record, identities, fusion or experiment.fusion
        ),
        trunk=None if plans[0].network.adapted else trunk,
        members_at_once=members_at_once,
        photographs=photographs,
        cut=experiment.data.cut,
        numbers=numbers,
        about=told_of(path, experiment, numbers),
    )
