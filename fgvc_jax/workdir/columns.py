"""Site and date of a run's test images, kept in its workdir: the list that told them may go.

Any other column of a list is read when it is asked for.
"""

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fgvc_jax.data import grouped
from fgvc_jax.data.names import in_one_form
from fgvc_jax.evaluation import places
from fgvc_jax.utils import paths
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import printable
from fgvc_jax.workdir import storage

FILE = "columns.json"
DATE = "date"  # of which a time of day behind it is left out, or each photograph had its own
KEPT = ("site", DATE)
_CLOCK = re.compile(r"^(\d+([-:/.])\d+\2\d+)[T ]+\d{1,2}:.*$", re.DOTALL)
GROUP = "group"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Column:
    """What a column of a list says of N images, "" where nothing; and the groups, as of one burst,
    that they came in, "" for one of its own."""

    name: str
    values: tuple[str, ...]
    groups: tuple[str, ...]

    def judge(self, names: Sequence[str], right: np.ndarray) -> dict[str, Any]:
        """{"column": its name} and what `places.accuracy_by_place` says of the images of which it
        tells something.

        Args:
            names: of the N images.
            right: (N,) bool.
        """
        rows = [row for row, value in enumerate(self.values) if value]
        where = [self.values[row] for row in rows]
        groups = [self.groups[row] or names[row] for row in rows]
        return {"column": self.name, **places.accuracy_by_place(where, groups, right[rows])}


def read(file: Path, column: str, names: Sequence[str]) -> Column:
    """A column of a list, of images by their names in the dataset that it lists.

    Raises:
        UserError: for a file that cannot be read, without such a column, or with nothing in it of
            any of the images.
    """
    found = _read(file, column, names)
    left = found.values.count("")
    if names and left == len(names):
        raise UserError(
            f"{str(file)!r} says the {column} of none of the test images, as {names[0]!r}"
        )
    if left:
        log.warning(
            "warning: %s: the %s of %d of %d test images is not told: they are left out",
            printable(str(file)),
            column,
            left,
            len(names),
        )
    return found


def _read(file: Path, column: str, names: Sequence[str]) -> Column:
    values = grouped.values(file, column)
    if column.lower() == DATE:
        values = {name: _CLOCK.sub(r"\1", value) for name, value in values.items()}
    groups = grouped.values(file, GROUP) if grouped.has(file, GROUP) else {}
    images = in_one_form(name.partition("#xywh=")[0] for name in names)
    return Column(column, *(tuple(f.get(each, "") for each in images) for f in (values, groups)))


def keep(workdir: Path, source: str, names: Sequence[str]) -> None:
    """Keep site and date of a run's test images, of which these are the names, where its source is
    a list that tells them; one that tells them twice gets a warning."""
    if not grouped.list_of(source):
        return
    file = paths.local(grouped.list_of(source), "list")
    try:
        found = [_read(file, name, names) for name in KEPT if grouped.has(file, name)]
    except UserError as error:
        log.warning("warning: accuracy by site and date will not be told: %s", error)
        return
    if saved := {each.name: each.values for each in found if any(each.values)}:
        saved[GROUP] = found[0].groups
        storage.write_json(workdir / FILE, {"images": list(names), "columns": saved})


def kept(workdir: Path, names: Sequence[str]) -> list[Column]:
    """The columns that a workdir keeps of images with these names; none where it has none.

    Raises:
        UserError: where the file is damaged.
    """
    try:
        saved = storage.read_json(workdir / FILE)
    except FileNotFoundError:
        return []
    try:
        rows = {name: row for row, name in enumerate(saved["images"])}
        columns = {
            str(name): [str(values[rows[each]]) if each in rows else "" for each in names]
            for name, values in saved["columns"].items()
        }
        groups = tuple(columns.pop(GROUP))
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise UserError(
            f"{str(workdir / FILE)!r} is damaged ({error!r}): remove it; evaluate --by reads the "
            "list itself"
        ) from error
    told = {name: values for name, values in columns.items() if any(values) or not names}
    return [Column(name, tuple(values), groups) for name, values in told.items()]


def asked(text: str, source: str, workdir: Path, names: Sequence[str]) -> Column:
    """The column that `--by COLUMN` names, of the list that is the source, or `FILE.csv:COLUMN`
    of another one; of a list that has gone the one that the workdir keeps.

    Raises:
        UserError: where there is no such list, and as `read`.
    """
    name, _, column = text.rpartition(":")
    if not name and not grouped.list_of(source):
        raise UserError(
            f"--by {text}: {source!r} is no csv: list with columns: name one, as --by "
            f"FILE.csv:{text}"
        )
    if not name and not os.path.lexists(os.path.expanduser(grouped.list_of(source))):
        for each in kept(workdir, names):
            if each.name == column.lower():  # as a list's header is read
                return each
    return read(paths.local(name or grouped.list_of(source), "--by"), column, names)
