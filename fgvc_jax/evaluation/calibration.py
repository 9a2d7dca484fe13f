"""Probabilities that mean what they say, and how much to leave open: fitted on validation.

A `Calibration` belongs to an ensemble: to its members' variables, its fusion and the validation
images, which its entry in the workdir's `calibration.json` names by their digests, so that it is
served for nothing else. It is fitted to what predictions.py kept; test images play no part in it.
Where the validation part also selected an epoch, what is promised here is a little optimistic.
Where a head was solved, training images that were held out in turn stand for a validation part
(cross-conformal prediction: Vovk, Annals of Mathematics and Artificial Intelligence, 2015). They
also chose the weight decay, one number, and their heads saw four fifths of the images: what is
promised is near, not exact.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from fgvc_jax import ensemble
from fgvc_jax.evaluation import intervals, metrics
from fgvc_jax.evaluation.metrics import Tally
from fgvc_jax.evaluation.tallies import Fused
from fgvc_jax.utils.text import counted

COVERAGE = 0.9  # of the conformal sets
CONFIDENCE = 0.95  # with which an error rate is promised
RISK_STEP = 0.005  # of the risks that are tried where the one asked for cannot be promised
TEMPERATURES = 1 / 20, 20.0  # the most that probabilities are sharpened and flattened
SPREAD = 0.5  # of the logarithm of temperatures before anything is known, see `fit_temperature`
QUANTILE = 1.96  # of the normal distribution: 95 % are within so many standard deviations
SURE = 1.25  # ends of an interval so many times apart tell the temperature well enough
NEAR = 0.05  # differences of that logarithm, to see how curved what is minimised is


@dataclass(frozen=True)
class Calibration:
    """What was found on the validation images, or those that were held out in turn.

    temperature: by which fused log-probabilities are divided.
    coverage: share of images whose set shall hold the truth.
    threshold: a class is in an image's set unless more than this lies above it (`mass_above`).
    images: number of them.
    low, high: between these the temperature is with 95 %.
    """

    temperature: float
    coverage: float
    threshold: float
    images: int
    low: float
    high: float
    part: str = "validation"

    @property
    def kind(self) -> str:
        """Which images they are, in words."""
        return counted(self.images, f"{self.part.replace('_', '-')} image")

    def log_probabilities(self, fused: np.ndarray) -> np.ndarray:
        """Calibrated, (B, K): the softmax of the fused log-probabilities / temperature."""
        return ensemble.log_softmax(fused / np.float32(self.temperature))

    def sets(self, log_probabilities: np.ndarray) -> np.ndarray:
        """Conformal sets: calibrated (B, K) -> (B, K) bool. The likeliest class is in its set."""
        # At 1 all are in, whatever rounding adds the probabilities up to.
        return (mass_above(log_probabilities) <= self.threshold) | (self.threshold >= 1)

    @property
    def about(self) -> list[str]:
        """What people should know of it, line by line."""
        told = (
            f"calibrated on {self.kind}: temperature {self.temperature:.3f} "
            f"({self.low:.3f}-{self.high:.3f}), sets to cover {self.coverage:.0%}"
        )
        return [told, *self.doubts]

    @property
    def doubts(self) -> list[str]:
        """What these images are too few to say."""
        found = []
        if self.low <= 1 <= self.high and self.high > SURE * self.low:
            found.append(
                f"{self.kind} do not tell the temperature from 1: calibrated "
                "probabilities may be no better than raw ones"
            )
        if self.threshold == 1:
            found.append(
                f"{self.kind} are too few to promise anything of sets, which hold every class"
            )
        return found


def fit(fused: Fused, *, coverage: float = COVERAGE) -> Calibration:
    """The `Calibration` of an ensemble.

    Args:
        fused: what it answered for the validation part.
        coverage: of the conformal sets.
    """
    part = fused.part
    temperature, low, high = fit_temperature(fused)
    count = len(part.labels)
    draft = Calibration(temperature, coverage, 1.0, count, low, high, part.part)
    return fit_sets(draft, fused)


def fit_sets(draft: Calibration, fused: Fused) -> Calibration:
    """A calibration at the same temperature, whose sets are fitted to an ensemble's answers, which
    may be for other images and among fewer classes."""
    labels = fused.part.labels
    scores = np.zeros(len(labels))
    for rows, values in fused:
        above = mass_above(draft.log_probabilities(values))
        scores[rows] = np.take_along_axis(above, labels[rows, None], axis=-1)[:, 0]
    threshold = conformal_threshold(scores, draft.coverage)
    return replace(draft, threshold=threshold, images=len(labels))


def fit_temperature(fused: Fused, spread: float = SPREAD) -> tuple[float, float, float]:
    """The temperature T within `TEMPERATURES` of least NLL (Guo et al., ICML 2017), and between
    which two it is with 95 %.

    Least is the sum over images of the NLL + (log T / spread)^2 / 2: before anything is known,
    log T is normal around that of raw probabilities. A dozen images that are all right would have
    T = 1/20 otherwise, and what is calibrated be worse than what is raw; with hundreds this changes
    nothing that matters. Of an infinite spread it is Guo's. The interval is Laplace's approximation
    (MacKay, Information Theory, Inference and Learning Algorithms, 2003, chapter 27).

    The derivative by log(1/T) is sought where it crosses zero: of an image, that is 1/T times the
    expected less the true class's log-probability.
    """
    from scipy import optimize  # here, since every command would wait for it at its start

    labels = fused.part.labels

    def slope(log_inverse: float) -> float:
        inverse, total = np.float32(math.exp(log_inverse)), 0.0
        for rows, values in fused:
            probabilities = np.exp(ensemble.log_softmax(values * inverse))
            expected = np.einsum("bk,bk->b", probabilities, values)
            true = np.take_along_axis(values, labels[rows, None], axis=-1)[:, 0]
            total += np.sum(expected - true, dtype=np.float64)
        return float(total * inverse + log_inverse / spread**2)

    low, high = (-math.log(t) for t in reversed(TEMPERATURES))
    if slope(low) >= 0:
        best = low
    elif slope(high) <= 0:
        best = high
    else:
        best = optimize.brentq(slope, low, high, xtol=1e-5)
    curvature = (slope(best + NEAR) - slope(best - NEAR)) / (2 * NEAR)
    curvature = max(curvature, spread**-2)
    width = QUANTILE / math.sqrt(curvature) if curvature else math.inf
    return math.exp(-best), math.exp(-min(best + width, high)), math.exp(-max(best - width, low))


def mass_above(log_probabilities: np.ndarray) -> np.ndarray:
    """The probability of all classes that are likelier than a class: (B, K) -> (B, K) float64.

    The score of adaptive prediction sets (APS: Romano, Sesia and Candes, NeurIPS 2020) without
    their randomisation, which sets that people read had better not have: the true class itself
    does not count. Sets are never empty, and cover at least what they promise.
    """
    order = np.argsort(-log_probabilities, axis=-1, kind="stable")
    values = np.take_along_axis(log_probabilities, order, axis=-1)
    probabilities = np.exp(values, dtype=np.float64)
    above = np.cumsum(probabilities, -1) - probabilities
    # Equally likely classes have the same mass above them.
    above[:, 1:][values[:, 1:] == values[:, :-1]] = 0
    above = np.maximum.accumulate(above, -1)
    placed = np.empty_like(above)
    np.put_along_axis(placed, order, above, axis=-1)
    return placed


def conformal_threshold(scores: np.ndarray, coverage: float) -> float:
    """The score that so large a share of new images does not exceed, whatever the classifier:
    split conformal prediction (Vovk et al.; Angelopoulos and Bates, arXiv 2107.07511, equation 1).

    Args:
        scores: (N,) `mass_above` of the true class.
        coverage: share of images whose set shall hold the truth.

    Returns:
        The ceil((N + 1) coverage)-th smallest score; 1, all classes, where N is too small for it.
    """
    rank = math.ceil((len(scores) + 1) * coverage)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else 1.0


def accept_from(confidence: np.ndarray, right: np.ndarray, risk: float) -> float:
    """The lowest threshold of confidence above which at most a share `risk` of the answers is
    wrong, with a probability of at least `CONFIDENCE`; infinite where no threshold promises that.

    Selection with guaranteed risk (Geifman and El-Yaniv, NeurIPS 2017, algorithm 1): a search by
    halves among the N confidences for the lowest at which the exact binomial upper bound
    (Clopper-Pearson) of the error rate is within the risk. Its answer is one of N + 1, none being
    the last, so that each of ceil(log2(N + 1)) bounds may fail with an equal part of
    1 - `CONFIDENCE`.

    Args:
        confidence: (N,) largest calibrated probability of the validation images.
        right: (N,) bool.
        risk: 0 to 1.
    """
    thresholds = np.unique(confidence)
    if not len(thresholds):
        return math.inf
    failure = (1 - CONFIDENCE) / math.ceil(math.log2(len(thresholds) + 1))
    low, high = 0, len(thresholds)  # the answer is in [low, high], high: none
    while low < high:
        middle = (low + high) // 2
        answered = confidence >= thresholds[middle]
        if upper_bound(np.sum(~right[answered]), np.sum(answered), 1 - failure) <= risk:
            high = middle
        else:
            low = middle + 1
    return float(thresholds[low]) if low < len(thresholds) else math.inf


def least_risk(confidence: np.ndarray, right: np.ndarray) -> float | None:
    """The smallest risk, in steps of RISK_STEP, that `accept_from` can promise of some answers;
    None where there is none below 1."""
    steps = range(1, round(1 / RISK_STEP))
    promised = (step * RISK_STEP for step in steps)
    return next((r for r in promised if accept_from(confidence, right, r) < math.inf), None)


def upper_bound(errors: int, count: int, confidence: float) -> float:
    """Clopper and Pearson's (Biometrika 1934) one-sided upper bound of an error rate."""
    from scipy.special import betaincinv  # see `intervals.proportion`

    return 1.0 if errors == count else float(betaincinv(errors + 1, count - errors, confidence))


# -- kept in a workdir -----------------------------------------------------------------------------


def calibrated_tally(calibration: Calibration, fused: Fused) -> Tally:
    """What metrics need to know of calibrated answers."""
    tally = Tally.of(fused.part.labels)
    for rows, values in fused:
        tally.fill(rows, calibration.log_probabilities(values))
    return tally


def judge_calibration(calibration: Calibration, fused: Fused) -> dict[str, Any]:
    """How a calibration does on images that it was not fitted to: part of results.json.

    Returns:
        {"temperature", "low", "high", "coverage", "threshold", "images", "part": as in
        `Calibration`, "about": its lines for people, "metrics": of the calibrated probabilities,
        and of the sets "set_coverage", the share that holds the truth, and "set_size", their mean
        number of classes}, see `metrics.intervals`.
    """
    labels = fused.part.labels
    tally = Tally.of(labels)
    sets = np.zeros((len(labels), 2))
    for rows, values in fused:
        values = calibration.log_probabilities(values)
        tally.fill(rows, values)
        chosen = calibration.sets(values)
        sets[rows, 0] = np.take_along_axis(chosen, labels[rows, None], axis=-1)[:, 0]
        sets[rows, 1] = chosen.sum(-1)
    own = metrics.of_tally(tally)

    def everything(weights: np.ndarray) -> dict[str, np.ndarray]:
        covered, size = metrics.mean(sets, weights).T
        return own(weights) | {"set_coverage": covered, "set_size": size}

    exact = metrics.exact(tally) | intervals.of_count("set_coverage", sets[:, 0])
    (found,) = metrics.intervals([everything], len(labels), [exact])
    return asdict(calibration) | {"about": calibration.about, "metrics": found}
