"""A csv: source of a dataset without what is broken, doubled or doubtful, each with its reason.

Nothing is deleted: a row with a reason is not used, and is again once the reason is removed. Every
row has its part, so that no image moves to another one.
"""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from fgvc_jax.data import csvfile, whole
from fgvc_jax.data.files import Files, shown
from fgvc_jax.data.framing import Box
from fgvc_jax.data.records import Splits, origin
from fgvc_jax.data.soundness import ImageFacts, near, same_bytes
from fgvc_jax.utils import paths
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import is_utf8, no_formula_path

# Of copies in several parts the first of these keeps its own: what is judged stays as it is.
_ORDER = ("test", "validation", "train")


def new_list(text: str, splits: Splits) -> Path:
    """The list to write, which is never there yet, above the images.

    Raises:
        UserError: where it cannot be written there, or would not be one of all images.
    """
    file = paths.output(text, "--clean")
    if not splits.own:
        raise UserError(
            "--clean is for one's own images (folder:, csv:, coco:): a published set is complete"
        )
    if file.suffix.lower() != ".csv":
        raise UserError(f"--clean {text!r} is a list to write: name it {file.stem}.csv")
    if os.path.lexists(file):
        raise UserError(f"--clean {text!r} is there already, perhaps edited: name another file")
    for part in splits.parts.values():
        for row in range(len(part)):
            _below(file.parent, whole.file_of(part, row), file.name)
    return file


def reasons(pictures: Sequence[ImageFacts]) -> dict[tuple[str, int], str]:
    """Why images are to be left out, by (part, row): what cannot be read; what stands under several
    labels, all of it; of copies all but one; what shows nothing. Bursts of one class stay."""
    found: dict[tuple[str, int], str] = {}

    def leave(pictures: Iterable[ImageFacts], reason: str) -> None:
        for picture in pictures:
            found.setdefault((picture.part, picture.index), reason)

    for picture in pictures:
        if picture.problem:
            leave([picture], f"broken: {picture.problem}")
    exact, alike = same_bytes(pictures), near(pictures)
    for how, groups in (("the same picture", exact), ("nearly the same", alike)):
        for group in groups:
            for picture in group:
                other = next((one for one in group if one.label != picture.label), None)
                if other:
                    leave([picture], f"doubtful: {how} under another label is {other.name}")
    for group in exact:
        if kept := _kept(group, found):
            others = (one for one in group if one is not kept)
            leave(others, f"doubled: the same picture is {kept.name}")
    for group in alike:
        if kept := _kept(group, found):
            others = (one for one in group if one.part != kept.part)
            leave(others, f"doubled: nearly the same in the {kept.part} part is {kept.name}")
    for picture in pictures:
        if picture.doubts:
            leave([picture], f"doubtful: {'; '.join(picture.doubts)}")
    return found


def _kept(group: Iterable[ImageFacts], found: dict[tuple[str, int], str]) -> ImageFacts | None:
    """The one of some copies that stays, where not all of them are left out."""
    left = (one for one in group if (one.part, one.index) not in found)
    return min(left, key=lambda one: (_ORDER.index(one.part), one.index), default=None)


def list_text(
    splits: Splits, reasons: dict[tuple[str, int], str], folder: Path, listed: Path | None = None
) -> str:
    """The list as text, for a file in a folder.

    Args:
        splits: the dataset.
        reasons: see `reasons`.
        folder: of the file.
        listed: the list that the dataset is, where it is one: its other columns, as `site`, stay,
            and so do the rows that it had left out already.

    Raises:
        UserError: for a name that is not UTF-8.
    """
    parts = splits.parts
    grouped = any(part.groups is not None for part in parts.values())
    origins = {name: [origin(p, row) for row in range(len(p))] for name, p in parts.items()}
    boxes = {
        name: [source.boxes[row] if isinstance(source, Files) else None for source, row in rows]
        for name, rows in origins.items()
    }
    boxed = any(box is not None for row in boxes.values() for box in row)
    header = ["path", "label", "split", *["group"] * grouped, *csvfile.BOX * boxed]
    beside = csvfile.beside(listed) if listed else csvfile.Beside((), {}, [])
    header += beside.columns
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*header, csvfile.LEFT_OUT])
    for name, part in parts.items():
        for row in range(len(part)):
            cells = [_below(folder, whole.file_of(part, row)), splits.classes[part.labels[row]]]
            cells += [name, *([part.groups[row] if part.groups is not None else ""] * grouped)]
            cells += _numbers(boxes[name][row]) if boxed else []
            cells += beside.of.get(part.names[row], [""] * len(beside.columns))
            table.writerow([*cells, " ".join(reasons.get((name, row), "").split())])
    for left in beside.left_out:
        assert listed is not None
        left |= {"path": _below(folder, str(listed.parent / left["path"]))}
        left["split"] = left.get("split", "") or "train"
        table.writerow([left.get(column, "") for column in (*header, csvfile.LEFT_OUT)])
    return text.getvalue()


def _numbers(box: Box | None) -> list[str]:
    """A box as `csvfile` reads it."""
    if box is None:
        return [""] * len(csvfile.BOX)
    across, down = box.of or (1, 1)
    sides = box.x / across, box.y / down, box.width / across, box.height / down
    return [repr(float(number)) for number in sides]


def _below(folder: Path, file: str, name: str = "") -> str:
    """The path of an image from the folder of a list, with "/" between folders."""
    for real in (os.path.abspath, os.path.realpath):
        top = os.path.join(real(folder), "")
        place = os.path.join(real(os.path.dirname(file)), os.path.basename(file))
        if place.startswith(top):
            break
    else:
        raise UserError(
            f"--clean: image {shown(file)} is not below the list's folder {shown(folder)}: write "
            f"the list above all images, as --clean {paths.above(folder, file) / name}"
        )
    if not is_utf8(place):
        raise UserError(f"--clean: the name of {shown(file)} is not UTF-8: rename it")
    return no_formula_path(place.removeprefix(top).replace(os.sep, "/"))
