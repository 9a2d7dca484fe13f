"""From results to numbers: the metrics of a run, intervals of rows, paired differences."""

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

from fgvc_jax.evaluation import intervals
from fgvc_jax.evaluation.tallies import is_flat, mean_overlap

Key = tuple[str, int]  # (row, seed)

CONFIDENCE = 0.95
ROUNDING = 1e-9
"""Values no further apart are the same number: of n images, accuracies differ by 1/n or not."""


def measure(results: Mapping[str, Any]) -> dict[str, float]:
    """Metrics of a finished run, by name.

    ensemble: accuracy of all members together; ensemble_N: of the first N; single: mean of the
    members alone; single_N: of member N; overlap: mean attention overlap of two members, if there
    are two and their maps are not flat; overlap_N: of two of the first N; overlap_high: of their
    high responses alone, which results of older versions do not have; head_NAME: mean over members
    of one head's accuracy, "logits" being the main head. All at the end of training ("final"), on
    the test set. But published, published_N: ensembles of members at the epoch that is best on the
    test set.
    """
    finals = [member["final"] for member in results["members"]]
    values = {"ensemble": results["ensemble"][-1], "single": statistics.fmean(finals)}
    published = (results.get("published_protocol") or {"ensemble": []})["ensemble"]
    values |= {"published": published[-1]} if published else {}
    kinds = {"ensemble": results["ensemble"], "single": finals, "published": published}
    for kind, accuracies in kinds.items():
        values |= {f"{kind}_{n}": value for n, value in enumerate(accuracies, start=1)}
    matrix = [] if is_flat(results["attention_overlap"]) else results["attention_overlap"]
    for n in range(2, len(matrix) + 1):
        overlap = mean_overlap([row[:n] for row in matrix[:n]])
        values |= {f"overlap_{n}": overlap, "overlap": overlap}
    if matrix and (high := mean_overlap(results.get("response_overlap", ()))) is not None:
        values["overlap_high"] = high
    values["head_logits"] = values["single"]  # what a network with one head predicts with
    prefix = "test_accuracy_"
    for name in results["members"][0]:
        if name.startswith(prefix):
            of_head = [member[name] for member in results["members"]]
            values["head_" + name.removeprefix(prefix)] = statistics.fmean(of_head)
    return values


def names_its_members(metric: str) -> bool:
    """Whether a metric is of certain members (`ensemble_2`), however many there are: others are of
    all members, and rows of different numbers of members are not alike in them."""
    return re.fullmatch(r"(ensemble|single|overlap|published|nll)_\d+", metric) is not None


def is_share(metric: str) -> bool:
    """Whether a metric is a share of images, 0 to 1, as all accuracies are."""
    known = r"(ensemble|single|published)(_\d+)?|head_.+|rescued|spoiled|any"
    return re.fullmatch(known, metric) is not None


def _deviation(sample: Sequence[float]) -> float | None:
    """Sample deviation (ddof 1), exactly 0 of values that are equal up to rounding; None of one."""
    if len(sample) < 2:
        return None
    return statistics.stdev(sample) if max(sample) - min(sample) > ROUNDING else 0.0


def _interval(sample: Sequence[float], ends: tuple[float, float]) -> list[float] | None:
    """Student's interval of the mean, within the `ends` of what that can be; None where the values
    do not say how they vary: of fewer than two, or of equal ones, from which no width follows."""
    from scipy import stats

    sd = _deviation(sample)
    if not sd:
        return None
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(sample) - 1))
    mean, half = statistics.fmean(sample), quantile * sd / math.sqrt(len(sample))
    return [max(mean - half, ends[0]), min(mean + half, ends[1])]


def describe(
    sample: Sequence[float], *, ends: tuple[float, float] = (-math.inf, math.inf)
) -> dict[str, Any]:
    """{"n", "mean", "sd", "interval"} of one row; sd is None of a single run, interval also of
    equal ones.

    Args:
        sample: one value a run.
        ends: the least and the most that a value can be.
    """
    return {
        "n": len(sample),
        "mean": statistics.fmean(sample),
        "sd": _deviation(sample),
        "interval": _interval(sample, ends),
    }


def paired(
    one: Mapping[int, float], other: Mapping[int, float], *, share: bool = False
) -> dict[str, Any] | None:
    """`one` minus `other` over the seeds that both have: {"n", "mean", "sd", "interval", "p"}.

    p is that of the two-sided paired t-test. p and the interval are None for one pair, or when all
    differences are equal up to rounding (as for two rows that are the same experiment). Without a
    common seed the answer is None. Differences of shares (`is_share`) end at -1 and 1.
    """
    from scipy import stats

    differences = [one[seed] - other[seed] for seed in one if seed in other]
    if not differences:
        return None
    described = describe(differences, ends=(-1.0, 1.0)) if share else describe(differences)
    p = None
    if described["sd"]:
        t = described["mean"] / (described["sd"] / math.sqrt(len(differences)))
        p = float(2 * stats.t.sf(abs(t), len(differences) - 1))
    return described | {"p": p}


def summarize(
    values: Mapping[Key, Mapping[str, float]], members: Mapping[str, int]
) -> dict[str, Any]:
    """{metric: {row: `describe`, with "difference": `paired` to the first row or None}}.

    Args:
        values: metrics of every finished run.
        members: row -> its number of members, in the order of the study. The first row is the
            reference. A metric of all members is compared between rows of equally many only.
    """
    first = next(iter(members))
    compared: dict[str, Any] = {}
    for metric in dict.fromkeys(name for run in values.values() for name in run):
        samples = {
            row: {
                seed: run[metric] for (r, seed), run in values.items() if r == row and metric in run
            }
            for row in members
        }
        compared[metric], share = {}, is_share(metric)
        for row, sample in samples.items():
            alike = names_its_members(metric) or members[row] == members[first]
            difference = None
            if row != first and alike:
                difference = paired(sample, samples[first], share=share)
            if sample:
                described = describe([*sample.values()], **({"ends": (0.0, 1.0)} if share else {}))
                compared[metric][row] = described | {"difference": difference}
    return compared


# -- other questions -----------------------------------------------------------------------------


def crossed(differences: np.ndarray) -> list[float] | None:
    """Interval of the mean difference for new trainings on *new images*.

    `paired` asks about new trainings on these test images, and decides. Here seeds and images are
    both samples, crossed: the variance of the mean is s_seed^2/S + s_image^2/I + s_rest^2/(S I),
    its parts taken from the mean squares of the two-way table (s_image^2 never below zero), with
    Satterthwaite's degrees of freedom (Searle, Casella & McCulloch, Variance Components, 1992). Of
    few seeds these may make it narrower than that of `paired`, which cannot be: then it is that.

    Args:
        differences: (S, I): of every seed and image, 1 where one row alone is right, -1 where only
            the other is, else 0.

    Returns:
        Both ends; None of fewer than two seeds or images, or without any variation.
    """
    from scipy import stats

    seeds, images = differences.shape
    if min(seeds, images) < 2:
        return None
    mean = differences.mean()
    by_seed, by_image = differences.mean(axis=1), differences.mean(axis=0)
    rest = differences - by_seed[:, None] - by_image + mean
    degrees = np.array([seeds - 1, images - 1, (seeds - 1) * (images - 1)])
    squares = [images * np.var(by_seed), seeds * np.var(by_image), np.mean(rest**2)]
    squares = np.multiply(squares, [seeds, images, seeds * images]) / degrees
    parts = squares * ([1, 1, -1] if squares[1] > squares[2] else [1, 0, 0])
    if parts.sum() <= ROUNDING**2:
        return None
    freedom = parts.sum() ** 2 / np.sum(parts**2 / degrees)
    quantiles = stats.t.ppf((1 + CONFIDENCE) / 2, [freedom, seeds - 1])
    half = np.max(quantiles * np.sqrt([parts.sum(), squares[0]])) / math.sqrt(seeds * images)
    return [max(float(mean - half), -1.0), min(float(mean + half), 1.0)]


def detectable(sd: float, n: int, *, power: float = 0.8) -> float:
    """The true difference that the paired t-test of n pairs finds with probability `power`.

    Args:
        sd: of the paired differences, taken for the true one.
        n: pairs, at least two.
        power: probability.
    """
    from scipy import optimize, stats

    limit = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)
    # The sample's deviation over the true one: 1,000 equally likely values. scipy's noncentral t
    # gives no number for few degrees of freedom and large shifts.
    spread = np.sqrt(stats.chi2.ppf((np.arange(1000) + 0.5) / 1000, n - 1) / (n - 1))

    def lacking(shift: float) -> float:
        found = stats.norm.sf(limit * spread - shift) + stats.norm.cdf(-limit * spread - shift)
        return float(found.mean()) - power

    return optimize.brentq(lacking, 0.0, 10.0 * limit) * sd / math.sqrt(n)


def seeds_needed(sd: float, half_width: float) -> int:
    """The smallest number of pairs whose interval is expected to reach `half_width` either way.

    Args:
        sd: of the paired differences, taken for the true one.
        half_width: above 0, in the unit of sd.
    """
    from scipy import stats

    def too_few(n: int) -> bool:
        return stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * sd / math.sqrt(n) > half_width

    # More than the normal distribution's n, by at most a few: its quantile is below Student's.
    n = max(2, math.floor((stats.norm.ppf((1 + CONFIDENCE) / 2) * sd / half_width) ** 2))
    while too_few(n):
        n += 1
    return n


def largest_deviation(sd: float, n: int, *, confidence: float = 0.8) -> float:
    """What the true deviation does not exceed, with so much confidence, after a pilot of n pairs
    that had `sd`."""
    from scipy import stats

    return sd * math.sqrt((n - 1) / stats.chi2.ppf(1 - confidence, n - 1))


def verdict(interval: Sequence[float] | None, gain: float) -> str:
    """What a deciding interval says of a published gain.

    shown: it lies above 0; absent: it lies below the gain; smaller: both; undecided: neither.
    """
    if interval is None:
        return "undecided"
    above, below = interval[0] > 0, interval[1] < gain
    return {(True, False): "shown", (False, True): "absent", (True, True): "smaller"}.get(
        (above, below), "undecided"
    )


def compare_runs(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Two runs on the same images, pair by pair: McNemar's exact test, and an interval that leaves
    out 0 where the test says that they differ, and only there.

    The difference is the share of images that only one run has right, times how unevenly these are
    split, -1 to 1. Clopper and Pearson's interval of the split leaves out 0 where the exact
    two-sided p is below 0.05. Its lower end is taken times the end of the share's interval that
    makes it lower, its upper end times the one that makes it higher: the whole holds the truth at
    least as often as it says.

    Args:
        ours: (N,) bool, which images one run names rightly.
        theirs: likewise, the other.

    Returns:
        {"difference": accuracy of ours less theirs, "low", "high", "p": McNemar's exact two-sided p
        (McNemar, Psychometrika 1947, by the binomial distribution), "gained": images that only ours
        has right, "lost": only theirs}.
    """
    gained, lost = int(np.sum(ours & ~theirs)), int(np.sum(theirs & ~ours))
    count, changed = len(ours), gained + lost
    least, most = intervals.proportion(changed, count)
    split = intervals.proportion(gained, changed) if changed else (0.0, 1.0)
    low, high = (2 * end - 1 for end in split)
    return {
        "difference": (gained - lost) / count,
        "low": low * (least if low > 0 else most),
        "high": high * (most if high > 0 else least),
        "p": float(binomtest(gained, changed).pvalue) if changed else 1.0,
        "gained": gained,
        "lost": lost,
    }
