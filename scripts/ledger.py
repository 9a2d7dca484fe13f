"""Makes scripts/studies/RESULTS.md, a page of every study, figures and RESULTS.csv of the ledger,
scripts/studies/results/*.jsonl; and the numbers that other pages have of it.

    python scripts/ledger.py             writes them
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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comparison import Comparison, Plan, commits, comparisons, held_to, plan_of
from results_pages import claims, figures, note, own, study
from results_pages.figures import DECIDING, Pair
from results_pages.study import of_networks

from fgvc_jax.commands import start
from fgvc_jax.evaluation import statistics
from fgvc_jax.study import bits, ledger, pages
from fgvc_jax.utils import command_line
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import counted, markdown_table
from fgvc_jax.workdir import storage

STUDIES = Path(__file__).parent / "studies"
NOTE = STUDIES.parents[1] / "docs/note.md"
CLAIMS = STUDIES.parents[1] / "docs/methods/claims.md"
MEASURED = STUDIES.parents[1] / "fgvc_jax/training/measured.py"
MARKED = [STUDIES.parents[1] / name for name in ("README.md", "docs/guides/photographs.md")]

HEAD = """# Results

What the runs of the ledger say, `results/*.jsonl`; every number comes from a kept line, by
`scripts/ledger.py`. Accuracies are those of the last epoch on all test images; differences are
paired by seed, with 95 % intervals for new trainings. [PLAN.md](PLAN.md) has what was planned
before, and what a verdict is: *shown* where the interval lies above 0, *absent* where it lies below
the published gain, *smaller* for both, *undecided* for neither.
"""
FOREST = """
Every difference in test accuracy that has an interval; a diamond is what was published:

![differences in test accuracy](figures/differences.svg)
"""
DOSES = """
What the weight of KT's orthogonal loss does; 0 are independent networks:

![dose and response](figures/doses.svg)
"""
MORE = """## To add a run

Two lines, then a commit of this folder:

```bash
python scripts/study.py scripts/studies/effect.py --base.data.source cub:PATH \\
    --base.network.weights FILE --ledger scripts/studies/results/effect.jsonl
python scripts/ledger.py
```
"""


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
    made = {folder / name: text for name, text in texts(pairs).items()}
    if options.folder == str(STUDIES):
        made[CLAIMS] = claims.page(by_study(pairs))
        made[NOTE] = note.filled(NOTE.read_text(), by_study(pairs))
        said = own.sentence(by_study(pairs))
        made[MEASURED] = own.module(own.more_members(by_study(pairs)))
        made |= {page: own.filled(page.read_text(), said) for page in MARKED}
    for path, text in made.items():
        if not options.check:
            storage.write_text(path, text)
        elif not path.exists() or path.read_text() != text:
            raise UserError(f"{str(path)!r} is not what the ledger says: run scripts/ledger.py")
    for path in sorted({*folder.glob("pages/*.md"), *folder.glob("figures/*.svg")}):
        if path not in made:
            if options.check:
                raise UserError(f"{str(path)!r} is of no study: run scripts/ledger.py")
            path.unlink()
    print(f"{len(found)} studies: {', '.join(map(str, made))}")


def texts(pairs: Sequence[Pair]) -> dict[str, str]:
    """What is made of comparisons and their plans, by the file's place."""
    studies = by_study(pairs)
    drawn = {
        "figures/differences.svg": figures.forest(pairs),
        "figures/doses.svg": figures.doses(pairs),
    }
    return {
        "RESULTS.md": front(studies, drawn),
        "RESULTS.csv": table_of_all(one for one, _ in pairs),
        **{f"pages/{name}.md": study.page(name, found) for name, found in studies.items()},
        **{name: text for name, text in drawn.items() if text},
    }


def by_study(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """The comparisons of every study; a UserError for a name that is none of a file."""
    studies: dict[str, list[Pair]] = {}
    for one, plan in pairs:
        if not re.fullmatch(r"\w[\w.-]*", one.study):  # whoever wrote the line
            raise UserError(
                f"the ledger has a study {one.study!r}: a name has letters, digits, '_', '-', '.'"
            )
        studies.setdefault(one.study, []).append((one, plan))
    return studies


# -- the front page ------------------------------------------------------------------------------


def front(studies: Mapping[str, Sequence[Pair]], drawn: Mapping[str, str]) -> str:
    """RESULTS.md: questions, verdicts, figures, what it cost."""
    asked = [question(name, found) for name, found in studies.items()]
    told = "\n".join(asked) or "No line of a study is there yet.\n"
    words = (FOREST if "differences" in name else DOSES for name, text in drawn.items() if text)
    return "\n".join([HEAD, f"## Questions\n\n{told}", *words, cost(studies), MORE])


def question(name: str, found: Sequence[Pair]) -> str:
    """A study's question, what is known of it, and where its tables are."""
    asked = next((plan.study.question for _, plan in found if plan.study), "")
    lines = [line for pair in found for line in conclusions(*pair)] or [
        f"{figures.named(*pair)}, {figures.said(each)}"
        for pair in found
        for each in figures.differences(*pair)
    ]
    lines = lines or ["nothing yet: no two rows have two seeds in common"]
    told = "".join(f"- {line}\n" for line in lines)
    return f"{f'**[{name}](pages/{name}.md)**: {asked}'.strip()}\n\n{told}"


def cost(studies: Mapping[str, Sequence[Pair]]) -> str:
    """The hours of training behind the page."""
    rows = []
    for name, found in studies.items():
        runs = sum(len(one.finished) for one, _ in found)
        hours = sum(study.hours(one) for one, _ in found)
        rows.append([name, str(runs), f"{hours:.1f}"])
    table = markdown_table(("study", "runs", "hours of training"), rows, labels=1)
    shared = "Studies share members: a shared one is counted in each.\n"
    return "\n\n".join(["## What it cost", table, shared])


def conclusions(one: Comparison, plan: Plan) -> list[str]:
    """A sentence for every row of a study that looks for a published gain."""
    planned, lines = plan.study, []
    name = figures.named(one, plan)
    for row, cell in one.summary().get(DECIDING, {}).items():
        difference = cell["difference"]
        if planned and planned.gain and difference and row in planned.rows:
            of = "" if difference["n"] >= planned.seeds else f" of {planned.seeds} planned"
            gain = pages.cell_text(difference["mean"], metric=DECIDING, sign="+")
            ends = "no interval yet"
            if difference["interval"]:
                ends = pages.cell_text(difference["interval"], metric=DECIDING, sign="+")
            lines.append(
                f"{name}, {row} minus {one.first}: "
                f"**{statistics.verdict(difference['interval'], planned.gain)}**: {gain} points "
                f"({ends}; {counted(difference['n'], 'pair')}{of}), published "
                f"{pages.cell_text(planned.gain, metric=DECIDING, sign='+')}"
            )
    return lines


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
    # A solved head has no epochs.
    mean_best = None if None in best else sum(best) / len(best)
    described = [ensemble["mean"], ensemble["sd"], single["mean"], mean_best]
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
