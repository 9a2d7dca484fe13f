"""Photographs that belong together, as of one burst of a camera trap, by a column of a list."""

import csv
import io
import os
import posixpath
from collections.abc import Iterator
from pathlib import Path

from fgvc_jax.data.files import shown
from fgvc_jax.data.inputs import Found
from fgvc_jax.data.tables import csv_text, line_of
from fgvc_jax.utils.errors import UserError

PATH = "path"


def listed(file: Path, column: str) -> Iterator[Found]:
    """The photographs of a CSV file with the columns `path` and `column`, whose text is the event
    of each; one without is an event of its own. Paths are relative to the file's folder.

    Raises:
        UserError: for a file that cannot be read, has no such columns, or no row.
    """
    for path, value in _rows(file, column, "--group"):
        path = os.path.join(file.parent, path)
        yield Found(path, event=value or path)


def values(file: Path, column: str) -> dict[str, str]:
    """{path as sources name it: the text of a column} of a CSV file; errors likewise."""
    found = _rows(file, column, "--by")
    return {posixpath.normpath(path.strip().replace("\\", "/")): value for path, value in found}


def has(file: Path, column: str) -> bool:
    """Whether a list has such a column."""
    rows = csv.reader(io.StringIO(csv_text(file, "list"), newline=""))
    header: list[str] = next((row for row in rows if "".join(row).strip()), [])
    return column in [name.strip() for name in header]


def _rows(file: Path, column: str, option: str) -> Iterator[tuple[str, str]]:
    """(path, text of the column) of every row that is not blank."""
    reader = csv.reader(io.StringIO(csv_text(file, "list"), newline=""), strict=True)
    header: list[str] = []
    count, start = 0, 1
    while True:
        where = line_of(file, start)
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise UserError(f"{where}: {error}: it is not a row of a CSV file") from error
        if values is None:
            break
        start = reader.line_num + 1
        if not "".join(values).strip():
            continue
        if not header:
            header = [value.strip() for value in values]
            for name in (PATH, column):
                if header.count(name) != 1:
                    raise UserError(
                        f"{where}: the header {','.join(values)[:80]!r} has {header.count(name)} "
                        f"columns {name!r}: {option} takes a list with one, and one {PATH!r}"
                    )
            continue
        if len(values) != len(header):
            raise UserError(
                f"{where} has {len(values)} values for {len(header)} columns: quote a value that "
                "holds a comma"
            )
        row = dict(zip(header, values, strict=True))
        if not row[PATH].strip():
            raise UserError(f"{where} has no {PATH}")
        count += 1
        yield row[PATH], row[column].strip()
    if not count:
        raise UserError(f"{shown(file)} has no row below its header: list a photograph a line")
