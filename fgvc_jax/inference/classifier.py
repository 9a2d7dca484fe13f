"""Members that name classes: what they say together, among which classes, and how far it holds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from fgvc_jax import ensemble
from fgvc_jax.data.records import check_names
from fgvc_jax.ensemble import log_softmax
from fgvc_jax.evaluation.calibration import Calibration
from fgvc_jax.evaluation.families import Coarsening
from fgvc_jax.evaluation.novelty import Novelty
from fgvc_jax.inference import listed
from fgvc_jax.inference.embeddings import Embedder, check_finite
from fgvc_jax.inference.neighbours import Neighbour, Neighbours
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import taxonomy
from fgvc_jax.workdir.calibration import CalibrationStore


@dataclass(kw_only=True, eq=False, repr=False)
class Classifier(Embedder):
    """Trained members, and what their answers mean together.

    Args:
        classes: their names.
        identities: digest of each member's variables.
        fusion: see `ensemble.fuse`.
        calibration_store: where their calibration is found; None without a workdir.
        listed: numbers of `classes` among all that the members know, see `among`; empty: they are
            all.
    """

    classes: Sequence[str]
    identities: Sequence[str]
    fusion: str
    calibration_store: CalibrationStore | None = None
    listed: Sequence[int] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_names(self.classes, "the model")
        self.classes = tuple(self.classes)
        self.identities = tuple(self.identities)

    def fused(
        self, answers: Sequence[dict[str, np.ndarray]], *, calibrated: bool = False
    ) -> np.ndarray:
        """(B, K) float32 log-probabilities of the ensemble, from what each member answers."""
        fused = self._among(self._together(answers))
        return self.calibration.log_probabilities(fused) if calibrated else log_softmax(fused)

    def said(self, answers: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
        """(N, B) int, the class that each member names."""
        return self.each(answers).argmax(-1)

    def each(self, answers: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
        """(N, B, K) of each member by itself, log-probabilities but for what they sum up to."""
        return np.stack([self._among(answer["log_probabilities"]) for answer in answers])

    def _together(self, answers: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
        """Of all classes that the members know, not normalised where some are listed."""
        *_, fused = ensemble.growing([each["log_probabilities"] for each in answers], self.fusion)
        return fused

    def _among(self, values: np.ndarray) -> np.ndarray:
        return values[:, list(self.listed)] if self.listed else values

    # -- among some classes ------------------------------------------------------------------------

    def among(self, classes: Iterable[str] | None = None, *, exclude: Iterable[str] = ()) -> Self:
        """The same members, who answer among some classes, as of the species that live somewhere:
        probabilities are renormalised over the chosen ones, after calibration by the temperature of
        all. What else is fitted (sets, risk, coarser answers) is so to images of these.

            here = fgvc_jax.load("runs/birds").among(["Corvus corax", "Corvus corone"])

        Args:
            classes: their names, whatever the form of accents; None for all. Names that are no
                class are told in a warning.
            exclude: names of classes that it is none of.

        Raises:
            UserError: where fewer than two classes are left.
        """
        chosen = listed.numbers(self.classes, classes, exclude)
        names = [self.classes[n] for n in chosen]
        places = tuple(self.listed[n] for n in chosen) if self.listed else chosen
        store = self.calibration_store and replace(self.calibration_store, listed=places)
        return replace(self, classes=names, listed=places, calibration_store=store)

    def mass_outside(
        self, answers: Sequence[dict[str, np.ndarray]], *, calibrated: bool = False
    ) -> np.ndarray:
        """As `outside`, from what each member answers."""
        fused = self._together(answers)
        whole = self.calibration.log_probabilities(fused) if calibrated else log_softmax(fused)
        if not self.listed:
            return np.zeros(len(whole), np.float32)
        return np.exp(np.delete(whole, list(self.listed), axis=1)).sum(-1)

    def nearest(
        self, answers: Sequence[dict[str, np.ndarray]], count: int
    ) -> list[list[Neighbour]]:
        """As `neighbours`, from what each member answers and sees."""
        names = [f"image {n}" for n in range(1, 1 + len(answers[0]["embedding"]))]
        seen = self.whole(answers, names, normalize=True)
        return self.remembered.told(*self.remembered.nearest(seen, count, self.listed))

    def strangeness(self, answers: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
        """(B,) how strange images are, by the score of `novelty`, from what each member answers
        and sees."""
        names = [f"image {n}" for n in range(1, 1 + len(answers[0]["embedding"]))]
        check_finite([each["embedding"] for each in answers], names, self.numbers)
        found = [near.novelty(each) for near, each in zip(self.alone, answers, strict=True)]
        return np.mean(found, axis=0)[:, self.novelty.column]

    @cached_property
    def novelty(self) -> Novelty:
        """How strange images of known classes are; a UserError says how to get it."""
        return self._of_workdir.novelty

    @cached_property
    def alone(self) -> list[Neighbours]:
        """The training photographs as each member sees them."""
        return [Neighbours.of(self.remembered.part, [member]) for member in self.identities]

    @cached_property
    def remembered(self) -> Neighbours:
        """The training photographs that the workdir keeps; a UserError says how to get them."""
        if self.calibration_store is None:
            raise UserError(
                "these members are of no workdir, which would keep training photographs: ask the "
                "run that they are of"
            )
        return Neighbours.open(self.calibration_store.workdir, self.identities)

    def coarsening(self, risk: float) -> Coarsening:
        """How far answers climb, so that on average at most the share `risk` of images errs.

        Raises:
            UserError: without a taxonomy, a calibration, or enough images for the risk.
        """
        found = taxonomy.kept(self._of_workdir.workdir, self.classes)
        if found is None:
            folder = self._of_workdir.workdir
            raise UserError(
                f"workdir {str(folder)!r} has no taxonomy to answer at coarser levels: "
                f"{taxonomy.way_out(folder)}"
            )
        return self._of_workdir.coarsening(found, risk)

    @cached_property
    def calibration(self) -> Calibration:
        """What was fitted to the validation part; a UserError says how to get it."""
        return self._of_workdir.find()

    def accept_from(self, risk: float) -> float:
        """The calibrated probability from which on at most the share `risk` of answers is wrong,
        see `calibration.accept_from`; a UserError without a calibration."""
        return self._of_workdir.accept_from(self.calibration, risk)

    def least_risk(self) -> float | None:
        """The smallest risk at which some answers are accepted, see `calibration.least_risk`."""
        return self._of_workdir.least_risk(self.calibration)

    @property
    def _of_workdir(self) -> CalibrationStore:
        if self.calibration_store is None:
            raise UserError("these members are of no workdir, so that nothing is fitted to them")
        return self.calibration_store
