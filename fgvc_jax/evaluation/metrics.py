"""What predictions for a whole set are judged by.

Metrics are computed from a `Tally`, a few numbers an image, which is filled in chunk by chunk:
100,000 images of 10,000 classes need a few megabytes. Each metric takes weights of the images, so
that the value (all weights 1) and its bootstrap replicates are computed by the same lines.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import numpy as np

from fgvc_jax.ensemble import log_softmax
from fgvc_jax.evaluation.intervals import (
    LEVEL,
    Ends,
    area_interval,
    class_mean_interval,
    coverage_interval,
    mean_interval,
    proportion,
    unseen,
)

BINS = 15  # of the calibration error
RISK = 0.05  # at which coverage is told
REPLICATES = 1000  # of the bootstrap
SEED = 0  # likewise: the same images are drawn for whatever has as many
# Shares of images that are counted, whose intervals do not vanish where all images are alike.
COUNTED = "accuracy", "mean_class_accuracy", "disagreement", "set_coverage", "pointing"
AT_ONCE = 2**18  # weights that are drawn at a time, so few that a core's cache holds them


class Name(NamedTuple):
    """A metric's name for people, its unit: "%" of a share, "nats", or none; and a sentence on it
    where its name could be misread."""

    words: str
    unit: str = ""
    about: str = ""


SEEN = (
    "seen risk: the share of wrong answers as it came out on these test images; what others keep "
    "to is the promised risk, --risk of predict"
)
# By the names of results.json, in the order that they are shown.
NAMES = {
    "accuracy": Name("accuracy", "%"),
    "mean_class_accuracy": Name("mean accuracy per class", "%"),
    "nll": Name("negative log-likelihood", "nats"),
    "brier": Name("Brier score"),
    "ece": Name("calibration error", "%"),
    "aurc": Name("area under risk and coverage", "%"),
    "coverage_at_5_risk": Name("answered at 5% seen risk", "%", SEEN),
    "disagreement": Name("members disagree", "%"),
    "mutual_information": Name("mutual information", "nats"),
    "set_coverage": Name("truth in the set", "%"),
    "set_size": Name("classes in a set"),
}


class Metric(TypedDict):
    """A metric's value, and its interval over images, if it has one."""

    value: float
    low: float | None
    high: float | None


def share(number: int, count: int) -> Metric:
    """`number` of `count`, with the exact interval of a share."""
    low, high = proportion(number, count)
    return {"value": number / count, "low": low, "high": high}


def of_ensemble(results: Mapping[str, Any]) -> dict[str, Mapping[str, Metric]]:
    """The metrics of all members together that results.json has: {"raw": by name, and with a
    calibration "calibrated": by name}."""
    raw, fitted = results["metrics"]["ensemble"][-1], results["calibration"]
    return {"raw": raw} | ({"calibrated": fitted["metrics"]} if fitted else {})


def named(
    found: Collection[Mapping[str, Metric]],
) -> Iterator[tuple[str, Name, list[Metric | None]]]:
    """Every metric that any of several predictions has, in the order of `NAMES`: its name in
    results.json, its name for people, and that of each prediction, None where it has none."""
    for key, name in NAMES.items():
        if any(key in each for each in found):
            yield key, name, [each.get(key) for each in found]


Metrics = Callable[[np.ndarray], dict[str, np.ndarray]]  # weights of images (R, N) -> {name: (R,)}


# -- of a whole set --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tally:
    """What metrics need to know of the predictions for N images, to be filled in.

    labels: (N,) int. right: (N,) bool. confidence, nll, brier: (N,) float64, the largest
    probability, -log of the label's (nats), and the sum over classes of (probability - truth)^2.
    """

    labels: np.ndarray
    right: np.ndarray
    confidence: np.ndarray
    nll: np.ndarray
    brier: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray) -> "Tally":
        """One to fill in for images of these labels."""
        count = len(labels)
        return cls(np.asarray(labels), np.zeros(count, bool), *np.zeros((3, count)))

    def fill(self, rows: slice, log_probabilities: np.ndarray) -> None:
        """Add images: (B, K) float32, normalised here, since what is kept of them is rounded."""
        labels = self.labels[rows]
        each = np.arange(len(labels))
        values = log_softmax(log_probabilities)
        probabilities = np.exp(values)
        self.right[rows] = log_probabilities.argmax(-1) == labels
        self.confidence[rows] = probabilities.max(-1)
        self.nll[rows] = -values[each, labels]
        squares = np.einsum("bk,bk->b", probabilities, probabilities)
        self.brier[rows] = squares - 2 * probabilities[each, labels] + 1


def of_tally(tally: Tally) -> Metrics:
    """The metrics of one prediction, by the names that results.json has for them."""
    classes = Runs(tally.labels, tally.right)
    confidences = Runs(-tally.confidence, ~tally.right)
    means = np.stack([tally.right, tally.nll, tally.brier], axis=-1)

    def metrics(weights: np.ndarray) -> dict[str, np.ndarray]:
        right, nll, brier = mean(means, weights).T
        counts, wrong = confidences.sums(weights)
        return {
            "accuracy": right,
            "mean_class_accuracy": mean_class_accuracy(*classes.sums(weights)),
            "nll": nll,
            "brier": brier,
            "ece": calibration_error(-confidences.keys, counts, wrong),
            "aurc": area_under_risk(counts, wrong),
            "coverage_at_5_risk": coverage_at_risk(counts, wrong, RISK),
        }

    return metrics


class Runs:
    """Images sorted by a key, for sums over those of equal keys, which are G groups.

    Args:
        keys: (N,) of the images; as an attribute (G,), distinct and ascending.
        values: (N,) what is summed.
    """

    def __init__(self, keys: np.ndarray, values: np.ndarray):
        self._order = np.argsort(keys, kind="stable")
        keys = keys[self._order]
        self._values = values[self._order]
        self._starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        self.keys = keys[self._starts]

    def sums(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights, and weights times values, summed over each group: (R, N) -> (R, G) twice."""
        weights = np.take(weights, self._order, axis=-1)
        return (
            np.add.reduceat(weights, self._starts, axis=-1),
            np.add.reduceat(weights * self._values, self._starts, axis=-1),
        )


def mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over images, (N, ...) and (R, N) -> (R, ...): of accuracy; of the negative
    log-likelihood; of the Brier score in its first form, 0 to 2 (Brier, Monthly Weather Review
    1950); of disagreement and mutual information."""
    totals = weights.sum(-1)
    return weights @ values / totals.reshape(-1, *(1,) * (values.ndim - 1))


def mean_class_accuracy(counts: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Mean over the classes that have images of each one's accuracy (balanced accuracy).

    Args:
        counts: (R, G) images of each class.
        right: (R, G) how many of them are right.
    """
    return (right / np.maximum(counts, 1)).sum(-1) / (counts > 0).sum(-1)


def calibration_error(confidence: np.ndarray, counts: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Expected calibration error of the largest probability, with adaptive bins: 0 to 1.

    Mean over images of |accuracy - mean confidence| of the image's bin (Guo et al., ICML 2017), in
    `BINS` bins of as equal a number of images as ties allow (Nguyen and O'Connor, EMNLP 2015):
    an image is in the bin that the share of images of higher confidence decides. Noise only raises
    it, the more the fewer the images.

    Args:
        confidence: (G,) distinct, from the highest to the lowest.
        counts: (R, G) images of each confidence.
        wrong: (R, G) how many of them are wrong.
    """
    above = np.cumsum(counts, -1) - counts
    total = counts.sum(-1, keepdims=True)
    bins = np.minimum(BINS * above // total, BINS - 1).astype(np.int64)
    bins += BINS * np.arange(len(bins))[:, None]
    gaps = counts * (1 - confidence) - wrong
    sums = np.bincount(bins.ravel(), gaps.ravel(), minlength=BINS * len(bins))
    return np.abs(sums.reshape(-1, BINS)).sum(-1) / total[:, 0]


def area_under_risk(counts: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """AURC: mean over images of the error rate among those answered at least as confidently.

    The area under the risk-coverage curve as a sum over its N steps (Geifman, Uziel and El-Yaniv,
    ICLR 2019); images of equal confidence are answered together. Arguments as for
    `calibration_error`.
    """
    answered, risks = _risk_coverage(counts, wrong)
    return (counts * risks).sum(-1) / answered[:, -1]


def coverage_at_risk(counts: np.ndarray, wrong: np.ndarray, risk: float) -> np.ndarray:
    """The largest share of images that can be answered, the most confident first, with an error
    rate of at most `risk` (Geifman and El-Yaniv, NeurIPS 2017).

    Known after the fact, it promises nothing for other images (`calibration.accept_from` does).
    Arguments as for `calibration_error`.
    """
    answered, risks = _risk_coverage(counts, wrong)
    return np.where(risks <= risk, answered, 0).max(-1) / answered[:, -1]


def _risk_coverage(counts: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R, G) at each confidence: how many images are answered, and the error rate of these."""
    answered = np.cumsum(counts, -1)
    return answered, np.cumsum(wrong, -1) / np.maximum(answered, 1)


def entropy(log_probabilities: np.ndarray) -> np.ndarray:
    """(..., K) normalised -> (...) nats."""
    return -np.sum(np.exp(log_probabilities) * log_probabilities, axis=-1)


# -- intervals -------------------------------------------------------------------------------------


def intervals(
    metrics: Sequence[Metrics], count: int, exact: Sequence[Mapping[str, Ends | None]] = ()
) -> list[dict[str, Metric]]:
    """Each metric's value, and its interval over images: the one of `exact` where it is there, else
    that of the percentile bootstrap.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. `REPLICATES` times as
    many images are drawn with replacement, the same ones for all predictions. Where all images are
    counted, or none is, drawing them again says nothing: there the interval of a count is Clopper
    and Pearson's (see `unseen`).

    Args:
        metrics: of each prediction.
        count: number of images.
        exact: of each prediction, see `exact`; of all or of none.

    Returns:
        For each prediction {name: {"value", "low", "high"}}; both ends are None where there is no
        interval.
    """
    random = np.random.default_rng(SEED)
    drawn: list[list[dict[str, np.ndarray]]] = [[] for _ in metrics]
    at_once = max(1, AT_ONCE // count)
    for start in range(0, REPLICATES, at_once):
        weights = _resampled(random, min(at_once, REPLICATES - start), count)
        for replicates, each in zip(drawn, metrics, strict=True):
            replicates.append(each(weights))
    everything = np.ones((1, count))
    ends = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    found: list[dict[str, Metric]] = []
    known = exact or [{}] * len(metrics)
    for replicates, each, own in zip(drawn, metrics, known, strict=True):
        found.append({})
        for name, (value,) in each(everything).items():
            interval = own.get(name)
            if name in own and interval is None:
                found[-1][name] = {"value": float(value), "low": None, "high": None}
                continue
            if interval is not None:
                low, high = interval
            elif name in COUNTED and value in (0, 1):
                low, high = (1 - unseen(count), 1.0) if value else (0.0, unseen(count))
            else:
                again = np.concatenate([part[name] for part in replicates])
                low, high = np.quantile(again, ends)
            low, value, high = float(min(low, value)), float(value), float(max(high, value))
            found[-1][name] = {"value": value, "low": low, "high": high}
    return found


def exact(tally: Tally) -> dict[str, Ends | None]:
    """The intervals that are not the bootstrap's, by the names of `of_tally`.

    The calibration error has none. Noise alone raises it, so that what is drawn again lies above
    the truth: that of calibrated models, 0, was in the bootstrap's interval in 0 to 2 of 100
    simulations.
    """
    once = np.ones((1, len(tally.labels)))
    classes, right = Runs(tally.labels, tally.right).sums(once)
    counts, wrong = (sums[0] for sums in Runs(-tally.confidence, ~tally.right).sums(once))
    return {
        "accuracy": proportion(tally.right.sum(), len(tally.right)),
        "mean_class_accuracy": class_mean_interval(classes[0], right[0]),
        "nll": mean_interval(tally.nll),
        "brier": mean_interval(tally.brier, most=2.0),
        "ece": None,
        "aurc": area_interval(counts, wrong),
        "coverage_at_5_risk": coverage_interval(counts, wrong, RISK),
    }


def _resampled(random: np.random.Generator, replicates: int, count: int) -> np.ndarray:
    """How often each image is drawn: (replicates, count) float64."""
    drawn = random.integers(count, size=(replicates, count))
    drawn += count * np.arange(replicates)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=replicates * count)
    return counts.reshape(replicates, count).astype(np.float64)
