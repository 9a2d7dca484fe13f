"""Right in the family, if not in the species: answers judged, and given, at the levels of a
taxonomy.

A coarse answer is an ancestor of the likeliest class: its genus, its family, and at last the root,
which says nothing and is never wrong. So a class and what is said of it at every level fit
together, and an answer that climbs can only become right. What is promised is the share of all
images that get a wrong answer: where many are left open, more of the answers that are given are.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fgvc_jax import ensemble
from fgvc_jax.data.taxonomy import Taxonomy
from fgvc_jax.evaluation import intervals
from fgvc_jax.evaluation.metrics import Metric, share
from fgvc_jax.evaluation.tallies import Fused
from fgvc_jax.utils.text import counted, printable

RISK = 0.05  # at which results tell the share that is answered at each level
FOR_TEMPERATURE = 5  # one of so many images of a calibration fits the temperature alone


def heights(taxonomy: Taxonomy, labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Level of the lowest common ancestor of the truth and what is said: (N,) int, 0 where they are
    the same, L at the root (Bertinetto et al., "Making better mistakes", CVPR 2020)."""
    together = taxonomy.groups[:, labels] == taxonomy.groups[:, predicted]
    return np.where(together.any(0), together.argmax(0), len(taxonomy.levels))


def accuracy_by_level(
    taxonomy: Taxonomy, labels: np.ndarray, predicted: np.ndarray
) -> dict[str, Any]:
    """Classes that are said, at every level: part of results.json.

    Args:
        taxonomy: of the classes.
        labels, predicted: (N,) int.

    Returns:
        {"levels": names, "groups": how many each has, "accuracy": of each level, "height": mean
        over the errors of `heights`, None where there is none; "errors": how many have their lowest
        common ancestor at each level from the second on, and at last those that have none}.
    """
    found, count = heights(taxonomy, labels, predicted), len(labels)
    levels = range(len(taxonomy.levels))
    errors = found[found > 0]
    return {
        "levels": list(taxonomy.levels),
        "groups": [len(names) for names in taxonomy.names],
        "accuracy": [share(int((found <= level).sum()), count) for level in levels],
        "height": _mean(errors, 1, len(levels)),
        "errors": np.bincount(errors, minlength=len(levels) + 1)[1:].tolist(),
    }


def tree(
    taxonomy: Taxonomy, labels: np.ndarray, predicted: np.ndarray, level: int = -1
) -> list[dict[str, Any]]:
    """The groups that have images, as a tree from the coarsest level down, the most errors first.

    Returns:
        [{"name", "level": its name, "images", "right": how many are named by their very class,
        "inside": errors that stay inside the group, "out": errors that leave it, "below": the same
        of the groups in it; none of a class}, ...].
    """
    level = len(taxonomy.levels) - 1 if level < 0 else level
    own = taxonomy.groups[level]
    found = []
    for group in np.unique(own[labels]):
        mine = own[labels] == group
        truths, said = labels[mine], predicted[mine]
        right, stays = truths == said, own[said] == group
        below = tree(taxonomy, truths, said, level - 1) if level else []
        found.append(
            {
                "name": taxonomy.names[level][group],
                "level": taxonomy.levels[level],
                "images": len(truths),
                "right": int(right.sum()),
                "inside": int((stays & ~right).sum()),
                "out": int((~stays).sum()),
                "below": below,
            }
        )
    return sorted(found, key=lambda each: (-each["inside"] - each["out"], each["name"]))


# -- answers that climb ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Coarsening:
    """How far answers climb, so that at most a share of images gets a wrong one.

    taxonomy: of the classes. risk: that share. temperature: of the probabilities that decide.
    threshold: the answer is at the finest level whose probability is above it. images: to which the
    threshold was fitted, and `part`, which they are. answered: share of them at each level, and at
    last of those that are left open.
    """

    taxonomy: Taxonomy
    risk: float
    temperature: float
    threshold: float
    images: int
    part: str
    answered: tuple[float, ...]

    def answers(self, fused: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where an ensemble's answers (B, K) end.

        Returns:
            The level of each, L where it is left open; the group there, and its probability: (B,)
            int, int, float64. What is left open has group -1 and probability 1.
        """
        leaf, masses = climb(self.taxonomy, fused, self.temperature)
        level = levels_above(masses, self.threshold)
        whole = np.ones((len(leaf), 1))
        none = np.full((1, self.taxonomy.groups.shape[1]), -1)
        group = np.concatenate([self.taxonomy.groups, none])[level, leaf]
        each = np.arange(len(leaf))
        return level, group, np.concatenate([masses, whole], axis=1)[each, level]

    def told(self, fused: np.ndarray) -> list[tuple[str, str, float]]:
        """As `answers`, by names: (answer, its level, probability); ("", "", 1.0) for what is left
        open."""
        names, levels = self.taxonomy.names, self.taxonomy.levels
        return [
            ("", "", 1.0) if level == len(levels) else (names[level][group], levels[level], p)
            for level, group, p in zip(*map(np.ndarray.tolist, self.answers(fused)), strict=True)
        ]

    @property
    def about(self) -> str:
        """What it promises, in a line."""
        told = told_shares(self.taxonomy, self.answered)
        images = counted(self.images, f"{self.part.replace('_', '-')} image")
        return (
            f"at most {100 * self.risk:.3g} % of photographs get a wrong answer, on average over "
            f"ones like these {images}, of which are answered: {told}"
        )


def told_shares(taxonomy: Taxonomy, shares: Sequence[float]) -> str:
    """The share of answers at each level, and at last of those that are left open, in words."""
    names = [*taxonomy.levels, "left open"]
    pairs = zip(map(printable, names), shares, strict=True)
    return ", ".join(f"{share:.1%} {name}" for name, share in pairs)


def climb(
    taxonomy: Taxonomy, fused: np.ndarray, temperature: float
) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest class of each row (B, K), and at a temperature the probability of each of its
    ancestors, itself first: (B,) int and (B, L) float64, which never falls from level to level."""
    probabilities = np.exp(ensemble.log_softmax(fused / np.float32(temperature)), dtype=np.float64)
    leaf = fused.argmax(-1)
    masses = np.stack(
        [
            np.where(groups == groups[leaf][:, None], probabilities, 0).sum(-1)
            for groups in taxonomy.groups
        ],
        axis=1,
    )
    return leaf, np.maximum.accumulate(masses, axis=1)


def levels_above(masses: np.ndarray, threshold: float) -> np.ndarray:
    """The finest level whose probability is above a threshold: (B, L) -> (B,) int, L for none."""
    above = masses > threshold
    return np.where(above.any(1), above.argmax(1), masses.shape[1])


def wrong_until(masses: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """The threshold from which on each answer is right: (N,) float64.

    Args:
        masses: (N, L), see `climb`.
        heights: (N,) of the answers, see `heights`: 0 is right from 0 on.
    """
    last = np.take_along_axis(masses, np.maximum(heights - 1, 0)[:, None], axis=1)[:, 0]
    return np.where(heights > 0, last, 0.0)


def risk_threshold(wrong_until: np.ndarray, risk: float) -> float:
    """The lowest threshold at which at most the share `risk` of new answers is wrong on average
    over calibrations: conformal risk control (Angelopoulos et al., arXiv 2208.02814, eq. 4).

    An answer's loss, whether it is wrong, is 1 below `wrong_until` and 0 from it on, so that it
    falls with the threshold and is continuous from the right, as theorem 1 asks; it is at most 1.

    Args:
        wrong_until: (N,) of the calibration images.
        risk: 0 to 1.

    Raises:
        ValueError: for fewer than 1 / risk - 1 images.
    """
    # The slack is for a product that should be whole: 0.05 * 20.
    wrong = math.floor(risk * (len(wrong_until) + 1) + 1e-9) - 1
    if wrong < 0:
        count = len(wrong_until)
        raise ValueError(f"{count} images allow no risk below {promised_risk(count)}")
    highest = np.sort(wrong_until)[::-1]
    return float(highest[wrong]) if wrong < len(highest) else 0.0


def promised_risk(count: int) -> float:
    """The smallest risk that so many calibration images can promise."""
    return 1 / (count + 1)


def fit(taxonomy: Taxonomy, temperature: float, fused: Fused, risk: float) -> Coarsening:
    """The `Coarsening` of an ensemble, from its answers for images that neither it nor the
    temperature was fitted to.

    Raises:
        ValueError: where they are too few for the risk.
    """
    part, count = fused.part, len(fused.part.labels)
    until, masses = np.zeros(count), np.zeros((count, len(taxonomy.levels)))
    for rows, values in fused:
        leaf, masses[rows] = climb(taxonomy, values, temperature)
        until[rows] = wrong_until(masses[rows], heights(taxonomy, part.labels[rows], leaf))
    threshold = risk_threshold(until, risk)
    shares = np.bincount(levels_above(masses, threshold), minlength=len(taxonomy.levels) + 1)
    answered = tuple((shares / count).tolist())
    return Coarsening(taxonomy, risk, temperature, threshold, count, part.part, answered)


def apart(count: int) -> np.ndarray:
    """(N,) bool: the images of a calibration that fit the temperature, so that the others are new
    to it: a fifth, by a hash of their places, the same ones on every machine."""
    ranks = sorted(range(count), key=lambda i: hashlib.sha256(str(i).encode()).digest())
    marked = np.zeros(count, bool)
    marked[ranks[: count // FOR_TEMPERATURE]] = True
    return marked


def judge_coarsening(coarsening: Coarsening, fused: Fused) -> dict[str, Any]:
    """How answers that climb do on images that nothing was fitted to: part of results.json.

    Returns:
        {"risk", "temperature", "threshold", "images", "part": as in `Coarsening`, "error": share of
        all images whose answer is wrong, what `risk` promises, "error_answered": that of those that
        are not left open, None where all are, "answered": share at each level, and at last of what
        is left open}.
    """
    taxonomy, labels = coarsening.taxonomy, fused.part.labels
    levels, wrong = np.zeros(len(labels), int), np.zeros(len(labels), bool)
    for rows, values in fused:
        levels[rows], _, _ = coarsening.answers(values)
        truth = heights(taxonomy, labels[rows], values.argmax(-1))
        wrong[rows] = truth > levels[rows]
    shares = np.bincount(levels, minlength=len(taxonomy.levels) + 1) / len(labels)
    given = int((levels < len(taxonomy.levels)).sum())
    return {
        "risk": coarsening.risk,
        "temperature": coarsening.temperature,
        "threshold": coarsening.threshold,
        "images": coarsening.images,
        "part": coarsening.part,
        "error": share(int(wrong.sum()), len(labels)),
        "error_answered": share(int(wrong.sum()), given) if given else None,
        "answered": shares.tolist(),
    }


def _mean(values: np.ndarray, least: int, most: int) -> Metric | None:
    """Of values within these two."""
    if not len(values):
        return None
    value, ends = float(values.mean()), intervals.mean_interval(values.astype(float))
    if ends and (values == values[0]).all():
        # Nothing varies: of so many the others may still be as far off as can be.
        others = 1 - intervals.proportion(len(values), len(values))[0]
        ends = value - others * (value - least), value + others * (most - value)
    low, high = np.clip(ends, least, most).tolist() if ends else (None, None)
    return {"value": value, "low": low, "high": high}
