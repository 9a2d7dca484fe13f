"""A workdir's calibrations: fitted once to the answers that it keeps, looked up after."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fgvc_jax.data.view import View
from fgvc_jax.evaluation import calibration, tallies
from fgvc_jax.evaluation.calibration import (
    COVERAGE,
    SPREAD,
    Calibration,
    accept_from,
    calibrated_tally,
    fit,
)
from fgvc_jax.evaluation.tallies import Fused
from fgvc_jax.utils import digests
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import predictions, storage
from fgvc_jax.workdir.predictions import Part
from fgvc_jax.workdir.record import Record

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ensemble:
    """Members of a workdir, whose calibration is kept there.

    workdir: its folder. identities: digests of the members. fusion: see `ensemble.fuse`. view: at
    test. part, images: what it is fitted to, and the images' digest: the validation part, or else
    the training images that a solver held out; None where there are none.
    """

    workdir: Path
    identities: tuple[str, ...]
    fusion: str
    view: View
    part: str
    images: str | None

    @classmethod
    def of(
        cls, workdir: Path, record: Record, identities: Sequence[str], fusion: str
    ) -> "Ensemble":
        """Of the run that a record tells of."""
        known, experiment = record.digests.get("validation"), record.experiment
        part, images = "validation", digests.best(known) if known else None
        if not known and experiment.method.solves:
            part, images = predictions.HELD_OUT, record.held_out
        return cls(workdir, tuple(identities), fusion, experiment.data.view, part, images)

    def find(self, *, write: bool = False) -> Calibration:
        """The calibration that is kept, or else is fitted to the answers that are.

        Args:
            write: whether to keep what is fitted.

        Raises:
            UserError: when there is neither, saying how to get it.
        """
        ours = self._named
        path = self.workdir / "calibration.json"
        kept = self._kept(path)
        for named, found in kept:
            if named == ours:
                return found
        found = fit(Fused(self.fitted_to, self.identities, self.fusion))
        if write:
            entries = [*kept, (ours, found)]
            storage.write_json(path, [{"of": named, "found": asdict(c)} for named, c in entries])
        return found

    @property
    def fitted_to(self) -> Part:
        """The part with all members' answers; UserError where it is not kept."""
        folder = self._folder
        try:
            part = predictions.read(folder)
        except UserError:
            part = None
        if part is None or not all(part.has(identity) for identity in self.identities):
            what, instead = "its validation part", predictions.way_out(self.workdir)
            if self.part == predictions.HELD_OUT:
                what, instead = "training images that were held out", "train again elsewhere"
            raise UserError(
                f"workdir {str(self.workdir)!r} does not keep what these members answer on {what}: "
                f"{instead}"
            )
        return part

    def accept_from(self, calibration: Calibration, risk: float) -> float:
        """See `accept_from`, of the images that it was fitted to."""
        tally = calibrated_tally(calibration, Fused(self.fitted_to, self.identities, self.fusion))
        return accept_from(tally.confidence, tally.right, risk)

    @property
    def _folder(self) -> Path:
        if self.images is None:
            raise UserError(
                f"workdir {str(self.workdir)!r} has no validation part, which calibration needs: "
                "train with --data.validation 0.1, in a new --workdir"
            )
        return predictions.folder_of(self.workdir, self.part, self.view, self.images)

    @property
    def _named(self) -> dict[str, Any]:
        return {
            "members": list(self.identities),
            "fusion": self.fusion,
            "validation": self._folder.name,
            "coverage": COVERAGE,
            "spread": SPREAD,
        }

    def _kept(self, path: Path) -> list[tuple[dict[str, Any], Calibration]]:
        """(what it belongs to, calibration) of every ensemble that has one, as it is fitted now."""
        try:
            entries = [(e["of"], e["found"]) for e in storage.read_json(path)]
            return [(of, Calibration(**found)) for of, found in entries if "spread" in of]
        except FileNotFoundError:
            return []
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{str(path)!r} is damaged ({error}): remove it, then "
                "python -m fgvc_jax.evaluate makes it again"
            ) from error


def verdict(part: Part, kept: Ensemble, *, write: bool) -> dict[str, Any]:
    """Members and ensembles on a part, see `tallies.judge_ensembles`, with their "calibration", see
    `calibration.judge_calibration`; None where there is none, and a line says how to get it.

    Args:
        part: of the dataset.
        kept: the members.
        write: whether to keep a calibration that is fitted.
    """
    found = tallies.judge_ensembles(
        part.labels,
        [part.log_probabilities(identity) for identity in kept.identities],
        [part.attention(identity) for identity in kept.identities],
        how=kept.fusion,
    )
    try:
        fitted = kept.find(write=write)
    except UserError as error:
        log.info("not calibrated: %s", error)
        return found | {"calibration": None}
    fused = Fused(part, kept.identities, kept.fusion)
    return found | {"calibration": calibration.judge_calibration(fitted, fused)}
