"""Index files of text and of MATLAB, whose content may be anything: every value is checked."""

import csv
import io
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fgvc_jax.data.files import shown
from fgvc_jax.data.matlab import read_variables
from fgvc_jax.utils import paths
from fgvc_jax.utils.errors import UserError

MAX_ID = np.iinfo(np.int32).max


def line_of(file: Path, line: int) -> str:
    """How messages name a line of a file."""
    return f"{shown(file)} line {line}"


def read_lines(file: Path) -> list[tuple[int, str]]:
    """The lines of an index file that are not blank, stripped, with their numbers from 1."""
    try:
        text = paths.readable(file).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(
            f"index file {shown(file)} does not exist: give the folder that holds the dataset"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read index file {shown(file)}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"index file {shown(file)} is not UTF-8 text: unpack it again") from error
    stripped = ((number, line.strip()) for number, line in enumerate(text.split("\n"), start=1))
    return [(number, line) for number, line in stripped if line]


def csv_text(file: Path, what: str) -> str:
    """The text of a CSV file, which messages call `what` it is."""
    try:
        text = paths.readable(file).read_bytes().decode("utf-8-sig")
        if "\0" in text.partition("\n")[0]:  # every other byte, in UTF-16
            raise ValueError
        return text
    except ValueError as error:
        raise UserError(
            f"{what} {shown(file)} is not UTF-8 text: save it as CSV in UTF-8"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {what} {shown(file)}: {error.strerror}") from error


def csv_rows(file: Path, what: str) -> Iterator[tuple[str, list[str]]]:
    """(place, values) of every row of a CSV file that is not blank, the header first.

    Raises:
        UserError: as `csv_text`, and for what is no row.
    """
    reader = csv.reader(io.StringIO(csv_text(file, what), newline=""), strict=True)
    start = 1  # a quoted value may go over several lines
    while True:
        where = line_of(file, start)
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise UserError(f"{where}: {error}: it is not a row of a CSV file") from error
        if values is None:
            return
        start = reader.line_num + 1
        if "".join(values).strip():
            yield where, values


def understood(root: Path, name: str) -> str:
    """The path in a row of a list that lies in the folder `root`, without spaces around it and with
    "/" between folders, where there is no such file."""
    # No look at the disk for a plain name: there are many.
    if (name != name.strip() or "\\" in name) and not os.path.lexists(root / name):
        name = name.strip()
        if not os.path.lexists(root / name):
            name = name.replace("\\", "/")
    return name


def path_inside(file: Path, where: str, name: str) -> str:
    """The path in a row of a list as one below the list's folder, with "/" between folders.

    Spaces around it, backslashes and an absolute path inside the folder are understood where there
    is no such file.

    Raises:
        UserError: for an absolute path that leads elsewhere; `where` is the row, for the message.
    """
    root, asked = file.parent, name
    name = understood(root, name)
    if os.path.isabs(name):
        above = (os.path.join(top, "") for top in (os.path.abspath(root), os.path.realpath(root)))
        top = next((top for top in above if name.startswith(top)), None)
        if top is None:
            raise UserError(
                f"{where}: {asked!r} is an absolute path that is not inside the list's "
                f"folder {shown(root)}: write it relative to that folder, or put the list above "
                "the images"
            )
        name = name.removeprefix(top)
    return "/".join(step for step in name.split("/") if step not in ("", "."))


def check_length(where: str, values: Sequence[str], header: Sequence[str]) -> None:
    """Raise a UserError where a row has not as many values as the header."""
    if len(values) != len(header):
        raise UserError(
            f"{where} has {len(values)} values for {len(header)} columns: quote a value that "
            "holds a comma"
        )


def number_rows(file: Path, count: int) -> Iterator[tuple[int, tuple[float, ...]]]:
    """(image number, the other numbers) of each line of `count` numbers."""
    for number, line in read_lines(file):
        try:
            key, *values = line.split()
            row = int(key), tuple(float(value) for value in values)
            if len(values) != count - 1 or not all(map(math.isfinite, row[1])):
                raise ValueError
        except ValueError:
            raise UserError(
                f"{line_of(file, number)}: {line!r} is not {count} numbers, the image's first"
            ) from None
        yield row


def numbers_by_image(file: Path, count: int) -> dict[int, tuple[float, ...]]:
    """{image number: the other numbers} of a file as of `number_rows`, each image once."""
    rows: dict[int, tuple[float, ...]] = {}
    for key, numbers in number_rows(file, count):
        if rows.setdefault(key, numbers) is not numbers:
            raise UserError(f"{shown(file)} lists image {key} twice: fetch the file again")
    return rows


def whole_number(text: str, where: str) -> int:
    """The number that a text of ASCII digits is."""
    # int() also takes "1_000", " 1 " and digits of other scripts; its length limit is a ValueError.
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise UserError(f"{where}: {text!r} is not a whole number")
    return int(text)


@dataclass(frozen=True)
class IndexRow:
    """The second column of an index line, and the line's number."""

    value: str
    line: int


@dataclass(frozen=True)
class Table:
    """An index file of two columns, by its first."""

    file: Path
    rows: dict[Any, IndexRow]

    def at(self, key: int | str) -> str:
        return line_of(self.file, self.rows[key].line)

    def number(self, key: int | str, low: int, high: int, what: str) -> int:
        """The value at `key` as a number of low..high."""
        value = whole_number(self.rows[key].value, self.at(key))
        if not low <= value <= high:
            raise UserError(f"{self.at(key)}: {what} {value} is outside {low}..{high}")
        return value


def read_table(file: Path, *, integer_keys: bool = True) -> Table:
    """An index file of lines "key value", without duplicate keys; keys are image ids or names."""
    rows: dict[Any, IndexRow] = {}
    for number, line in read_lines(file):
        where = line_of(file, number)
        first, *rest = line.split(maxsplit=1)
        if not rest:
            raise UserError(f"{where}: {line!r} lacks its second column")
        key: int | str = whole_number(first, where) if integer_keys else first
        if isinstance(key, int) and key > MAX_ID:
            raise UserError(f"{where}: id {key} is above {MAX_ID}")
        if key in rows:
            raise UserError(f"{where}: {key!r} is already on line {rows[key].line}")
        rows[key] = IndexRow(rest[0], number)
    if not rows:
        raise UserError(f"index file {shown(file)} is empty: unpack it again")
    return Table(file, rows)


def read_class_table(file: Path) -> list[str]:
    """Class names in the order of their numbers, which must be 1..K."""
    table = read_table(file)
    for number in table.rows:
        if not 1 <= number <= len(table.rows):
            raise UserError(
                f"{table.at(number)}: class {number} is outside 1..{len(table.rows)}, the number "
                "of lines"
            )
    return [table.rows[number].value for number in sorted(table.rows)]


def check_same_ids(images: Table, table: Table) -> None:
    """Raise a UserError where one of two tables has an image that the other lacks."""
    for one, other in ((images, table), (table, images)):
        for image_id in one.rows:
            if image_id not in other.rows:
                raise UserError(
                    f"{one.at(image_id)}: image {image_id} is not in {shown(other.file)}"
                )


# MATLAB files.


def read_matlab(file: Path, *names: str) -> list[list[Any]]:
    """The cell or struct arrays of a .mat file that are called `names`."""
    try:
        variables = read_variables(paths.readable(file), names)
    except FileNotFoundError as error:
        raise UserError(
            f"annotation file {shown(file)} does not exist: it is part of the dataset"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {shown(file)}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(
            f"{shown(file)} is not a readable MATLAB file ({error}): fetch it again"
        ) from error
    for name in names:
        if not isinstance(variables.get(name), list):
            raise UserError(f"{shown(file)} has no list {name!r}: it is not the dataset's file")
    return [variables[name] for name in names]


def matlab_classes(file: Path, values: Sequence[Any]) -> list[str]:
    """Class names, none of which is empty, with single spaces."""
    for number, value in enumerate(values, start=1):
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{shown(file)} class {number} has no name: fetch the file again")
    return [" ".join(value.split()) for value in values]


class Annotation:
    """One row of `annotations`, trusted in nothing."""

    def __init__(self, file: Path, number: int, fields: object):
        self.where = f"{shown(file)} annotation {number}"
        self.fields = fields if isinstance(fields, dict) else {}

    def text(self, name: str) -> str:
        value = self._field(name)
        if not isinstance(value, str):
            raise UserError(f"{self.where}: field {name!r} is not text: fetch the file again")
        return value

    def number(self, name: str, low: int, high: int) -> int:
        value = self._field(name)
        if not isinstance(value, int | float) or not float(value).is_integer():
            raise UserError(f"{self.where}: field {name!r} is not one whole number")
        number = int(value)
        if not low <= number <= high:
            raise UserError(f"{self.where}: {name} {number} is outside {low}..{high}")
        return number

    def _field(self, name: str) -> object:
        if name not in self.fields:
            raise UserError(
                f"{self.where} has no field {name!r}: it is another file than the dataset's "
                "(the test part's labels are in cars_test_annos_withlabels.mat)"
            )
        return self.fields[name]


def annotation_rows(file: Path, values: Sequence[Any]) -> Iterator[Annotation]:
    return (Annotation(file, number, fields) for number, fields in enumerate(values, start=1))
