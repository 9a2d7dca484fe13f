"""The page of a study: on every base what was asked, how it was run, tables, what is missing."""

import re
import statistics as statistics_of
from collections.abc import Sequence
from typing import Any

from comparison import CHANGED, Comparison, Plan, changes, commits, deviations

from fgvc_jax.config import Experiment
from fgvc_jax.evaluation import statistics
from fgvc_jax.study import Study, ledger, pages
from fgvc_jax.utils.text import counted, markdown_table, printable
from results_pages.figures import DECIDING, Pair

HEAD = """Made of the ledger by `scripts/ledger.py`: test accuracies of the last epoch, on all test
images, in percent, and differences to the first row, paired by seed. What columns and rows mean is
[below the tables](#how-the-tables-are-read).
"""
LEGEND = """## How the tables are read

- *On these images* is the interval for new trainings on these test images (Student's, over seeds):
  it decides. *On new images* is that for new images of the same kind as well (seeds and images
  crossed). Both are of 95 %, not corrected for the number of comparisons; `scripts/coverage.py`
  simulates what they cover.
- *Would find* is the true difference that so many pairs of such spread find in four of five
  studies.
- *rescued* are images that an ensemble has right and its first member wrong, *spoiled* the other
  way round: their difference is what the others add to the first. *any* has one member right at
  least, which is what their diversity could give.
- *ambiguity* is the members' mean Brier score less that of their mean prediction; *overlap_high* is
  the overlap of high responses alone.
- Lines that did not keep to [the plan](../PLAN.md) are in rows of their own, "(not planned)", and
  have no verdict.
"""


def page(name: str, pairs: Sequence[Pair]) -> str:
    """The page of a study, on all its bases."""
    sections = [section(one, plan) for one, plan in pairs]
    return "\n".join([f"# {name}\n", HEAD, *sections, LEGEND])


def hours(one: Comparison) -> float:
    """What its runs took to train. A member that several share has the same seconds in all."""
    trained = {seconds for _, line in one.lines() for seconds in line["seconds"]["members"]}
    return sum(trained) / 3600


def seconds(one: Comparison, row: str) -> float:
    """What a run of a row took to train, the median."""
    runs = one.rows[row].values()
    return statistics_of.median(sum(filter(None, run["seconds"]["members"])) for run in runs)


def section(one: Comparison, plan: Plan) -> str:
    """A study on one base: what was asked, how it was run, the table, what is not in it."""
    parts, study = [f"## Base {one.base}\n"], plan.study
    if study:
        parts.append(f"{study.question}\n")
    if plan.moved:
        parts.append(f"On another base than the study's own: {', '.join(plan.moved)}.\n")
    if one.rows:
        parts += [protocol(one, study), numbers(one, study) + "\n"]
    notes = [
        *beside(one, study),
        *planned(one, study),
        *(
            f"{line['status']}: {row}, seed {line['config']['seed']}: {printable(line['reason'])}"
            for row, line in one.unfinished
        ),
        *one.warnings(),
    ]
    parts += [*(f"- {note}" for note in notes), ""]
    return "\n".join(parts + ([departures(one, study)] if one.rows else []))


def protocol(one: Comparison, study: Study | None) -> str:
    """What was trained on what, and in what the rows differ."""
    example = _example(one)
    fields, results = ledger.flat(example["config"]), example["results"]
    images = results["images"]
    rows = [
        f"- {row}, {counted(one.members[row], 'member')}: "
        + (", ".join(changes(line, example)) or "the set-up below")
        + f"; {seconds(one, row):,.0f} s of training (median)"
        for row, line in one.examples.items()
    ]
    made_by = [
        re.sub(r"^(\w{12})\w*", r"\1", each) for each in commits(line for _, line in one.lines())
    ]
    return "\n".join(
        [
            f"{fields['data.source']}: {results['classes']} classes, {images['train']} training "
            f"and {images['test']} test images; {of_networks(example, 'name')}, "
            f"weights {of_networks(example, 'weights') or 'none'}. Rows, against the first:\n",
            *rows,
            f"\n{hours(one):.1f} hours of training, commits {', '.join(made_by)}.\n",
        ]
    )


def departures(one: Comparison, study: Study | None) -> str:
    """In which fields the set-up of the first row departs from the published recipe."""
    recipe = (study and study.recipe) or Experiment()
    against = "the published recipe" if study and study.recipe else "the default experiment"
    changed = deviations(_example(one)["config"], ledger.portable(recipe))
    return "\n".join([f"The set-up, against {against}:\n", *(f"- {text}" for text in changed), ""])


def _example(one: Comparison) -> ledger.Line:
    """A line of the first row, or of another one where it has none."""
    return one.examples.get(one.first) or next(iter(one.examples.values()))


def of_networks(line: ledger.Line, field: str) -> str:
    """A field of the members' networks, once where it is the same; empty where none has it."""
    networks = line["config"].get("networks") or [line["config"]["network"]]
    values = dict.fromkeys(network[field] for network in networks)
    return ", ".join(value or "none" for value in values) if any(values) else ""


def numbers(one: Comparison, study: Study | None) -> str:
    """The table of a comparison."""
    summary = one.summary()
    asked = study.metrics if study else ("ensemble", "single")
    header = (
        *("metric", "row", "n", "mean", "sd", f"minus {one.first}", "pairs"),
        *("on these images", "on new images", "would find", "verdict"),
    )
    rows = []
    beside = *CHANGED, "nll", *ledger.MORE, "ambiguity", "overlap_high"
    others = [name for name in beside if name in summary]
    for metric in [*pages.shown_metrics(summary, asked, one.members), *others]:
        for row, cell in summary[metric].items():
            mean, sd = (pages.cell_text(cell[k], metric=metric) for k in ("mean", "sd"))
            rows.append(
                [metric, row, str(cell["n"]), mean, sd, *compared(one, study, metric, row, cell)]
            )
    return markdown_table(header, rows, labels=2)


def compared(
    one: Comparison, study: Study | None, metric: str, row: str, cell: dict[str, Any]
) -> list[str]:
    """The cells of a row's difference to the first one."""
    difference = cell["difference"]
    if difference is None:
        return ["-"] * 6
    found = difference["mean"], difference["interval"], one.on_new_images(row, metric)
    gain, these, new = (pages.cell_text(value, metric=metric, sign="+") for value in found)
    n, sd = difference["n"], difference["sd"]
    would_find = pages.cell_text(statistics.detectable(sd, n) if sd else None, metric=metric)
    decided = "-"
    if study and study.gain and metric == DECIDING and row in study.rows:
        decided = statistics.verdict(difference["interval"], study.gain)
    return [gain, str(n), these, new, would_find, decided]


def beside(one: Comparison, study: Study | None) -> list[str]:
    """The differences that the study names beside those to its first row."""
    told = []
    for row, metric, other, its in study.beside if study else ():
        if found := one.difference(row, metric, other, its):
            difference, share = found
            mean, interval = (
                pages.cell_text(difference[key], metric=metric, sign="+")
                for key in ("mean", "interval")
            )
            pairs = counted(difference["n"], "pair")
            text = f"{row} ({metric}) minus {other} ({its}): {mean} ({interval}; {pairs})"
            if share is not None:
                text += f"; of the means {share:.0%} of its gain over {one.first}"
            told.append(text)
    return told


def planned(one: Comparison, study: Study | None) -> list[str]:
    """Which lines kept to the committed plan, why others did not, and what of it is missing."""
    if study is None:
        return ["no plan: the study is not in this folder"]
    missing = [
        (row, seed)
        for row in study.rows
        for seed in range(study.seeds)
        if seed not in one.rows.get(row, ())
    ]
    kept = len(one.finished) - sum(map(len, one.strayed.values()))
    notes = [f"{kept} of {counted(len(one.finished), 'run')} kept to the plan"]
    notes += [
        f"not as planned ({why}): {pages.runs_in_words(keys)}" for why, keys in one.strayed.items()
    ]
    if missing:
        notes.append(f"planned and not there: {pages.runs_in_words(missing)}")
    return notes
