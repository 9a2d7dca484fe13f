"""From results to numbers: the metrics of a run, intervals of rows, paired differences."""

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from fgvc_jax import train
from fgvc_jax.config import Experiment

Key = tuple[str, int]  # (row, seed)

CONFIDENCE = 0.95
ROUNDING = 1e-9
"""Values no further apart are the same number: of n images, accuracies differ by 1/n or not."""


def measure(_experiment: Experiment, results: Mapping[str, Any]) -> dict[str, float]:
    """Metrics of a finished run, by name.

    ensemble: accuracy of all members together; ensemble_N: of the first N; single: mean of the
    members alone; single_N: of member N; overlap: mean attention overlap of two members, if there
    are two; overlap_N: of two of the first N; head_NAME: mean over members of one head's accuracy,
    "logits" being the main head. All at the end of training ("final"), on the test set.
    """
    finals = [member["final"] for member in results["members"]]
    values = {"ensemble": results["ensemble"][-1], "single": statistics.fmean(finals)}
    for kind, accuracies in (("ensemble", results["ensemble"]), ("single", finals)):
        values |= {f"{kind}_{n}": value for n, value in enumerate(accuracies, start=1)}
    matrix = results["attention_overlap"]
    for n in range(2, len(matrix) + 1):
        block = [row[:n] for row in matrix[:n]]
        values[f"overlap_{n}"] = train.mean_overlap({"attention_overlap": block})
    if len(matrix) > 1:
        values["overlap"] = values[f"overlap_{len(matrix)}"]
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
    return re.fullmatch(r"(ensemble|single|overlap)_\d+", metric) is not None


def _deviation(sample: Sequence[float]) -> float | None:
    """Sample deviation (ddof 1), exactly 0 of values that are equal up to rounding; None of one."""
    if len(sample) < 2:
        return None
    return statistics.stdev(sample) if max(sample) - min(sample) > ROUNDING else 0.0


def _interval(sample: Sequence[float]) -> list[float] | None:
    """Student's interval of the mean; None where the values do not say how they vary: of fewer
    than two, or of equal ones, from which no width follows."""
    from scipy import stats

    sd = _deviation(sample)
    if not sd:
        return None
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(sample) - 1))
    mean, half = statistics.fmean(sample), quantile * sd / math.sqrt(len(sample))
    return [mean - half, mean + half]


def describe(sample: Sequence[float]) -> dict[str, Any]:
    """{"n", "mean", "sd", "interval"} of one row; sd is None of a single run, interval also of
    equal ones."""
    return {
        "n": len(sample),
        "mean": statistics.fmean(sample),
        "sd": _deviation(sample),
        "interval": _interval(sample),
    }


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> dict[str, Any] | None:
    """`one` minus `other` over the seeds that both have: {"n", "mean", "sd", "interval", "p"}.

    p is that of the two-sided paired t-test. It and the interval are None for one pair, or when all
    differences are equal up to rounding (as for two rows that are the same experiment). None
    without a common seed.
    """
    from scipy import stats

    differences = [one[seed] - other[seed] for seed in one if seed in other]
    if not differences:
        return None
    described = describe(differences)
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
    summary: dict[str, Any] = {}
    for metric in dict.fromkeys(name for run in values.values() for name in run):
        samples = {
            row: {
                seed: run[metric] for (r, seed), run in values.items() if r == row and metric in run
            }
            for row in members
        }
        summary[metric] = {}
        for row, sample in samples.items():
            alike = names_its_members(metric) or members[row] == members[first]
            compared = paired(sample, samples[first]) if alike and row != first else None
            if sample:
                summary[metric][row] = describe([*sample.values()]) | {"difference": compared}
    return summary
