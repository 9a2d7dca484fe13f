"""Answers as the rows of a table: classes, probabilities, agreement, and what is unsure."""

import logging
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from fgvc_jax.evaluation.families import Coarsening, told_shares
from fgvc_jax.evaluation.novelty import Novelty
from fgvc_jax.inference.model import Model
from fgvc_jax.inference.stream import Answered
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import taxonomy

AnswerRow = dict[str, Any]
COARSER = "answer", "level", "answer_probability"  # columns of an answer at a coarser level
UNKNOWN = "unknown", "typicality"  # columns, see `Model.typicality`
NEIGHBOUR = "neighbour", "neighbour_class", "similarity"  # columns of each, with its number
log = logging.getLogger(__name__)


class AnswerRows:
    """Turns answers into rows of the table.

    Args:
        asked: the model that answers.
        top: how many of the likeliest classes are named.
        risk: see `sure_from`.
        calibrated: whether probabilities are calibrated ones.
        sets: whether conformal sets are named, too.
        boxes: whether rows tell the box that is meant, and how sure the detector was.
        coarsen: at most this share of photographs gets a wrong answer at a coarser level; None asks
            for none.
        unknown_rate: so large a share of photographs of known classes are called unknown; None: it
            is not told which are. With it answers have what the members see.
        neighbours: so many of the nearest training photographs are named, too, and answers have
            what the members see.
    """

    def __init__(
        self,
        asked: Model,
        *,
        top: int,
        risk: float,
        calibrated: bool = False,
        sets: bool = False,
        boxes: bool = False,
        coarsen: float | None = None,
        unknown_rate: float | None = None,
        neighbours: int = 0,
    ):
        self._model = asked
        self._with_calibrated, self._with_sets, self._with_boxes = calibrated, sets, boxes
        self._top = min(top, len(asked.classes))
        if calibrated or sets:
            for doubt in asked.calibration.doubts:
                log.warning("warning: %s", doubt)
        self._accept_from = sure_from(asked, risk)
        self.coarsening = None if coarsen is None else asked.coarsening(coarsen)
        self._levels: Counter[str] = Counter()  # of what was answered
        self._unknown_rate = unknown_rate
        if unknown_rate is not None:
            check_rate(asked.novelty, unknown_rate)
        self._among = bool(asked.listed)
        self._neighbours = (
            min(neighbours, asked.remembered.count(asked.listed)) if neighbours else 0
        )
        ranks = range(1, self._top + 1)
        self.columns = [
            "path",
            *(("box", "confidence") if boxes else ()),
            *(f"{name}{rank}" for rank in ranks for name in ("class", "probability")),
            "agreement",
            "unsure",
            *(("set",) if sets else ()),
            *(("outside",) if self._among else ()),
            *(COARSER if self.coarsening else ()),
            *(UNKNOWN if unknown_rate is not None else ()),
            *(f"{name}{n}" for n in range(1, self._neighbours + 1) for name in NEIGHBOUR),
            "error",
        ]

    def of(self, some: Answered) -> Iterator[AnswerRow]:
        """A row for each file, or for each box in it; None where there is nothing to report."""
        told = self._model.fused(some.answers, calibrated=self._with_calibrated)
        best = np.argsort(-told, axis=-1, kind="stable")[:, : self._top]
        agreement = np.mean(self._model.said(some.answers) == best[:, 0], axis=0)
        unsure, sets = self._calibrated(some)
        more = self._more(some)
        for i, (path, problem) in enumerate(zip(some.paths, some.problems, strict=True)):
            row: AnswerRow = dict.fromkeys(self.columns) | {"path": path}
            if self._with_boxes and (box := some.files[i].box):
                row |= {"box": list(box[:4]), "confidence": some.files[i].confidence}
            if problem:
                yield row | {"error": problem}
                continue
            for rank, c in enumerate(best[i], start=1):
                row[f"class{rank}"] = self._model.classes[c]
                row[f"probability{rank}"] = _short(np.exp(told[i, c]))
            row |= {"agreement": _short(agreement[i]), "unsure": unsure[i]}
            yield row | ({"set": sets[i]} if self._with_sets else {}) | more[i]

    def _more(self, some: Answered) -> list[AnswerRow]:
        """Of each answer what is outside of the listed classes, what is said at a coarser level,
        whether it is unknown, and the nearest training photographs; nothing where that is not asked
        for."""
        rows: list[AnswerRow] = [{} for _ in some.paths]
        if self._among:
            mass = self._model.mass_outside(some.answers, calibrated=self._with_calibrated)
            for row, value in zip(rows, mass, strict=True):
                row["outside"] = _short(value)
        if self.coarsening:
            told = self.coarsening.told(self._model.fused(some.answers))
            self._levels.update(
                level for (_, level, _), bad in zip(told, some.problems, strict=True) if not bad
            )
            for row, (name, level, probability) in zip(rows, told, strict=True):
                row |= dict(
                    zip(COARSER, (name, level, _short(np.float32(probability))), strict=True)
                )
        if self._unknown_rate is not None:
            typical = self._model.novelty.typicality(self._model.strangeness(some.answers))
            for row, value in zip(rows, typical.tolist(), strict=True):
                said = value <= self._unknown_rate, _short(np.float32(value))
                row |= dict(zip(UNKNOWN, said, strict=True))
        if self._neighbours:
            nearest = self._model.nearest(some.answers, self._neighbours)
            for row, found in zip(rows, nearest, strict=True):
                for n, (name, of_class, similarity) in enumerate(found, start=1):
                    values = name, of_class, _short(np.float32(similarity))
                    row |= {f"{key}{n}": v for key, v in zip(NEIGHBOUR, values, strict=True)}
        return rows

    @property
    def shares(self) -> str:
        """In words, which share of what was answered so far is answered at each level."""
        assert self.coarsening
        count = sum(self._levels.values())
        return told_shares(
            self.coarsening.taxonomy,
            [self._levels[level] / count for level in (*self.coarsening.taxonomy.levels, "")],
        )

    def _calibrated(self, some: Answered) -> tuple[list[bool | None], list[list[str]]]:
        """Whether each answer is unsure, and its conformal set, the likeliest class first."""
        count = len(some.paths)
        unsure: list[bool | None] = [None] * count
        sets: list[list[str]] = [[]] * count
        if self._accept_from is None and not self._with_sets:
            return unsure, sets
        values = self._model.fused(some.answers, calibrated=True)
        if self._accept_from is not None:
            unsure = (np.exp(values.max(-1)) < self._accept_from).tolist()
        if self._with_sets:
            inside = self._model.calibration.sets(values)
            order = np.argsort(-values, axis=-1, kind="stable")
            chosen = (o[mask[o]] for o, mask in zip(order, inside, strict=True))
            sets = [[self._model.classes[c] for c in numbers] for numbers in chosen]
        return unsure, sets


def check_rate(known: Novelty, rate: float) -> None:
    """Raise a UserError where so few false alarms cannot be promised."""
    if rate < known.least_rate:
        least = math.ceil(1e4 * known.least_rate) / 1e4
        raise UserError(
            f"--unknown-rate {rate:g}: the smallest rate of false alarms that {known.kind} can "
            f"promise is {least:g}: allow that, or calibrate on more"
        )


def sure_from(asked: Model, risk: float) -> float | None:
    """The largest calibrated probability from which on an answer is not unsure; None without a
    calibration, and where there is no such probability: then a line names the smallest risk that
    can be promised."""
    try:
        fitted = asked.calibration
        threshold = asked.accept_from(risk)
    except UserError as error:
        log.info("unsure is left empty: %s", error)
        return None
    if threshold == math.inf:
        least = asked.least_risk()
        log.warning(
            "warning: no answer is called sure or unsure: %s are too few to promise that at most "
            "%g %% of the sure ones are wrong%s",
            fitted.kind,
            100 * risk,
            f"; {100 * least:g} % they can (--risk {least:g})" if least else "",
        )
        return None
    return threshold


def coarsening(asked: Model, risk: float) -> Coarsening | None:
    """How far answers climb, see `Classifier.coarsening`; None for a run without a taxonomy, and,
    which is told, where its images cannot promise the risk."""
    store = asked.calibration_store
    if store is None or taxonomy.kept(store.workdir, asked.classes) is None:
        return None
    try:
        return asked.coarsening(risk)
    except UserError as error:
        log.warning("warning: no answer is told at a coarser level: %s", error)
        return None


def least_instead(asked: Model, risk: float) -> float | None:
    """The smallest risk that can be promised where this one cannot, 0 where none can; None where it
    can, or nothing is calibrated."""
    try:
        if asked.accept_from(risk) < math.inf:
            return None
    except UserError:
        return None
    return asked.least_risk() or 0.0


def _short(value: np.floating) -> float:
    """The number of fewest digits that is the same in float32."""
    return float(str(np.float32(value)))
