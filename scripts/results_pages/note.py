"""docs/note.md: the numbers between its markers are written from the ledger."""

import re
from collections.abc import Mapping, Sequence

from fgvc_jax.utils.errors import UserError
from results_pages import figures
from results_pages.figures import Pair

MARKED = re.compile(r"<!--([\w.-]+):(\S+?)-->(.*?)<!--/-->", re.S)
OPEN = "open"  # what no line tells yet


def filled(text: str, studies: Mapping[str, Sequence[Pair]]) -> str:
    """The note with each difference that it names by `<!--STUDY:ROW-->...<!--/-->`.

    Raises:
        UserError: for a row that its study does not have.
    """

    def found(match: re.Match[str]) -> str:
        name, row, _ = match.groups()
        return f"<!--{name}:{row}-->{_said(name, row, studies.get(name, ()))}<!--/-->"

    return MARKED.sub(found, text)


def _said(name: str, row: str, pairs: Sequence[Pair]) -> str:
    if any(plan.study and row not in plan.study.rows for _, plan in pairs):
        raise UserError(f"the note names {name}:{row}, and that study has no such row")
    return figures.found(pairs, row) or OPEN
