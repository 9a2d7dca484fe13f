"""Boxes of images as COCO lists them: one JSON file of images, annotations and categories."""

import json
import logging
from pathlib import Path
from typing import Any, TypeVar

from fgvc_jax.data.files import Entry, assemble, check_can_be_split, dataset_root, hold_out, shown
from fgvc_jax.data.framing import Box
from fgvc_jax.data.names import composed
from fgvc_jax.data.records import TO_TRAIN, Opening, Splits
from fgvc_jax.utils import paths
from fgvc_jax.utils.errors import UserError

T = TypeVar("T")
LARGEST = 2**31  # of a whole number, beyond any image
log = logging.getLogger(__name__)


def open_coco(path: str, how: Opening = TO_TRAIN, *, seed: int) -> Splits:
    """`ANNOTATIONS.json[,IMAGES]`: what is inside each box, under the name of its category.

    IMAGES is the folder that the images' `file_name` start from; without it that of the file. A
    `bbox` is [x, y, width, height] in pixels of the photograph upright, of the size that the file
    says, so that smaller copies of the photographs serve as well. Categories without a box are no
    classes; crowds (`iscrowd`) and annotations without a box are left out, which is told.
    `files.TEST_FRACTION` of each class, chosen by `seed`, becomes the test part, or to be judged
    all of it; boxes of one photograph are in one part.
    """
    file, root = _places(path)
    found = read_json(file)
    images = _by_id(found, "images", "file_name", file)
    named = _by_id(found, "categories", "name", file)
    categories = {key: row["name"] for key, row in named.items()}
    if "" in categories.values():
        raise UserError(f"{shown(file)} has a category without a name: give it one")
    if len(set(categories.values())) < len(categories):
        raise UserError(f"{shown(file)} gives two categories one name: give each a name of its own")
    rows = rows_of(found, "annotations", file, image_id=_KEY, category_id=_KEY)
    numbered = enumerate(rows, start=1)
    meant = [(n, row) for n, row in numbered if row.get("bbox") and not row.get("iscrowd")]
    if not meant:
        raise UserError(
            f"{shown(file)} has no annotation with a box (bbox): it has nothing to show"
        )
    if len(meant) < len(rows):
        left = len(rows) - len(meant)
        log.warning(
            "warning: left out of %s: %s, of crowds or without a box",
            shown(file),
            "one annotation" if left == 1 else f"{left:,} annotations",
        )
    named_of: dict[int, str] = {}
    for n, row in meant:
        with how.each():
            named_of[n] = _of(categories, row, "category_id", file, n)
    classes = sorted(set(named_of.values()), key=lambda name: (composed(name), name))
    numbers = {name: number for number, name in enumerate(classes)}
    entries = []
    for n, row in meant:
        if n in named_of:
            with how.each():
                image = _of(images, row, "image_id", file, n)
                steps = image["file_name"].replace("\\", "/").split("/")
                name = "/".join(step for step in steps if step not in ("", "."))
                where = f"{shown(file)} annotation {n}"
                box = box_of(row["bbox"], where, _size(image))
                label = numbers[named_of[n]]
                entries.append(Entry(name, label, where, group=composed(name), box=box).check())
    if not how.to_train:
        return assemble(root, {"train": [], "test": entries}, classes, published=False, how=how)
    check_can_be_split(file, entries, classes, how)
    return assemble(root, hold_out(entries, seed=seed), classes, published=False, how=how)


def _places(path: str) -> tuple[Path, Path]:
    """The file and the folder of the images."""
    name, comma, folder = path.partition(".json,")
    file = paths.local(name + ".json" if comma else path, "annotations")
    return file, dataset_root(folder) if comma else file.parent


def read_json(file: Path) -> dict[str, Any]:
    """The object that a JSON file holds."""
    try:
        with paths.readable(file).open("rb") as stream:
            found = json.load(stream)
    except OSError as error:
        raise UserError(f"cannot read {shown(file)}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{shown(file)} is not JSON ({reason}): fetch or write it again") from error
    if not isinstance(found, dict):
        raise UserError(f"{shown(file)} holds no JSON object, which begins with a brace")
    return found


_KEY = (int, str)


def rows_of(
    found: dict[str, Any], name: str, file: Path, /, **fields: type | tuple[type, ...]
) -> list[dict[str, Any]]:
    """The objects in a list of a file, each with these fields of these types."""
    rows = found.get(name)
    if not isinstance(rows, list):
        raise UserError(f"{shown(file)} lacks the list {name!r}: it is of another format")
    for n, row in enumerate(rows, start=1):
        for field, kind in fields.items():
            value = row.get(field) if isinstance(row, dict) else None
            if not isinstance(value, kind) or isinstance(value, bool):
                raise UserError(f"{shown(file)}: number {n} of {name!r} has no {field}: correct it")
    return rows


def _by_id(found: dict[str, Any], name: str, field: str, file: Path) -> dict[Any, dict[str, Any]]:
    """The objects in a list of a file by their ids; a UserError where two of one id say different
    things in `field`."""
    rows: dict[Any, dict[str, Any]] = {}
    for row in rows_of(found, name, file, id=_KEY, **{field: str}):
        other = rows.setdefault(row["id"], row)
        if other[field] != row[field]:
            raise UserError(
                f"{shown(file)}: two of {name!r} have the id {row['id']!r}, {other[field]!r} and "
                f"{row[field]!r}: give each an id of its own"
            )
    return rows


def _of(known: dict[Any, T], row: dict[str, Any], field: str, file: Path, n: int) -> T:
    if row[field] not in known:
        raise UserError(
            f"{shown(file)} annotation {n}: {field} {row[field]!r} is nowhere in the file: is it "
            "complete?"
        )
    return known[row[field]]


def _size(image: dict[str, Any]) -> tuple[float, float] | None:
    """(width, height) of an image as the file says, where it does."""
    width, height = image.get("width"), image.get("height")
    if isinstance(width, (int, float)) and isinstance(height, (int, float)):
        return (width, height) if 0 < width < LARGEST and 0 < height < LARGEST else None
    return None


def box_of(values: object, where: str, of: tuple[float, float] | None) -> Box:
    """The box of a list [x, y, width, height]."""
    numbers = values if isinstance(values, list) and len(values) == 4 else [None]
    if not all(type(n) is float or (type(n) is int and abs(n) < LARGEST) for n in numbers):
        raise UserError(f"{where}: the box {str(values)[:80]} is not four numbers: correct it")
    x, y, width, height = map(float, numbers)
    return Box(x, y, width, height, of)
