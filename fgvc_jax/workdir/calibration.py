"""A workdir's calibrations: fitted once to the answers that it keeps, looked up after."""

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fgvc_jax.data.taxonomy import Taxonomy
from fgvc_jax.evaluation import calibration, families, frequency, novelty, tallies
from fgvc_jax.evaluation.calibration import (
    COVERAGE,
    SPREAD,
    Calibration,
    accept_from,
    calibrated_tally,
    fit,
    least_risk,
)
from fgvc_jax.evaluation.families import Coarsening
from fgvc_jax.evaluation.novelty import Novelty
from fgvc_jax.evaluation.tallies import Chosen, Fused
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import counted
from fgvc_jax.workdir import predictions, storage
from fgvc_jax.workdir.calibration_set import CalibrationSet
from fgvc_jax.workdir.columns import Column
from fgvc_jax.workdir.predictions import Part

UNKNOWN = "unknown.json"  # in a workdir
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CalibrationStore(CalibrationSet):
    """Members whose calibration is kept in their workdir."""

    def find(self, *, write: bool = False) -> Calibration:
        """The calibration that is kept, or else is fitted to the answers that are.

        Args:
            write: whether to keep what is fitted.

        Raises:
            UserError: when there is neither, saying how to get it.
        """
        if self.listed:
            whole = replace(self, listed=())
            return calibration.fit_sets(whole.find(write=write), self._fused(self._chosen))
        ours = self._named
        path = self.workdir / "calibration.json"
        kept = self._kept(path)
        for named, found in kept:
            if named == ours:
                return found
        found = fit(self._fused(self.fitted_to))
        if write:
            entries = [*kept, (ours, found)]
            storage.write_json(path, [{"of": named, "found": asdict(c)} for named, c in entries])
        return found

    def accept_from(self, calibration: Calibration, risk: float) -> float:
        """See `accept_from`, of the images that it was fitted to."""
        tally = calibrated_tally(calibration, self._fused(self._chosen))
        return accept_from(tally.confidence, tally.right, risk)

    def least_risk(self, calibration: Calibration) -> float | None:
        """See `least_risk`, of the images that it was fitted to."""
        tally = calibrated_tally(calibration, self._fused(self._chosen))
        return least_risk(tally.confidence, tally.right)

    def coarsening(self, taxonomy: Taxonomy, risk: float) -> Coarsening:
        """How far answers climb, see `families.Coarsening`: the threshold is fitted to images that
        the temperature was not fitted to.

        Raises:
            UserError: where their answers are not kept, or they are too few for the risk.
        """
        part = self.fitted_to
        apart = families.apart(len(part.labels))
        of_all = Chosen(part, np.flatnonzero(apart))
        temperature, _, _ = calibration.fit_temperature(self._fused(of_all))
        fused = self._fused(Chosen(part, *self._where(part, ~apart)))
        try:
            return families.fit(taxonomy, temperature, fused, risk)
        except ValueError:
            count = len(fused.part.labels)
            images = counted(count, f"{self.part.replace('_', '-')} image")
            least = math.ceil(1e4 * families.promised_risk(count)) / 1e4
            raise UserError(
                f"--coarsen {risk:g}: the smallest risk that {images} can promise "
                f"is {least:g} (it takes 1 / risk - 1 of them): allow that, or calibrate on more"
            ) from None

    @property
    def novelty(self) -> Novelty:
        """How strange images of known classes are to these members; whatever is listed, they know
        all classes. It is of the one view.

        Raises:
            UserError: where that is not kept.
        """
        plain = replace(self, tta="", listed=())
        part = plain.fitted_to
        if not all(part.has_novelty(identity) for identity in self.identities):
            instead = predictions.way_out(self.workdir)
            if self.part == predictions.HELD_OUT:
                instead = "train again, in a new --workdir"
            raise UserError(
                f"workdir {str(self.workdir)!r} does not keep how strange known images are to "
                f"these members: as long as the dataset is where it was, {instead}"
            )
        areas = {}
        if len(self.identities) == 1:
            areas = predictions.chosen(self.workdir, self.identities[0])
        score = max(areas, key=areas.__getitem__) if areas else novelty.FIXED
        known = strangeness(part, self.identities)[:, novelty.SCORES.index(score)]
        images = counted(len(known), f"{self.part.replace('_', '-')} image")
        return Novelty(score, known, images, areas)

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


def keep_unknown(workdir: Path, members: Sequence[str], found: dict[str, Any]) -> None:
    """Keep how images of other classes were told from known ones by members, by their digests:
    `inference.unknown.told_apart`, with the "source" of these images."""
    storage.write_json(workdir / UNKNOWN, {"members": list(members), **found})


def unknown(workdir: Path, members: Sequence[str]) -> dict[str, Any] | None:
    """What `keep_unknown` kept of the same members; None where that is nothing, or damaged."""

    def number(found: dict[str, Any]) -> dict[str, float]:
        return {key: float(found[key]) for key in ("value", "low", "high")}

    try:
        kept = storage.read_json(workdir / UNKNOWN)
        if kept["members"] != list(members):
            return None
        at = kept["at"]
        return {
            "source": str(kept["source"]),
            "images": {key: int(kept["images"][key]) for key in ("known", "unknown")},
            "score": novelty.SCORES[novelty.SCORES.index(kept["score"])],
            "scores": {
                name: {key: number(kept["scores"][name][key]) for key in ("auroc", "fpr95")}
                for name in novelty.SCORES
            },
            "at": at
            and {"rate": float(at["rate"])} | {key: number(at[key]) for key in ("found", "alarms")},
            "about": str(kept["about"]),
        }
    except (FileNotFoundError, UserError, KeyError, TypeError, ValueError):
        return None


def strangeness(part: Part, members: Sequence[str]) -> np.ndarray:
    """(N, 3), how strange the images of a part are to members by their digests, see
    `evaluation.novelty.SCORES`: on average. Errors as of `Part.novelty`."""
    return np.mean([part.novelty(member) for member in members], axis=0)


def judge_kept(
    part: Part,
    kept: CalibrationStore,
    taxonomy: Taxonomy | None,
    *,
    write: bool,
    advise: bool = True,
) -> dict[str, Any]:
    """Members and ensembles on a part, see `tallies.judge_ensembles`, with their "families", see
    `judge_families`, and "calibration", see `calibration.judge_calibration`; None where there is
    none.

    Args:
        part: of the dataset.
        kept: the members.
        taxonomy: of the classes, where there is one.
        write: whether to keep a calibration that is fitted.
        advise: whether a line says what it means that there is none, and how to get it.
    """
    found = tallies.judge_ensembles(
        part.labels,
        [part.log_probabilities(identity) for identity in kept.identities],
        [part.attention(identity) for identity in kept.identities],
        how=kept.fusion,
    ) | {"families": taxonomy and judge_families(part, kept, taxonomy)}
    try:
        fitted = kept.find(write=write)
    except UserError as error:
        if advise:
            log.info(
                "not calibrated, so that predict does not say which answers are sure: %s", error
            )
        return found | {"calibration": None}
    fused = Fused(part, kept.identities, kept.fusion)
    return found | {"calibration": calibration.judge_calibration(fitted, fused)}


def judge_frequency(part: Part, kept: CalibrationStore, counts: np.ndarray) -> list[dict[str, Any]]:
    """What all members say together on a part, of classes of many, some and few training images,
    see `frequency.accuracy_by_frequency`."""
    return frequency.accuracy_by_frequency(part.labels, _predicted(part, kept), counts)


def judge_columns(
    part: Part, kept: CalibrationStore, columns: Sequence[Column]
) -> list[dict[str, Any]]:
    """What all members say together on a part at each place that a column of a list tells, see
    `columns.Column.judge`."""
    if not columns:
        return []
    right = _predicted(part, kept) == part.labels
    return [column.judge(part.names, right) for column in columns]


def _predicted(part: Part, kept: CalibrationStore) -> np.ndarray:
    """(N,) int, the class that all members name together."""
    fused = Fused(part, kept.identities, kept.fusion)
    return np.concatenate([values.argmax(-1) for _, values in fused])


def judge_families(part: Part, kept: CalibrationStore, taxonomy: Taxonomy) -> dict[str, Any]:
    """What all members say together on a part at every level (`families.accuracy_by_level`); with
    "coarsened", see `families.judge_coarsening`, None where nothing can promise `families.RISK`."""
    fused = Fused(part, kept.identities, kept.fusion)
    found = families.accuracy_by_level(taxonomy, part.labels, _predicted(part, kept))
    try:
        coarsening = kept.coarsening(taxonomy, families.RISK)
    except UserError as error:
        log.info("not answered at coarser levels: %s", error)
        return found | {"coarsened": None}
    return found | {"coarsened": families.judge_coarsening(coarsening, fused)}
