"""Photographs that belong together, as of one burst of a camera trap, by a column of a list."""

import os
from collections.abc import Iterator
from pathlib import Path

from fgvc_jax.data.files import shown
from fgvc_jax.data.inputs import InputFile, spelt
from fgvc_jax.data.names import composed, in_one_form
from fgvc_jax.data.tables import check_length, csv_rows, path_inside, understood
from fgvc_jax.utils.errors import UserError

PATH = "path"


def listed(file: Path, column: str) -> Iterator[InputFile]:
    """The photographs of a CSV file with the columns `path` and `column`, whose text is the event
    of each; one without is an event of its own. Paths are relative to the file's folder; how they
    are written is understood as in a `csv:` source.

    Raises:
        UserError: for a file that cannot be read, has no such columns, or no row.
    """
    for _, path, value in _rows(file, column, "--group"):
        path = spelt(os.path.join(file.parent, understood(file.parent, path)))
        yield InputFile(path, event=value or path)


def list_of(source: str) -> str:
    """The file of a source that is a list with columns; empty for another one."""
    kind, _, file = source.partition(":")
    return file if kind == "csv" else ""


def values(file: Path, column: str) -> dict[str, str]:
    """{path as sources name it: the text of a column} of a CSV file; errors likewise, and for a
    photograph of which two rows say different things, as of two boxes."""
    found: dict[str, str] = {}
    for where, path, value in _rows(file, column, "--by"):
        other = found.setdefault(path_inside(file, where, path), value)
        if other != value:
            raise UserError(
                f"{where}: the {column} of {path!r} is {value!r} here and {other!r} further up: "
                "--by takes a column that says one thing of a photograph"
            )
    return dict(zip(in_one_form(found), found.values(), strict=True))


def has(file: Path, column: str) -> bool:
    """Whether a list has such a column, in small letters or others."""
    _, header = next(csv_rows(file, "list"), ("", []))
    return column.lower() in [name.strip().lower() for name in header]


def _rows(file: Path, column: str, option: str) -> Iterator[tuple[str, str, str]]:
    """(place, path, text of the column) of every row that is not blank; texts that differ in the
    form of accents only are one."""
    header: list[str] = []
    rows = 0
    for where, values in csv_rows(file, "list"):
        if not header:
            header = [value.strip().lower() for value in values]
            for name in (PATH, column):
                count = header.count(name.lower())
                if count != 1:
                    raise UserError(
                        f"{where}: the header {','.join(values)[:80]!r} has {count} columns "
                        f"{name!r}: {option} takes a list with one, and one {PATH!r}"
                    )
            continue
        check_length(where, values, header)
        row = dict(zip(header, values, strict=True))
        if not row[PATH].strip():
            raise UserError(f"{where} has no {PATH}")
        rows += 1
        yield where, row[PATH], composed(row[column.lower()].strip())
    if not rows:
        raise UserError(f"{shown(file)} has no row below its header: list a photograph a line")
