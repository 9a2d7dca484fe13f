"""Makes scripts/studies/RESULTS.md and RESULTS.csv of the ledger, scripts/studies/results/*.jsonl.

    python scripts/ledger.py             writes both
    python scripts/ledger.py --check     only says whether they are what the ledger says
    python scripts/ledger.py --tidy      also leaves every run its newest line only

No number in them is typed. To add a run of your own:

    python scripts/study.py scripts/studies/effect.py --base.data.source cub:PATH \
        --base.network.weights FILE --ledger scripts/studies/results/effect.jsonl
    python scripts/ledger.py             then commit scripts/studies

Two ledgers are merged by `cat`.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comparison import (
    CHANGED,
    Comparison,
    Plan,
    changes,
    commits,
    comparisons,
    deviations,
    held_to,
    plan_of,
)

from fgvc_jax.commands import start
from fgvc_jax.config import Experiment
from fgvc_jax.evaluation import statistics
from fgvc_jax.study import Study, bits, ledger, pages
from fgvc_jax.utils import command_line
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import markdown_table, printable
from fgvc_jax.workdir import storage

STUDIES = Path(__file__).parent / "studies"

HEAD = """# Results

Made of the ledger, `results/*.jsonl`, by `scripts/ledger.py`: every number comes from a kept line.
Test accuracies of the last epoch, on all test images, in percent. Differences are to the first
row, paired by seed. The first interval is for new trainings on these test images (Student's, over
seeds) and decides; the second for new images of the same kind as well (seeds and images crossed).
Both are of 95 %, not corrected for the number of comparisons; `scripts/coverage.py` simulates what
they cover. "Rescued" are images that an ensemble has right and its first member wrong, "spoiled"
the other way round: their difference is what the others add to the first. "Any" has one member
right at least, which is what their diversity could give; "ambiguity" is the members' mean Brier
score less that of their mean prediction; "overlap_high" is of high responses alone. "Would find" is
the true difference that so many pairs of such spread find in four of five studies. Lines that did
not keep to the plan
(PLAN.md) are in rows of their own, "(not planned)", and have no verdict. A verdict is the plan's:
*shown* where the deciding interval lies above 0, *absent* where it lies below the published gain,
*smaller* for both, *undecided* for neither.

To add a run of your own, two lines, then a commit of this folder:

    python scripts/study.py scripts/studies/effect.py --base.data.source cub:PATH \\
        --base.network.weights FILE --ledger scripts/studies/results/effect.jsonl
    python scripts/ledger.py
"""
DECIDING = "ensemble"  # the metric that verdicts are about


@dataclass(frozen=True)
class Pages:
    """Make the pages of the ledger."""

    folder: str = str(STUDIES)
    """Where the studies, results/ and the pages are."""
    check: bool = False
    """Write nothing; fail where a page is not what the ledger says."""
    tidy: bool = False
    """Rewrite every file of the ledger with the newest line of each run."""


def main(arguments: list[str]) -> None:
    options = command_line.command_line(
        Pages, arguments, program="python scripts/ledger.py", default=Pages()
    )
    folder = Path(options.folder)
    if not folder.is_dir():
        raise UserError(f"--folder {str(folder)!r} does not exist")
    files = sorted((folder / "results").glob("*.jsonl"))
    if options.tidy:
        for file in files:
            ledger.rewrite(file)
    lines = ledger.read(*files)
    found = comparisons(lines)
    for names in {line["right"]["names"] for line in lines if line["right"]}:
        bits.load_names(folder / "results", names)
    pairs = [(one, plan_of(folder, one)) for one in found]
    pairs = [(held_to(plan.study, one) if plan.study else one, plan) for one, plan in pairs]
    pairs.sort(key=lambda pair: (pair[0].study, bool(pair[1].moved)))  # its own base first
    table = table_of_all(one for one, _ in pairs)
    for name, text in (("RESULTS.md", page(pairs)), ("RESULTS.csv", table)):
        path = folder / name
        if not options.check:
            storage.write_text(path, text)
        elif not path.exists() or path.read_text() != text:
            raise UserError(f"{str(path)!r} is not what the ledger says: run scripts/ledger.py")
    print(f"{len(found)} studies: {folder / 'RESULTS.md'}, {folder / 'RESULTS.csv'}")


# -- the page ------------------------------------------------------------------------------------


def page(pairs: Sequence[tuple[Comparison, Plan]]) -> str:
    """RESULTS.md."""
    sections = [section(one, plan) for one, plan in pairs]
    verdicts = [line for one, plan in pairs for line in conclusions(one, plan)]
    told = (
        "".join(f"- {line}\n" for line in verdicts) or "No line of a planned study is there yet.\n"
    )
    return "\n".join([HEAD, f"## Verdicts\n\n{told}", *sections])


def conclusions(one: Comparison, plan: Plan) -> list[str]:
    """A sentence for every row of a study that looks for a published gain."""
    study, lines = plan.study, []
    base = ", ".join(plan.moved) if len(plan.moved) <= 3 else f"base {one.base}"
    name = f"{one.study} ({base})" if base else one.study
    for row, cell in one.summary().get(DECIDING, {}).items():
        difference = cell["difference"]
        if study and study.gain and difference and row in study.rows:
            of = "" if difference["n"] >= study.seeds else f" of {study.seeds} planned"
            gain, ends = (
                pages.written(difference[key], metric=DECIDING, sign="+")
                for key in ("mean", "interval")
            )
            lines.append(
                f"{name}, {row} minus {one.first}: "
                f"**{statistics.verdict(difference['interval'], study.gain)}**: {gain} points "
                f"({ends}; {pages.count(difference['n'], 'pair')}{of}), published "
                f"{pages.written(study.gain, metric=DECIDING, sign='+')}"
            )
    return lines


def section(one: Comparison, plan: Plan) -> str:
    """A study on one base: what was asked, how it was run, the table, what is not in it."""
    parts, study = [f"## {one.study} ({one.base})\n"], plan.study
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
    return "\n".join([*parts, *(f"- {note}" for note in notes), ""])


def protocol(one: Comparison, study: Study | None) -> str:
    """What was trained on what, and in which fields that departs from the published recipe."""
    example = one.examples.get(one.first) or next(iter(one.examples.values()))
    fields, results = ledger.flat(example["config"]), example["results"]
    images = results["images"]
    recipe = (study and study.recipe) or Experiment()
    against = "the published recipe" if study and study.recipe else "the default experiment"
    changed = deviations(example["config"], ledger.portable(recipe))
    rows = [
        f"- {row}, {pages.count(one.members[row], 'member')}: "
        + (", ".join(changes(line, example)) or "see above")
        for row, line in one.examples.items()
    ]
    made_by = [
        re.sub(r"^(\w{12})\w*", r"\1", each) for each in commits(line for _, line in one.lines())
    ]
    # A member that several runs share has the same seconds in all of them.
    trained = {seconds for _, line in one.lines() for seconds in line["seconds"]["members"]}
    hours = sum(trained) / 3600
    return "\n".join(
        [
            f"{fields['data.source']}: {results['classes']} classes, {images['train']} training "
            f"and {images['test']} test images; {of_networks(example, 'name')}, "
            f"weights {of_networks(example, 'weights') or 'none'}. Against {against}:",
            *(f"- {text}" for text in changed),
            "\nRows, against the first:",
            *rows,
            f"\n{hours:.1f} hours of training, commits {', '.join(made_by)}.\n",
        ]
    )


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
    for metric in [*pages.shown(summary, asked, one.members), *others]:
        for row, cell in summary[metric].items():
            mean, sd = (pages.written(cell[k], metric=metric) for k in ("mean", "sd"))
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
    gain, these, new = (pages.written(value, metric=metric, sign="+") for value in found)
    n, sd = difference["n"], difference["sd"]
    would_find = pages.written(statistics.detectable(sd, n) if sd else None, metric=metric)
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
                pages.written(difference[key], metric=metric, sign="+")
                for key in ("mean", "interval")
            )
            pairs = pages.count(difference["n"], "pair")
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
    notes = [f"{kept} of {pages.count(len(one.finished), 'run')} kept to the plan"]
    notes += [f"not as planned ({why}): {pages.grouped(keys)}" for why, keys in one.strayed.items()]
    if missing:
        notes.append(f"planned and not there: {pages.grouped(missing)}")
    return notes


# -- for others ----------------------------------------------------------------------------------

COLUMNS = (
    *("method", "backbone", "weights", "dataset", "classes", "resolution", "epochs", "batch_size"),
    *("learning_rate", "members", "seeds", "top1", "top1_sd", "top1_single", "top1_best_on_test"),
    *("study", "row", "dtype", "devices", "commit"),
)


def table_of_all(found: Iterable[Comparison]) -> str:
    """RESULTS.csv: a line for every row of every study; accuracies in percent, means over seeds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in found:
        summary = one.summary()
        for row, lines in one.rows.items():
            writer.writerow(csv_line(one, row, list(lines.values()), summary))
    return text.getvalue()


def csv_line(
    one: Comparison, row: str, lines: list[ledger.Line], summary: dict[str, Any]
) -> list[Any]:
    """The line of a row, see COLUMNS."""
    fields = ledger.flat(lines[0]["config"])
    method = fields["objective"]
    if fields["transfer.name"] != "none":
        method += f" + {fields['transfer.name']}"
    best = [m["best_on_test"] for line in lines for m in line["results"]["members"]]
    ensemble, single = (summary[metric][row] for metric in ("ensemble", "single"))
    described = [ensemble["mean"], ensemble["sd"], single["mean"], sum(best) / len(best)]
    environments = [line["environment"] for line in lines]
    devices = {device for one in environments for device in one.get("devices", ())}
    return [
        method,
        *(of_networks(lines[0], name) for name in ("name", "weights")),
        fields["data.source"],
        lines[0]["results"]["classes"],
        *(fields[name] for name in ("data.crop", "epochs", "batch_size")),
        *(fields["optimizer.learning_rate"], fields["members"], len(lines)),
        *("" if value is None else f"{100 * value:.2f}" for value in described),
        *(one.study, row, ", ".join(sorted({one.get("dtype", "") for one in environments}))),
        ", ".join(sorted(devices)),
        ", ".join(commits(lines)),
    ]


if __name__ == "__main__":
    start.run(main)
