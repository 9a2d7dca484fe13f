"""Boxes that MegaDetector found in photographs, from the JSON file that it writes.

The format is that of its documentation ("Batch processing API output format"): `images` with
`file`, `detections` of `category`, `conf` and `bbox` [left, top, width, height] as fractions of the
photograph upright, or `failure`; and `detection_categories`, of which "animal" is one.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

from fgvc_jax.data import inputs
from fgvc_jax.data.coco import box_of, read_json, rows_of
from fgvc_jax.data.files import shown
from fgvc_jax.data.framing import Box
from fgvc_jax.data.inputs import InputFile
from fgvc_jax.data.names import composed
from fgvc_jax.data.tables import understood
from fgvc_jax.utils.errors import UserError

ANIMAL = "animal"
log = logging.getLogger(__name__)


class Detected(NamedTuple):
    """What the detector says of a photograph: boxes with its confidence, or why it has none, or
    that it was not asked."""

    boxes: Sequence[tuple[Box, float]] = ()
    problem: str = ""
    asked: bool = True


def read(file: Path, *, confidence: float) -> dict[str, Detected]:
    """What the file says of each photograph that it lists: boxes of at least this confidence, of
    animals where it knows such.

    Raises:
        UserError: for a file of another format, and a box that is none.
    """
    known = read_json(file)
    kinds = known.get("detection_categories")
    named = kinds.items() if isinstance(kinds, dict) else ()
    animals = {key for key, name in named if str(name).lower() == ANIMAL}
    listed: dict[str, Detected] = {}
    for n, row in enumerate(rows_of(known, "images", file, file=str), start=1):
        where = f"{shown(file)} image {n}"
        failed = row.get("failure")
        detected = Detected(
            () if failed else tuple(_boxes(row, where, animals, confidence)),
            f"the detector failed: {failed}" if failed else "",
        )
        if listed.setdefault(row["file"], detected) != detected:
            raise UserError(
                f"{where}: {row['file']!r} is already listed, with other boxes: keep one of them"
            )
    return listed


def photographs(
    file: Path, listed: Mapping[str, Detected], words: Sequence[str]
) -> Iterator[tuple[InputFile, Detected]]:
    """The photographs that words name, as `inputs.expand` has them, or without words those that are
    listed. Paths in the file start from a folder among the words, or from the file's own.

    Raises:
        UserError: where photographs of two folders would have the boxes of one.
    """
    if not words:
        for name, detected in listed.items():
            path = os.path.join(file.parent, understood(file.parent, name))
            yield InputFile(inputs.spelt(path), detected.problem), detected
        return
    folders = [word for word in map(os.path.expanduser, words) if os.path.isdir(word)]
    names: dict[str, str] = {}
    for folder in (*folders, str(file.parent), "."):
        for name in listed:
            names.setdefault(_place(os.path.join(folder, name)), name)
    first: dict[str, str] = {}
    for found in inputs.expand_some(words):
        place = _place(found.path)
        asked = names.get(place)
        if asked is not None and first.setdefault(asked, place) != place:
            raise UserError(
                f"{shown(file)}: {asked!r} may be {first[asked]!r} or {place!r}: ask for one of "
                "their folders at a time"
            )
        detected = Detected(asked=False) if asked is None else listed[asked]
        yield found._replace(problem=found.problem or detected.problem), detected


def boxes(some: Iterable[tuple[InputFile, Detected]], *, whole: bool) -> Iterator[InputFile]:
    """Each box, or photograph that cannot be read; those without a box are answered `whole`, or
    left out and told at the end."""
    without: dict[str, tuple[int, str]] = {}  # why -> how many, and the first
    for found, detected in some:
        if found.problem or (whole and not detected.boxes):
            yield found
            continue
        if not detected.boxes:
            why = "without a box" if detected.asked else "not in the file of boxes"
            count, first = without.get(why, (0, found.path))
            without[why] = count + 1, first
        for box, confidence in detected.boxes:
            yield found._replace(box=box, confidence=confidence)
    for why, (count, first) in without.items():
        log.warning(
            "warning: %s %s, such as %r: left out; --whole answers them as they are",
            "a photograph is" if count == 1 else f"{count:,} photographs are",
            why,
            first,
        )


def _boxes(
    row: dict[str, Any], where: str, animals: Set[Any], confidence: float
) -> Iterator[tuple[Box, float]]:
    """The boxes of a photograph."""
    found = row.get("detections") or []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UserError(f"{where}: its detections are no list: is the file MegaDetector's?")
    for one in found:
        sure = one.get("conf")
        if type(sure) not in (int, float) or not 0 <= sure <= 1:
            raise UserError(
                f"{where}: the confidence {str(sure)[:80]} is not in [0, 1]: correct it"
            )
        if sure < confidence or (animals and str(one.get("category")) not in animals):
            continue
        box = box_of(one.get("bbox"), where, (1, 1))
        if box.problem:
            raise UserError(f"{where}: the box {box} {box.problem}: correct it")
        yield box, sure


def _place(path: str) -> str:
    """Equal for paths of one file, though the detector ran on another system."""
    return composed(os.path.abspath(os.path.expanduser(path.replace("\\", "/"))))
