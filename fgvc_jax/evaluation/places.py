"""Accuracy at each place, or date, where images of one group are alike: it is drawn by group.

The interval of a share of images that came in groups is that of the ratio of two sums over groups
(Cochran, Sampling Techniques, 1977, chapter 2.11), with Student's quantile of as many groups less
one: a burst of ten frames says little more than one of them. It is never narrower than that of as
many single images: a few groups may be alike by chance.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fgvc_jax.evaluation import intervals
from fgvc_jax.evaluation.metrics import Metric


def accuracy_by_place(
    places: Sequence[str], groups: Sequence[str], right: np.ndarray
) -> dict[str, Any]:
    """{"places": of each one {"name", "images", "groups", "accuracy"}, the worst first;
    "accuracy": of all, with an interval for the mean of many places like these, which are drawn
    whole; a single one may lie far outside}.

    Args:
        places: of N images.
        groups: of N images, within a place.
        right: (N,) bool.
    """
    names, number = np.unique(np.asarray(places, object).astype(str), return_inverse=True)
    of_group = np.unique(np.asarray(groups, object).astype(str), return_inverse=True)[1]
    found = []
    for n, name in enumerate(names.tolist()):
        mine = number == n
        found.append(
            {
                "name": name,
                "images": int(mine.sum()),
                "groups": len(np.unique(of_group[mine])),
                "accuracy": by_group(of_group[mine], right[mine]),
            }
        )
    found.sort(key=lambda each: (each["accuracy"]["value"], each["name"]))
    return {"places": found, "accuracy": by_group(number, right)}


def by_group(groups: np.ndarray, right: np.ndarray) -> Metric:
    """The share of images (N,) that are right, with its interval for other groups like these (N,)
    int; without ends of a single group of several images, which does not say how groups vary."""
    numbers, sizes = np.unique(groups, return_counts=True)
    value, count = float(right.mean()), len(numbers)
    if count == len(right):  # each alone
        low, high = intervals.proportion(float(right.sum()), count)
        return {"value": value, "low": low, "high": high}
    if count < 2:
        return {"value": value, "low": None, "high": None}
    sums = np.bincount(np.searchsorted(numbers, groups), right, minlength=count)
    if value in (0, 1):  # nothing varies: as of one image a group
        low, high = intervals.proportion(value * count, count)
        return {"value": value, "low": low, "high": high}
    from scipy.stats import t

    squares = float(((sums - value * sizes) ** 2).sum())
    error = math.sqrt(count / (count - 1) * squares) / len(right)
    half = float(t.ppf((1 + intervals.LEVEL) / 2, count - 1)) * error
    low, high = intervals.proportion(float(right.sum()), len(right))
    return {
        "value": value,
        "low": min(max(value - half, 0.0), low),
        "high": max(min(value + half, 1.0), high),
    }
