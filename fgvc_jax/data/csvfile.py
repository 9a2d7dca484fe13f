"""A CSV file that lists images with their labels, and perhaps their parts and groups."""

import difflib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fgvc_jax.data.files import Entry, assemble, check_can_be_split, hold_out, shown
from fgvc_jax.data.framing import Box
from fgvc_jax.data.names import composed, in_one_form, part_named
from fgvc_jax.data.records import TO_TRAIN, Opening, Splits
from fgvc_jax.data.tables import check_length, csv_rows, path_inside
from fgvc_jax.utils import paths
from fgvc_jax.utils.errors import UserError

REQUIRED = ("path", "label")
OPTIONAL = ("split", "group")
BOX = ("x", "y", "width", "height")  # where all of them are there
PARTS = ("train", "validation", "test")
# Why a row is not used; empty where it is. Of a name that nobody has by chance.
LEFT_OUT = "left_out_because"
log = logging.getLogger(__name__)


def open_csv(path: str, how: Opening = TO_TRAIN, *, seed: int) -> Splits:
    """A CSV file with a header: columns `path`, `label`, perhaps `split`, `group` and those of
    `BOX`; others are ignored. A row with a text in the column `LEFT_OUT` is not used.

    Paths are relative to the file's folder and stay inside it, with "/" between folders; where
    there is no such file, an absolute path inside, spaces around a path and backslashes are
    understood. `split` is one of `PARTS` (or as `names.part_named` knows it) in every row, and
    "validation" stands in for "test" where no row is of that; without that column
    `files.TEST_FRACTION` of each class, chosen by `seed`, becomes the test part, or to be judged
    all of it. Images with the same `group` are in one part; an empty group is one of its own.
    Classes are the labels, sorted; labels that differ in the form of accents only are one, and so
    are groups.
    Photographs are turned as EXIF says.

    A box is what is shown of an image, from its corner at the top left: fractions of its sides, or
    pixels if one of the four is above 1; without numbers it is the whole image. Boxes of one image
    are a group.
    """
    file = paths.local(path, "list")
    rows: list[tuple[str, dict[str, str]]] = []
    first: dict[str, str] = {}
    for where, values in _rows(file, how):
        with how.each():
            row = values | {"path": path_inside(file, where, values["path"])}
            other = first.setdefault(row["path"], where)
            if other != where and BOX[0] not in row:
                raise UserError(f"{where}: {row['path']!r} is already listed at {other}")
            rows.append((where, row))
    if not rows:
        raise UserError(f"{shown(file)} has no row below its header: list an image a line")
    classes = sorted({composed(row["label"]) for _, row in rows})
    numbers = {name: number for number, name in enumerate(classes)}
    entries: list[Entry] = []
    splits: list[str] = []
    for where, row in rows:
        with how.each():
            entry = Entry(
                row["path"],
                numbers[composed(row["label"])],
                where,
                group=composed(row.get("group", "") or (row["path"] if BOX[0] in row else "")),
                box=_box(where, row),
            )
            entries.append(entry.check())
            splits.append(row.get("split", ""))
    if "split" in rows[0][1]:
        parts = _given_parts(file, entries, splits, how)
    elif not how.to_train:
        parts = {"train": [], "test": entries}
    else:
        check_can_be_split(file, entries, classes, how, "; or give the column 'split'")
        parts = hold_out(entries, seed=seed)
    return assemble(file.parent, parts, classes, published=False, how=how)


class Beside(NamedTuple):
    """What a list says that a dataset does not know. columns: names of those that are ignored, as
    `site`. of: their texts, by the name of an image in the dataset. left_out: the rows that are not
    used, {column: text}, the paths as the dataset would have them."""

    columns: tuple[str, ...]
    of: dict[str, tuple[str, ...]]
    left_out: list[dict[str, str]]


def beside(file: Path) -> Beside:
    """What a list says beside what `open_csv` reads of it, which has read it."""
    rows = csv_rows(file, "list")
    header = _header(*next(rows))
    columns = tuple(name for name in header if name not in (*_known(header), LEFT_OUT))
    of: dict[str, tuple[str, ...]] = {}
    left_out = []
    for where, values in rows:
        row = dict(zip(header, values, strict=False))
        row["path"] = path_inside(file, where, row["path"])
        if row.get(LEFT_OUT, "").strip():
            left_out.append(row)
        else:
            box = _box(where, row) if set(BOX) <= set(header) else None
            name = row["path"] if box is None else f"{row['path']}{box}"
            of[name] = tuple(row[column] for column in columns)
    named = dict(zip(in_one_form(of), of.values(), strict=True))
    return Beside(columns, named, left_out)


def _rows(file: Path, how: Opening) -> Iterator[tuple[str, dict[str, str]]]:
    """(place, {column: value}) of every row that is used and not blank; known columns only."""
    header: list[str] = []
    left_out = 0
    for where, values in csv_rows(file, "list"):
        if not header:
            header = _header(where, values)
            if how.split_by and how.split_by.lower() not in header:
                raise UserError(
                    f"{where}: there is no column {how.split_by!r} to split by: there are "
                    f"{', '.join(header)}"
                )
            continue
        with how.each():
            check_length(where, values, header)
            named = dict(zip(header, values, strict=True))
            if named.get(LEFT_OUT, "").strip():
                left_out += 1
            else:
                row = _row(where, named)
                if how.split_by:
                    row["group"] = named[how.split_by.lower()].strip()
                yield where, row
    if not header:
        raise UserError(f"list {shown(file)} is empty: it takes a header with {_columns()}")
    if left_out:
        log.info("%s: %s rows are left out, as it says", shown(file), f"{left_out:,}")


def _columns() -> str:
    return f"{', '.join(REQUIRED)} and perhaps {', '.join(OPTIONAL + BOX)}"


def _header(where: str, values: Sequence[str]) -> list[str]:
    header = [value.strip().lower() for value in values]
    for name in REQUIRED:
        if name not in header:
            raise UserError(
                f"{where}: the header {','.join(values)[:80]!r} lacks the column {name!r}: name "
                f"the columns {_columns()}, with commas between them"
            )
    for name, count in Counter(header).items():
        if count > 1 and name in (*_known(header), LEFT_OUT):
            raise UserError(f"{where}: the column {name!r} is there {count} times")
    return header


def _known(header: Iterable[str]) -> tuple[str, ...]:
    """The columns that mean something; others of a box's names alone may mean anything."""
    return REQUIRED + OPTIONAL + (BOX if set(BOX) <= set(header) else ())


def _box(where: str, row: dict[str, str]) -> Box | None:
    texts = [row.get(name, "") for name in BOX]
    if not any(texts):
        return None
    try:
        x, y, width, height = map(float, texts)
    except ValueError:
        raise UserError(
            f"{where}: the box {','.join(texts)} is not four numbers, {', '.join(BOX)}: correct it"
        ) from None
    return Box(x, y, width, height, None if max(x, y, width, height) > 1 else (1, 1))


def _row(where: str, values: dict[str, str]) -> dict[str, str]:
    row = {name: values[name] for name in _known(values) if name in values}
    row |= {name: value.strip() for name, value in row.items() if name != "path"}
    for name in REQUIRED:
        if not row[name].strip():
            raise UserError(f"{where} has no {name}")
        if values[name][0] == " " and values[name].lstrip()[0] == '"':
            raise UserError(
                f"{where}: the {name} {values[name]!r} has its quotes behind a space, where they "
                "are a part of it: leave out the spaces behind commas"
            )
    if "split" in row:
        row["split"] = part_named(row["split"]) or row["split"].lower()
        if row["split"] not in PARTS:
            near = difflib.get_close_matches(row["split"], PARTS, n=1, cutoff=0.4)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise UserError(f"{where}: split {row['split']!r} is none of {', '.join(PARTS)}{hint}")
    return row


def _given_parts(
    file: Path, entries: Sequence[Entry], splits: Sequence[str], how: Opening
) -> dict[str, list[Entry]]:
    parts: dict[str, list[Entry]] = {"train": [], "test": []}
    seen: dict[str, tuple[str, str]] = {}
    for entry, split in zip(entries, splits, strict=True):
        parts.setdefault(split, []).append(entry)
        if entry.group:
            other, where = seen.setdefault(entry.group, (split, entry.where))
            if other != split:
                how.fault(
                    UserError(
                        f"{entry.where}: group {entry.group!r} is in {split} here and in {other} "
                        f"at {where}: a group belongs to one part"
                    )
                )
    if not parts["test"] and "validation" in parts:
        parts["test"] = parts.pop("validation")
        log.info("%s: validation is the test part, since no row is of that", shown(file))
    for split, listed in parts.items():
        if not listed and (how.to_train or split == "test"):
            raise UserError(
                f"{shown(file)} has no row with split {split!r}: mark some, or leave the column "
                "out to have the images split"
            )
    return parts
