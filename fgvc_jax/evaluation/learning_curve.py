"""What more images bring: by what is said of the same images, which were held out, by heads that
learned from a quarter, from half, and from all of the others.

A doubling of all classes is what is seen. What the next one brings is told by a power law: errors
fall by the same factor with each doubling (Hestness et al., arXiv 1712.00409). That is a guess.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fgvc_jax.evaluation.intervals import LEVEL, unseen

FIELDS = "images", "photographs", "accuracy", "gain", "next", "classes"
LEAST = 5  # groups of images of a class that is judged, of which a fifth is one
LEARNED = 0.8  # of the images, by the heads that learned from all that were not held out


def curve_of(
    labels: np.ndarray,
    groups: np.ndarray,
    rows: np.ndarray,
    heads: np.ndarray,
    said: Mapping[float, np.ndarray],
) -> dict[str, Any] | None:
    """The curve, as it is kept.

    Args:
        labels: (N,) int, of the training images.
        groups: (N,) int; images of one are alike, and were held out together.
        rows: (n,) int, the images that were held out.
        heads: (n,) int, of which fold each is: one head said all that is said of these.
        said: of these (n, K) log-probabilities, by the share of the others that was learned from,
            increasing; the last is 1.

    Returns:
        {"images": that were judged, "photographs": of a class that were learned from, the median,
        "accuracy", both at each share, "gain": of the last doubling {"value", "low", "high"},
        "next": of another one from all images, as it is guessed, "classes": those whose
        images are the likelier for certain, the more was learned from, and which are named no
        better than the whole; the largest gain first, each {"label",
        "photographs", "accuracy"}}; None where too few images say anything.
    """
    shares, count = list(said), labels.max() + 1
    apart = np.unique(np.stack([labels, groups]), axis=1)[0]  # the label of each group of a class
    of_class = np.bincount(apart, minlength=count)
    judged = (of_class >= LEAST)[labels[rows]]
    if shares[-1] != 1 or len(shares) < 2 or not judged.any():
        return None
    chosen = np.flatnonzero(judged)
    rows, heads = rows[chosen], heads[chosen]
    truth, group = labels[rows], groups[rows]
    right = np.stack([each.argmax(-1)[chosen] == truth for each in said.values()])
    true = np.exp(np.stack([each[chosen, truth] for each in said.values()]))
    learned = LEARNED * np.outer(shares, np.bincount(labels, minlength=count)[of_class >= LEAST])
    accuracy = right.mean(-1)
    found = []
    for label in np.unique(truth):
        own = truth == label
        gains, of_its = (true[-1] - true[0])[own], right[:, own].mean(-1)
        # A head may err for all of a class that it judges, so that these vary as well as images.
        least = min(_ends(gains, by[own])[0] for by in (group, heads))
        if least > 0 and of_its[-2] < of_its[-1] <= accuracy[-1]:
            found.append((gains.mean(), label, of_its))
    found.sort(key=lambda each: (-each[0], each[1]))
    return {
        "images": len(rows),
        "photographs": np.median(learned, axis=-1).tolist(),
        "accuracy": accuracy.tolist(),
        "gain": _gain(right[-1].astype(float) - right[-2], group),
        "next": _next(1 - accuracy),
        "classes": [
            {
                "label": int(label),
                "photographs": (LEARNED * np.array(shares) * (labels == label).sum()).tolist(),
                "accuracy": of_its.tolist(),
            }
            for _, label, of_its in found
        ],
    }


def _gain(differences: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """Of images (n,), 1 where only the larger share is right, -1 where only the smaller is: the
    mean, with Student's interval by group."""
    low, high = _ends(differences, groups)
    if low == -math.inf:  # nothing varies
        half = unseen(len(np.unique(groups)))
        low, high = differences.mean() - half, differences.mean() + half
    return {"value": float(differences.mean()), "low": max(low, -1.0), "high": min(high, 1.0)}


def _ends(values: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Student's interval of the mean of values (n,) that are drawn by group; infinite of a single
    group, and of values that do not vary."""
    from scipy.stats import t

    mean = float(values.mean())
    sums = np.bincount(np.unique(groups, return_inverse=True)[1], values - mean)
    count, squares = len(sums), float((sums**2).sum())
    if count < 2 or squares < 1e-12:
        return -math.inf, math.inf
    error = math.sqrt(count / (count - 1) * squares) / len(values)
    half = float(t.ppf((1 + LEVEL) / 2, count - 1)) * error
    return mean - half, mean + half


def _next(errors: Sequence[float] | np.ndarray) -> float:
    """What twice all images may bring, of the error rates of the shares that were learned from."""
    before, now = errors[-2], errors[-1]
    if not before or now > before:
        return 0.0
    factor = now / before
    return float(now * factor ** -math.log2(LEARNED) * (1 - factor))
