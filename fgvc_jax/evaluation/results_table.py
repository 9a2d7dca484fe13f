"""Results as text: the table that a command ends with."""

import statistics
from collections.abc import Sequence
from typing import Any

from fgvc_jax.evaluation import metrics
from fgvc_jax.utils import text


def results_table(results: dict[str, Any]) -> str:
    """Members and ensembles as text, accuracies in percent of all test images."""

    def percent(accuracy: float | None) -> str:
        return "-" if accuracy is None else f"{100 * accuracy:.2f}"

    columns = "final", "selected", "best_on_test"
    rows = ["", f"test accuracy (%) on {results['images']['test']} images"]
    header = "".join(f"{column.replace('_', ' '):>14}" for column in columns)
    first = list(range(1, len(results["members"]) + 1))
    numbers = results.get("numbers", first)
    together = "ensemble of 1..n" if numbers == first else "ensemble up to it"
    rows.append(f"{'member':>8}{header}{together:>20}")
    for number, member, fused in zip(numbers, results["members"], results["ensemble"], strict=True):
        singles = "".join(f"{percent(member.get(column)):>14}" for column in columns)
        rows.append(f"{number:>8}{singles}{percent(fused):>20}")
    overlap = mean_overlap(results)
    if overlap is not None:
        rows.append(f"mean attention overlap between members: {overlap:.3f}")
    return "\n".join(rows + metrics_table(results))


def metrics_table(results: dict[str, Any]) -> list[str]:
    """The ensemble's other metrics with their 95 % intervals over images, if they have one, raw and
    calibrated."""
    if "metrics" not in results:
        return []
    raw, fitted = results["metrics"]["ensemble"][-1], results["calibration"]
    found = {"raw": raw} | ({"calibrated": fitted["metrics"]} if fitted else {})
    rows = ["", f"the ensemble of {len(results['ensemble'])}, with 95 % intervals over images"]
    rows.append(f"{'':>33}" + "".join(f"{name:>24}" for name in found))
    for key, (words, unit) in metrics.NAMES.items():
        if key != "accuracy" and any(key in each for each in found.values()):
            cells = (_interval(each.get(key), unit == "%") for each in found.values())
            words += f" ({unit})" if unit else ""
            rows.append(f"{words:>33}" + "".join(f"{cell:>24}" for cell in cells))
    return rows + (text.calibrated(fitted) if fitted else [])


def _interval(found: dict[str, float | None] | None, percent: bool) -> str:
    if found is None:
        return "-"
    digits, scale = (2, 100) if percent else (3, 1)
    ends = ("value", "low", "high") if found["low"] is not None else ("value",)
    value, *ends = (f"{scale * found[end]:.{digits}f}" for end in ends)
    return f"{value} ({'-'.join(ends)})" if ends else value


def mean_overlap(results: dict[str, Any]) -> float | None:
    """Mean attention overlap of two different members, None where there is only one."""
    return mean_of_pairs(results["attention_overlap"])


def mean_of_pairs(matrix: Sequence[Sequence[float]]) -> float | None:
    """Mean of all that is not on the diagonal, None where nothing is."""
    pairs = [x for i, row in enumerate(matrix) for j, x in enumerate(row) if i != j]
    return statistics.fmean(pairs) if pairs else None
