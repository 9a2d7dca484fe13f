"""From numbers to pages: Markdown tables of a study, and what a reader must know beside them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fgvc_jax import config
from fgvc_jax.config import Experiment
from fgvc_jax.config import Network as NetworkOptions
from fgvc_jax.evaluation.statistics import CONFIDENCE, Key
from fgvc_jax.study.definition import Study
from fgvc_jax.utils.text import counted, markdown_table

# Beginnings of the names of metrics that are no fractions.
NO_PERCENTAGES = "overlap", "nll", "brier", "ambiguity"
LEVEL = f"{CONFIDENCE:.0%}".replace("%", " %")


def cell_text(value: float | Sequence[float] | None, *, metric: str, sign: str = "") -> str:
    """A value, or both ends of an interval, as tables show them; "-" for None.

    Args:
        value: of a metric, or of a difference.
        metric: its name: overlaps stay as they are, accuracies are shown in percent.
        sign: "+" shows the sign of positive values, too.
    """
    if value is None:
        return "-"
    if isinstance(value, Sequence):
        return " to ".join(cell_text(end, metric=metric, sign=sign) for end in value)
    scale, digits = (1, 3) if metric.startswith(NO_PERCENTAGES) else (100, 2)
    return f"{scale * value:{sign}.{digits}f}"


def written_p(p: float | None) -> str:
    """A p-value as tables show it."""
    return "-" if p is None else f"{p:.3f}" if p >= 0.001 else "< 0.001"


def shown_metrics(
    summary: Mapping[str, Any], metrics: Sequence[str], members: Mapping[str, int]
) -> list[str]:
    """The metrics of a table: those asked for, then overlap and heads where there are several.

    Where rows have different numbers of members, the overlap is that of the members that all
    ensembles have.
    """
    several = sorted({number for number in members.values() if number > 1})
    overlap = "overlap" if len(several) == 1 else f"overlap_{min(several, default=0)}"
    heads = [name for name in summary if name.startswith("head_")]
    extra = [overlap, *(heads if len(heads) > 1 else [])]
    return [name for name in dict.fromkeys([*metrics, *extra]) if name in summary]


def variants_table(summary: Mapping[str, Any], metrics: Sequence[str], *, first: str) -> str:
    """The comparison as a Markdown table; accuracies in percent, their differences in points."""
    interval = f"{LEVEL} interval"
    header = "metric", "row", "n", "mean", "sd", interval, f"minus {first}", "pairs", interval, "p"
    nothing = {"n": None, "mean": None, "interval": None, "p": None}
    rows = []
    for metric in metrics:
        for row, cell in summary[metric].items():
            difference = cell["difference"] or nothing
            mean, sd, span = (cell_text(cell[k], metric=metric) for k in ("mean", "sd", "interval"))
            gain, width = (
                cell_text(difference[key], metric=metric, sign="+") for key in ("mean", "interval")
            )
            pairs, p = str(difference["n"] or "-"), written_p(difference["p"])
            rows.append([metric, row, str(cell["n"]), mean, sd, span, gain, pairs, width, p])
    return markdown_table(header, rows, labels=2)


READING = (
    "Test accuracies at the end of training, in percent. n counts a row's runs, pairs the seeds "
    "that it has in common with the first row. Intervals are Student's, over seeds; differences "
    "are paired by seed; p is that of the two-sided paired t-test, not corrected for the number "
    "of comparisons. Where all values are equal, or there is only one, nothing is said of their "
    "spread. Metrics of all members are compared between rows of equally many; ensemble_2 and "
    "overlap_2 are of the first two members of any row."
)


def runs_in_words(keys: Iterable[Key]) -> str:
    """Runs in words: "none: seeds 0 1; kt: seeds 1"."""
    seeds: dict[str, list[str]] = {}
    for row, seed in keys:
        seeds.setdefault(row, []).append(str(seed))
    return "; ".join(f"{row}: seeds {' '.join(numbers)}" for row, numbers in seeds.items())


def left(runs: Iterable[Key], finished: Iterable[Key]) -> str:
    """One line: how many runs are not finished, and which."""
    runs, finished = list(runs), set(finished)
    missing = [key for key in runs if key not in finished]
    if not missing:
        return f"all {len(runs)} runs are finished"
    return f"left: {len(missing)} of {len(runs)} runs ({runs_in_words(missing)})"


def environment_warnings(environments: Mapping[Key, Mapping[str, Any]]) -> list[str]:
    """A warning for the dtype, and one for the device, in which finished runs differ.

    Args:
        environments: of results.json; its "others" are those of members that had another.
    """
    warnings = []
    for name, words in (("dtype", "dtype"), ("devices", "device")):
        groups: dict[str, list[Key]] = {}
        for key, environment in environments.items():
            every = [environment, *environment.get("others", ())]
            for value in dict.fromkeys(_condition(one, name) for one in every):
                groups.setdefault(value, []).append(key)
        if len(groups) > 1:
            which = "; ".join(f"{value} ({runs_in_words(keys)})" for value, keys in groups.items())
            warnings.append(f"warning: the runs differ in {words}: {which}")
    return warnings


def _word(value: object) -> str:
    """The value of a field of an experiment; networks by their names."""
    if isinstance(value, (list, tuple)):
        return f"({', '.join(map(_word, value))})"
    return value.name if isinstance(value, NetworkOptions) else repr(value)


def _condition(environment: Mapping[str, Any], name: str) -> str:
    value = environment.get(name, "unknown")
    return value if isinstance(value, str) else ", ".join(sorted(set(value)))


def study_page(
    study: Study,
    summary: Mapping[str, Any],
    *,
    name: str,
    metrics: Sequence[str],
    notes: Sequence[str] = (),
) -> str:
    """A Markdown page: what was compared, the table, how to read it, what is not in it.

    Args:
        study: what is compared.
        summary: of `statistics.summarize`.
        name: the page's title.
        metrics: those asked for, see `shown_metrics`.
        notes: sentences on runs that are missing, failed, or ran otherwise than others.
    """
    base = "".join(f"- {changed}\n" for changed in config.differences(Experiment(), study.base))
    members = {
        row: changes.get("members", study.base.members) for row, changes in study.rows.items()
    }
    rows = "".join(
        f"- {row}, {counted(members[row], 'member')}: "
        f"{', '.join(f'{k} = {_word(v)}' for k, v in changes.items()) or 'the base itself'}\n"
        for row, changes in study.rows.items()
    )
    listed = variants_table(
        summary, shown_metrics(summary, metrics, members), first=next(iter(members))
    )
    told = "".join(f"- {note}\n" for note in notes)
    return (
        f"# {name}\n\nBase, where it differs from the default experiment:\n{base or '- nowhere'}\n"
        f"Rows:\n{rows}\n{listed}\n\n{READING}\n" + (f"\nNotes:\n{told}" if told else "")
    )
