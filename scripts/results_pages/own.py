"""What the study `own` says of more members: in the README, in the guide to one's own photographs,
and, its first sentences, in the last line of training (fgvc_jax/training/measured.py)."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from comparison import Comparison

from fgvc_jax.utils.text import counted
from results_pages.figures import DECIDING, Pair

STUDY = "own"
SET_ASIDE = "one_set_aside"
MARKED = re.compile(r"<!--more members-->(.*?)<!--/-->", re.S)
# Rows of more networks than one, in words: by what they are asked for.
ROWS = {
    "independent": "two (`--members 2`)",
    "kt": "two under KT's loss (`--transfer.name orthogonal`)",
    "student_of_kt": "a student of these (`--objective kd`)",
}
MODULE = '''"""What more members bring for one's own photographs, as it was measured.

Written by scripts/ledger.py, of the study `own`; a test holds that it says what the ledger does.
"""

MORE_MEMBERS = {}
'''


def more_members(studies: Mapping[str, Sequence[Pair]]) -> str:
    """What more networks than one bring, and what to do; empty where nothing was measured."""
    found = _found(studies)
    told = {row: [one for one in found if _told(one, row)] for row in ROWS}
    parts = [f"{ROWS[row]} {_gains(having, row, 'one')}" for row, having in told.items() if having]
    if not parts:
        return ""
    pays = any(_pays(one, row) for row, having in told.items() for one in having)
    advice = "more may be worth their time" if pays else "start with one"
    return f"{_where(found)}, instead of one network: {'; '.join(parts)}. So {advice}."


def sentence(studies: Mapping[str, Sequence[Pair]]) -> str:
    """The same, and what one network that is trained by steps brings, for a page."""
    found = _found(studies)
    if not found:
        return ""
    gained = _gains(found, "linear", "one", -1)
    steps = f"Trained by steps, one network has {gained} over the solved head"
    if apart := [one for one in found if _told(one, "linear", SET_ASIDE)]:
        steps += (
            "; with a tenth of the photographs set aside to calibrate it, as it is by "
            f"`--objective ce`, {_gains(apart, 'linear', SET_ASIDE, -1)}"
        )
    more = more_members(studies)
    return f"{more} {steps}." if more else f"{_where(found)}: {steps[0].lower()}{steps[1:]}."


def _found(studies: Mapping[str, Sequence[Pair]]) -> list[Comparison]:
    """The sets of the study on which the solved head was compared, in order."""
    found = [one for one, plan in studies.get(STUDY, ()) if plan.study and _told(one, "linear")]
    return sorted(found, key=lambda one: _example(one)["config"]["data"]["source"])


def _where(found: Sequence[Comparison]) -> str:
    results = [_example(one)["results"] for one in found]
    classes = sorted({each["classes"] for each in results})
    photographs = sorted({round(each["images"]["train"] / each["classes"]) for each in results})
    of_each = f"{_range(photographs)} photographs each"
    return f"Measured on {_range(classes)} species of birds with {of_each}"


def filled(text: str, said: str) -> str:
    """A page with the sentence at its mark."""
    return MARKED.sub(lambda match: f"<!--more members-->{said}<!--/-->", text)


def module(said: str) -> str:
    """The file of the package that has the sentence, formatted."""
    lines = [f'    "{line}"' for line in _lines(said.replace("`", ""))]
    return MODULE.format("\n".join(["(", *lines, ")"]) if said else '""')


def _lines(text: str) -> list[str]:
    """Text in lines that end with a space but for the last."""
    lines = textwrap.wrap(text, 92, break_on_hyphens=False)
    return [f"{line} " for line in lines[:-1]] + lines[-1:]


def _example(one: Comparison) -> Mapping[str, Any]:
    """A line of the first row."""
    return next(iter(one.examples.values()))


def _told(one: Comparison, row: str, other: str = "one") -> bool:
    """Whether a row was compared with another one, with an interval."""
    found = one.difference(row, DECIDING, other, DECIDING)
    return bool(found and found[0]["interval"])


def _pays(one: Comparison, row: str) -> bool:
    """Whether a row is better than one network beyond chance."""
    found = one.difference(row, DECIDING, "one", DECIDING)
    return bool(found and found[0]["interval"][0] > 0)


def _gains(found: Sequence[Comparison], row: str, other: str, sign: int = 1) -> str:
    """Points of a row over another one, or with -1 the other way round: on one set with the
    interval, which the page of the study has for each of several."""
    each = [one.difference(row, DECIDING, other, DECIDING)[0] for one in found]  # type: ignore[index]
    points = [f"{100 * sign * one['mean'] + 0.0:+.2f}" for one in each]
    seeds = counted(min(one["n"] for one in each), "seed")
    if len(each) > 1:
        return f"{', '.join(points)} points ({seeds} each)"
    low, high = sorted(100 * sign * end + 0.0 for end in each[0]["interval"])
    return f"{points[0]} points ({low:+.2f} to {high:+.2f}; {seeds})"


def _range(numbers: Sequence[int]) -> str:
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
