"""Is a photograph of none of the known classes? Scores of how strange one is, and their judging.

    energy      -log sum exp of the logits (Liu et al., NeurIPS 2020, arXiv 2010.03759)
    max_logit   the largest logit, negative (Hendrycks et al., ICML 2022, arXiv 1911.11259; Vaze et
                al., ICLR 2022, arXiv 2110.06207, for classes that look alike)
    distance    1 - cosine to the nearest kept training photograph (Sun et al., ICML 2022, arXiv
                2204.06507, at k = 1)

Each is higher the stranger. That of several members is the mean of theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

SCORES = "energy", "max_logit", "distance"
WORDS = {
    "energy": "the energy of the logits",
    "max_logit": "the largest logit",
    "distance": "the distance to the nearest training photograph",
}
# Without classes that were left out to choose by: what does best where a network was trained whole
# on classes that look alike (Vaze et al.).
FIXED = "max_logit"
UNUSUAL = 0.05  # share of known images that are as strange, up to which people are told
RECALL = 0.95  # share of known images that are to be taken for known
DRAWINGS = 1000  # of the bootstrap
LEVEL = 0.95  # of intervals


def scores(logits: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """(B, 3) float32 in the order of `SCORES`, of logits (B, K) and distances (B,)."""
    largest = logits.max(-1)
    energy = largest + np.log(np.exp(logits - largest[:, None]).sum(-1))
    return np.stack([-energy, -largest, distance], axis=-1).astype(np.float32)


@dataclass(frozen=True)
class Novelty:
    """How strange known images are by one score.

    score: its name. known: (N,) of images of known classes, which nothing was learned from. kind:
    which images they are, in words. chosen: {score: area under the ROC curve} on classes that the
    head was solved without, by which it was chosen; empty where it is `FIXED`.
    """

    score: str
    known: np.ndarray
    kind: str
    chosen: dict[str, float]

    @property
    def column(self) -> int:
        """Of the score among `SCORES`."""
        return SCORES.index(self.score)

    @property
    def least_rate(self) -> float:
        """The smallest rate of false alarms that so many images can promise."""
        return 1 / (len(self.known) + 1)

    def typicality(self, found: np.ndarray) -> np.ndarray:
        """The share of known images that are as strange or stranger, (B,) in (0, 1], of scores
        (B,): a conformal p-value, so that of photographs like the known images at most the share r
        has one of r or less (Vovk et al.; Bates et al., Annals of Statistics 2023)."""
        ordered = np.sort(self.known)
        stranger = len(ordered) - np.searchsorted(ordered, found, side="left")
        return (1 + stranger) / (len(ordered) + 1)

    @property
    def about(self) -> str:
        """What it is, in words."""
        why = "as fixed before for networks that are trained"
        if self.chosen:
            told = ", ".join(f"{name} {value:.3f}" for name, value in self.chosen.items())
            why = f"which told classes best that the head was solved without (AUROC: {told})"
        return f"strange is told by {WORDS[self.score]}, {why}, on {self.kind}"


class _Counted(NamedTuple):
    """How often each image was drawn, in the order of all scores; equal scores are one group."""

    group: np.ndarray
    known: np.ndarray  # bool


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """The chance that an unknown image is stranger than a known one; equal ones count half."""
    both = _counted(known, unknown)
    return float(_areas(both, np.ones((1, len(both.group))))[0])


def false_positives(known: np.ndarray, unknown: np.ndarray) -> float:
    """The share of unknown images that are taken for known where `RECALL` of the known are ("FPR at
    95 % TPR")."""
    both = _counted(known, unknown)
    return float(_accepted(both, np.ones((1, len(both.group))))[0])


def separation(known: np.ndarray, unknown: np.ndarray, *, seed: int = 0) -> dict[str, Any]:
    """{"auroc", "fpr95"} as {"value", "low", "high"}: with 95 % intervals over images of both
    kinds, by the bootstrap (percentiles).

    Args:
        known: (N,) scores of images of known classes, N at least 1.
        unknown: (M,) of others, M at least 1.
        seed: of the drawings.
    """
    both, random = _counted(known, unknown), np.random.default_rng(seed)
    where = [np.flatnonzero(both.known), np.flatnonzero(~both.known)]
    found: list[list[np.ndarray]] = [[], []]
    for _ in range(0, DRAWINGS, 50):  # little memory, whatever the number of images
        drawn = np.zeros((50, len(both.group)))
        for rows in where:
            drawn[:, rows] = random.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), 50)
        for values, measure in zip(found, (_areas, _accepted), strict=True):
            values.append(measure(both, drawn))
    measured = zip(
        ("auroc", "fpr95"), (auroc(known, unknown), false_positives(known, unknown)), found,
        strict=True,
    )  # fmt: skip
    judged = {}
    for name, value, drawings in measured:
        tail = 50 * (1 - LEVEL)
        low, high = np.percentile(np.concatenate(drawings), [tail, 100 - tail])
        judged[name] = {"value": value, "low": float(low), "high": float(high)}
    return judged


def _counted(known: np.ndarray, unknown: np.ndarray) -> _Counted:
    values = np.concatenate([known, unknown])
    order = np.argsort(values, kind="stable")
    group = np.unique(values[order], return_inverse=True)[1]
    return _Counted(group, (np.arange(len(values)) < len(known))[order])


def _by_group(both: _Counted, drawn: np.ndarray) -> Sequence[np.ndarray]:
    """(R, G) known and unknown images of every score, of (R, N + M) drawings."""
    starts = np.flatnonzero(np.diff(both.group, prepend=-1))
    return [np.add.reduceat(drawn * kind, starts, axis=1) for kind in (both.known, ~both.known)]


def _areas(both: _Counted, drawn: np.ndarray) -> np.ndarray:
    known, unknown = _by_group(both, drawn)
    below = np.cumsum(known, axis=1) - known / 2
    return (below * unknown).sum(1) / known.sum(1) / unknown.sum(1)


def _accepted(both: _Counted, drawn: np.ndarray) -> np.ndarray:
    known, unknown = _by_group(both, drawn)
    enough = np.cumsum(known, axis=1) >= RECALL * known.sum(1, keepdims=True) - 1e-9
    last = enough.argmax(1)  # the strangest score that is taken for known
    return np.cumsum(unknown, axis=1)[np.arange(len(last)), last] / unknown.sum(1)
