"""How many seeds does a study need? From the lines of a pilot in the ledger.

    python scripts/power.py --study effect --half-width 0.5
    python scripts/power.py --study effect --half-width 0.5 --ledger runs/pilot/ledger.jsonl

prints, for every row against the first one, how much the paired difference varied over the pilot's
seeds, how many seeds give an interval of that half-width, and which true difference they would
find in four of five studies. A pilot of few seeds knows the deviation badly: "cautious" is the
number for the largest deviation that it leaves possible with a confidence of 80 %. Of a study in
scripts/studies only the lines that kept to its plan count, as in RESULTS.md.
"""

import difflib
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from comparison import Comparison, comparisons, held_to, plan_of

from fgvc_jax.commands import start
from fgvc_jax.evaluation import statistics
from fgvc_jax.study import ledger
from fgvc_jax.utils import command_line
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import distinct, markdown_table

LEDGER = Path(__file__).parent / "studies/results"
READING = (
    "{metric}, of each row minus the first one, in points. sd: how much that differs from seed to "
    "seed, in as many pairs. seeds: so many give a 95 % interval of {width:g} to each side; "
    "cautious: the same for the largest sd that the pilot leaves possible (80 %), which few pairs "
    "hardly bound. they find: a true difference as large as this shows in four of five studies of "
    "so many seeds."
)


@dataclass(frozen=True)
class Power:
    """The number of seeds for an interval asked for."""

    study: str = "effect"
    """Name of the pilot's study."""
    half_width: float = 0.5
    """Of the 95 % interval of the paired difference, in points, at least 0.001."""
    metric: str = "ensemble"
    """What is compared: ensemble, ensemble_2, single_2, ..."""
    ledger: tuple[str, ...] = ()
    """Files with lines; empty: all of scripts/studies/results."""


def main(arguments: list[str]) -> None:
    options = command_line.command_line(
        Power, arguments, program="python scripts/power.py", default=Power()
    )
    if not options.half_width >= 0.001:
        raise UserError("--half-width must be at least 0.001")
    paths = [Path(file) for file in options.ledger] or sorted(LEDGER.glob("*.jsonl"))
    for path in paths:
        if not path.is_file():
            raise UserError(f"ledger {str(path)!r} does not exist")
    every = comparisons(ledger.read(*paths))
    found = [c for c in every if c.study == options.study]
    if not found:
        raise UserError(unknown(options, sorted({one.study for one in every})))
    plans = [plan_of(LEDGER.parent, one).study for one in found]
    found = [held_to(plan, one) if plan else one for one, plan in zip(found, plans, strict=True)]
    lines = [row for one in found for row in needed(one, options.metric, options.half_width)]
    if not lines:
        raise UserError(too_few(found, options))
    header = "base", "minus", "row", "pairs", "sd", "seeds", "cautious", "they find"
    print(markdown_table(header, lines, labels=3))
    about = READING.format(metric=options.metric, width=options.half_width)
    print("\n" + textwrap.fill(about, 100))


def needed(comparison: Comparison, metric: str, half_width: float) -> list[list[str]]:
    """A line of the table for every row that differs from the first one; in points."""
    lines = []
    for row, cell in comparison.summary().get(metric, {}).items():
        difference = cell["difference"]
        if not difference or not difference["sd"]:
            continue
        sd, n = 100 * difference["sd"], difference["n"]
        seeds = statistics.seeds_needed(sd, half_width)
        cautious = statistics.seeds_needed(statistics.largest_deviation(sd, n), half_width)
        lines.append(
            [
                *(comparison.base, comparison.first, row, str(n), f"{sd:.2f}"),
                *(str(seeds), str(cautious), f"{statistics.detectable(sd, seeds):.2f}"),
            ]
        )
    return lines


def unknown(options: Power, studies: Sequence[str]) -> str:
    """That no ledger that was read has a line of the study, and the way out."""
    where = distinct(options.ledger) or "scripts/studies/results"
    near = difflib.get_close_matches(options.study, studies, n=1)
    known = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(studies) or 'none'}."
    instead = "" if options.ledger else "; of one's own pilot add --ledger WORKDIR/ledger.jsonl"
    return f"{where} has no study {options.study!r}: {known.rstrip('.')}{instead}"


def too_few(found: Sequence[Comparison], options: Power) -> str:
    """Why a pilot says nothing of how much differences vary, and the way out."""
    summaries = [one.summary() for one in found]
    metrics = sorted({name for summary in summaries for name in summary})
    if metrics and options.metric not in metrics:
        near = difflib.get_close_matches(options.metric, metrics, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(metrics)}"
        return f"study {options.study!r} has no metric {options.metric!r}: {hint}"
    pairs = max(
        (cell["difference"]["n"] for summary in summaries
         for cell in summary.get(options.metric, {}).values() if cell["difference"]),
        default=0,
    )  # fmt: skip
    if pairs > 1:
        return (
            f"study {options.study!r}: {options.metric} differs by the same in all {pairs} seeds, "
            "which does not tell how much it varies: train more, by --seeds of scripts/study.py"
        )
    seeds = "; ".join(
        f"{row}: {distinct(map(str, lines)) or 'none'}"
        for one in found for row, lines in one.rows.items()
    )  # fmt: skip
    return (
        f"study {options.study!r} needs two seeds that its first row and another have finished "
        f"(now {seeds or 'none'}): python scripts/study.py FILE --seeds 2 trains what is missing"
    )


if __name__ == "__main__":
    start.run(main)
