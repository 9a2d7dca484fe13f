"""Where a run is right and wrong, from the answers that were kept: no network, no dataset.

Everything is of one `Part` and one fusion of its members, read in chunks: a few numbers an image
are held, never all log-probabilities.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fgvc_jax import ensemble
from fgvc_jax.evaluation import metrics
from fgvc_jax.evaluation.metrics import Runs, Tally
from fgvc_jax.evaluation.tallies import Fused

PLAUSIBLE = 0.01  # what a label's probability is at the least
RARE = 0.001  # chance of what is called weak
POINTS = 200  # of a risk-coverage curve, at the most


@dataclass(frozen=True)
class Predictions:
    """What an ensemble says of N images.

    tally: see `metrics.Tally`. predicted: (N,) int, the likeliest class. true: (N,) probability of
    the label. suggested: (N,) int, what confident learning takes the image for; -1: nothing, or
    its label.
    """

    tally: Tally
    predicted: np.ndarray
    true: np.ndarray
    suggested: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        return self.tally.labels

    @classmethod
    def of(cls, fused: Fused) -> "Predictions":
        """Read the answers twice: confident learning needs each class's mean confidence first."""
        labels, count = fused.part.labels, len(fused.part.labels)
        classes = len(fused.part.classes)
        found = cls(Tally.of(labels), np.zeros(count, int), np.zeros(count), np.full(count, -1))
        for rows, values in fused:
            found.tally.fill(rows, values)
            found.predicted[rows] = values.argmax(-1)
        found.true[:] = np.exp(-found.tally.nll)
        images = np.bincount(labels, minlength=classes)
        sums = np.bincount(labels, found.true, minlength=classes)
        thresholds = np.where(images > 0, sums / np.maximum(images, 1), np.inf)
        for rows, values in fused:
            probabilities = np.exp(ensemble.log_softmax(values))
            found.suggested[rows] = confident_class(probabilities, thresholds)
        found.suggested[found.suggested == labels] = -1
        return found

    def doubted(self) -> np.ndarray:
        """Images whose label confident learning doubts, the least plausible label first: by the
        normalised margin, the label's probability less that of the likeliest class."""
        images = np.flatnonzero(self.suggested >= 0)
        margins = self.true[images] - self.tally.confidence[images]
        return images[np.argsort(margins, kind="stable")]

    def implausible(self) -> np.ndarray:
        """Images whose label has a probability below `PLAUSIBLE` and is not what is said, the least
        probable first: cleanlab's ranking by self-confidence.

        Of labels that were exchanged it finds more than confident learning, among a quarter as many
        (scripts/doubts.py), where probabilities mean what they say: use it for answers like those.
        """
        said = self.tally.confidence > self.true + 1e-6  # where all are alike nothing is said
        images = np.flatnonzero((self.true < PLAUSIBLE) & said & ~self.tally.right)
        return images[np.argsort(self.true[images], kind="stable")]

    def doubts(self, meant: bool) -> tuple[np.ndarray, np.ndarray]:
        """Images whose label is doubted, and what (N,) each of all is taken for; `meant` says that
        probabilities mean what they say."""
        if meant:
            return self.implausible(), self.predicted
        return self.doubted(), self.suggested

    def errors(self) -> np.ndarray:
        """Images that are named wrongly, the most confident answer first."""
        images = np.flatnonzero(~self.tally.right)
        return images[np.argsort(-self.tally.confidence[images], kind="stable")]


def confident_class(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The column of the confident joint that an image counts in; -1 for none.

    Northcutt, Jiang and Chuang, "Confident learning", JAIR 2021, eq. 1-2: among the classes whose
    probability reaches the mean that images of that label have, the likeliest. An image with
    another label is a likely label error. The answers must be of images not trained on.

    Args:
        probabilities: (B, K).
        thresholds: (K,) mean probability of class k over the images labelled k; infinite for a
            class without images.

    Returns:
        (B,) int.
    """
    # The mean is summed in another order than the probabilities are: equal ones count as reached.
    reached = probabilities >= thresholds - 1e-6
    best = np.where(reached, probabilities, -1).argmax(-1)
    return np.where(reached.any(-1), best, -1)


def of_classes(answers: Predictions, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of each class, and how many of them are right: (K,) int twice."""
    images = np.bincount(answers.labels, minlength=classes)
    return images, np.bincount(answers.labels[answers.tally.right], minlength=classes)


def weak(images: np.ndarray, right: np.ndarray, overall: float) -> np.ndarray:
    """(K,) bool, which classes have so few right answers that, if all were as accurate as the
    whole, not one in a thousand had as few of as many images by chance (binomial).

    Args:
        images: (K,) of each class.
        right: (K,) how many of them are right.
        overall: accuracy on all images.
    """
    from scipy.stats import binom  # here, since every command would wait for it at its start

    return (images > 0) & (binom.cdf(right, images, overall) < RARE)


def confusion(answers: Predictions, classes: int) -> Iterator[np.ndarray]:
    """Rows (K,) int of the confusion matrix, true class by true class: how many of its images are
    named as each class."""
    order = np.argsort(answers.labels, kind="stable")
    starts = np.searchsorted(answers.labels[order], np.arange(classes + 1))
    for start, end in zip(starts, starts[1:], strict=False):
        yield np.bincount(answers.predicted[order[start:end]], minlength=classes)


def confused_pairs(answers: Predictions) -> list[dict[str, Any]]:
    """Two classes taken for each other, the most often confused first.

    Returns:
        [{"classes": (a, b), "counts": (a's images named b, b's images named a)}, ...]; a is the
        class that is mistaken more often.
    """
    wrong = ~answers.tally.right
    mistakes = np.stack([answers.labels[wrong], answers.predicted[wrong]], axis=-1)
    counts: dict[tuple[int, int], int] = {}
    for truth, said in mistakes.tolist():
        counts[truth, said] = counts.get((truth, said), 0) + 1
    pairs = []
    for (a, b), count in counts.items():
        back = counts.get((b, a), 0)
        if (count, -a) > (back, -b):  # each pair once
            pairs.append({"classes": (a, b), "counts": (count, back)})
    return sorted(pairs, key=lambda pair: (-sum(pair["counts"]), pair["classes"]))


# -- curves ----------------------------------------------------------------------------------------


def reliability(tally: Tally) -> list[dict[str, float]]:
    """The bins of `metrics.calibration_error`, from the least confident:
    [{"confidence": mean, "accuracy", "images"}, ...]; empty ones are left out."""
    runs = Runs(-tally.confidence, tally.right)
    counts, right = (sums[0] for sums in runs.sums(np.ones((1, len(tally.labels)))))
    above = np.cumsum(counts) - counts
    bins = np.minimum(metrics.BINS * above // counts.sum(), metrics.BINS - 1).astype(int)
    found = []
    for number in sorted(set(bins.tolist()), reverse=True):
        inside = bins == number
        images = counts[inside].sum()
        found.append(
            {
                "confidence": float((counts * -runs.keys)[inside].sum() / images),
                "accuracy": float(right[inside].sum() / images),
                "images": int(images),
            }
        )
    return found


def risk_coverage(tally: Tally) -> list[tuple[float, float]]:
    """(share of images answered, error rate among these), the most confident answered first, at
    `POINTS` confidences at the most."""
    runs = Runs(-tally.confidence, ~tally.right)
    counts, wrong = (np.cumsum(sums[0]) for sums in runs.sums(np.ones((1, len(tally.labels)))))
    chosen = np.unique(np.linspace(0, len(counts) - 1, POINTS).round().astype(int))
    coverage, risk = counts / counts[-1], wrong / counts
    return [(float(coverage[i]), float(risk[i])) for i in chosen]
