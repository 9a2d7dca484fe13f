"""Folders of class folders, as people keep their own images."""

import difflib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from fgvc_jax.data.files import (
    HIDDEN,
    SHOWN,
    Entry,
    assemble,
    dataset_root,
    hold_out,
    is_folder,
    listing,
    shown,
    subfolders,
)
from fgvc_jax.data.formats import EXTENSIONS, unread
from fgvc_jax.data.names import Spellings, composed, near_part, part_named
from fgvc_jax.data.records import TO_TRAIN, Opening, Splits
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import counted

NESTED = ",nested"  # asks for class folders that are in folders of coarser levels
COUNTED = 100_000  # files at the most, of a folder that is not used

log = logging.getLogger(__name__)


def open_folder(path: str, how: Opening = TO_TRAIN, *, seed: int) -> Splits:
    """`train/` and `test/` folders of class folders, or one folder of class folders; with ",nested"
    after the path classes are the innermost folders, and those that they are in are coarser levels:
    families with genera with species, for all classes equally deep.

    The names of the parts are those of `names.part_named`, in any case. A validation part may
    stand in for a test part; if there are both, it is the validation part. A folder of such a name
    that holds images directly, among others that are no parts, is a class: contents decide. Without
    parts PATH itself holds the class folders and `files.TEST_FRACTION` of each class, chosen by
    `seed`, becomes the test part; to be judged, all of it is.

    Class folders hold images directly. Hidden files are ignored, and what else is not used (other
    extensions than `EXTENSIONS`, folders beside the parts, images beside class folders) a warning
    counts. Classes are the folders of the training part, sorted by name; those of the other parts
    may have their accents in another form. Photographs are turned as their EXIF orientation says.
    """
    nested, path = path.endswith(NESTED), path.removesuffix(NESTED)
    root = dataset_root(path)
    folders = subfolders(root)
    parts, others = _parts(root, folders)
    if not parts:
        return _without_parts(root, nested, how, seed)
    roles = _roles(root, path, parts, others, how)
    placed = _class_folders(root / roles.get("train", roles["test"]), nested)
    classes = list(placed)
    found = {role: _entries(root, f"{name}/", classes, how, nested) for role, name in roles.items()}
    meant = ((name, near_part(name)) for name in others)
    unused = {f"{name}/": role if role not in roles else "" for name, role in meant}
    unused |= {f"{name}/": "" for name in parts.values() if name not in roles.values()}
    _tell(root, found.values(), unused, ["", *(f"{name}/" for name in roles.values())])
    entries = {role: entries for role, (entries, _) in found.items()}
    splits = assemble(root, {"train": [], **entries}, classes, published=False, how=how)
    return replace(splits, lineages=_lineages(placed, splits.classes))


def _class_folders(folder: Path, nested: bool) -> dict[str, str]:
    """The class folders of a part by the names of the classes, in their order: paths below it."""
    if not nested:
        return {name: name for name in subfolders(folder)}
    found: dict[str, str] = {}
    for path in _innermost(folder, ""):
        name = os.path.basename(path)
        other = found.setdefault(name, path)
        if other != path:
            raise UserError(
                f"{shown(folder)} has the class {name!r} in {os.path.dirname(other)!r} and in "
                f"{os.path.dirname(path)!r}: a class is in one folder"
            )
        first = found[next(iter(found))]
        if path.count("/") != first.count("/"):
            raise UserError(
                f"{shown(folder)}: the classes {first!r} and {path!r} are not equally deep: give "
                f"each as many folders above it, or leave {NESTED!r} out"
            )
    if not any("/" in path for path in found.values()):
        raise UserError(f"{shown(folder)} has no folders in its folders: leave {NESTED!r} out")
    return dict(sorted(found.items(), key=lambda each: (composed(each[0]), each[0])))


def _innermost(root: Path, path: str) -> Iterator[str]:
    """Paths of the folders below one that have no folders in them."""
    names = [item.name for item in listing(root / path) if is_folder(item)]
    for name in names:
        yield from _innermost(root, f"{path}/{name}" if path else name)
    if not names and path:
        yield path


def _lineages(placed: Mapping[str, str], classes: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """See `Splits.lineages`; empty for classes that are in no folders of their own."""
    above = [reversed(composed(path).split("/")[:-1]) for path in placed.values()]
    steps = [(own, *names) for own, names in zip(classes, above, strict=True)]
    return tuple(steps) if any(len(each) > 1 for each in steps) else ()


def _parts(root: Path, folders: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The folders of the parts that there are, by part, and the other folders; no part where these
    are class folders."""
    named = [name for name in folders if part_named(name)]
    others = [name for name in folders if not part_named(name)]
    if others and not any(_has_folders(root / name) for name in named):
        return {}, []
    parts: dict[str, str] = {}
    for name in named:
        other = parts.setdefault(part_named(name), name)
        if other != name:
            raise UserError(
                f"{shown(root)} has {other}, {name}, and both would be the {part_named(name)} "
                "part: keep one of them, or rename it"
            )
    return parts, others


def _has_folders(folder: Path) -> bool:
    return any(map(is_folder, listing(folder)))


def _roles(
    root: Path, path: str, parts: dict[str, str], others: Sequence[str], how: Opening
) -> dict[str, str]:
    """The folders that are used, by what for.

    Raises:
        UserError: when a part is missing, naming a folder that may be it.
    """
    meant = {near_part(name): name for name in reversed(others)}
    train, name = parts.get("train"), parts.get("test") or parts.get("validation")
    if how.to_train and train is None:
        raise UserError(
            f"{shown(root)} has {name}/ but no train/ with class folders"
            f"{_rename(root, meant, 'train')}"
        )
    if name is None:
        use = "split" if how.to_train else "judged"
        instead = f": add one, or give folder:{os.path.join(path, train or '')} to have it {use}"
        raise UserError(
            f"{shown(root)} has {train}/ but none of test, val, valid, validation"
            f"{_rename(root, meant, 'test') or _rename(root, meant, 'validation') or instead}"
        )
    if "test" not in parts:
        if "test" in meant:
            raise UserError(
                f"{shown(root)}: {name}/ would be the test part{_rename(root, meant, 'test')}, or "
                "move it away"
            )
        log.info("%s: %s/ is the test part, since there is no test/", shown(root), name)
    roles = {"train": train, "test": name}
    if how.to_train and "test" in parts and "validation" in parts:
        roles["validation"] = parts["validation"]
    return {role: name for role, name in roles.items() if name is not None}


def _rename(root: Path, meant: Mapping[str, str], part: str) -> str:
    """What to do where a folder seems to mean a part, for a message."""
    if part not in meant:
        return ""
    name = meant[part]
    return f", while {name!r} ({_images(root / name)}) may be it: rename it to {part}"


def _without_parts(root: Path, nested: bool, how: Opening, seed: int) -> Splits:
    for name in subfolders(root):
        if (meant := near_part(name)) and _has_folders(root / name):
            raise UserError(
                f"{shown(root / name)} holds class folders: if it is the {meant} part, name it "
                f"{meant}/"
            )
    placed = _class_folders(root, nested)
    classes = list(placed)
    found = _entries(root, "", classes, how, nested)
    _tell(root, [found], {}, [""])
    entries, _ = found
    if not how.to_train:
        parts = {"train": [], "test": entries}
        splits = assemble(root, parts, classes, published=False, how=how)
        return replace(splits, lineages=_lineages(placed, splits.classes))
    counts = np.bincount([entry.label for entry in entries], minlength=len(classes))
    for name, count in zip(classes, counts, strict=True):
        if count < 2:
            how.fault(
                UserError(
                    f"class folder {shown(root / placed[name])} has {counted(count, 'image')}: it "
                    f"takes at least 2, one to train and one to test ({', '.join(EXTENSIONS)})"
                )
            )
    parts = hold_out(entries, seed=seed)
    splits = assemble(root, parts, classes, published=False, how=how)
    return replace(splits, lineages=_lineages(placed, splits.classes))


def _entries(
    root: Path, part: str, classes: Sequence[str], how: Opening, nested: bool
) -> tuple[list[Entry], list[str]]:
    """The images of a part's class folders, and the names of the files that are no images."""
    labels = {name: label for label, name in enumerate(classes)}
    spellings = Spellings(classes)
    entries: list[Entry] = []
    ignored: list[str] = []
    for own, folder in _class_folders(root / part, nested).items():
        path, known = root / part / folder, spellings.find(own)
        with how.each():
            if len(known) != 1:
                near = difflib.get_close_matches(own, classes, n=1)
                hint = f": did you mean {near[0]!r}?" if near else ""
                raise UserError(f"class folder {shown(path)} has no counterpart in train/{hint}")
            for item in listing(path):
                name = f"{part}{folder}/{item.name}"
                if is_folder(item):
                    how.fault(_folder_in_class(item.path, path, len(classes) == 1 and not part))
                elif item.name.lower().endswith(EXTENSIONS):
                    entries.append(Entry(name, labels[known[0]], shown(path)))
                else:
                    ignored.append(name)
    return entries, ignored


def _folder_in_class(folder: str, path: Path, alone: bool) -> UserError:
    instead = f"give folder:{path}" if alone else "move its images up"
    return UserError(
        f"{shown(folder)} is a folder in a class folder, which holds images only: "
        f"{instead}, or give the folder above the class folders, or, where those above are genera "
        f"and families, folder:PATH{NESTED}"
    )


def _images(folder: Path) -> str:
    """How many files below a folder are images by their names, for a message."""
    names = (name for _, _, names in os.walk(folder) for name in names)
    seen = list(islice(names, COUNTED + 1))
    found = sum(
        name.lower().endswith(EXTENSIONS) and not name.startswith(HIDDEN) for name in seen[:COUNTED]
    )
    more = "more than " if len(seen) > COUNTED else ""
    return f"{more}{counted(found, 'image')}"


def _tell(
    root: Path,
    parts: Iterable[tuple[list[Entry], list[str]]],
    unused: Mapping[str, str],
    above: Iterable[str],
) -> None:
    """Log what is not used of a dataset's folder.

    Args:
        root: of the dataset.
        parts: of each the images that are used, and the names of other files in class folders.
        unused: folders beside those of the parts, and the part that each may mean.
        above: the folders that hold class folders or parts, and should hold nothing else.
    """
    parts = list(parts)
    real = os.path.realpath(root)
    linked = {
        os.path.relpath(target, real).split(os.sep)[0]
        for entries, _ in parts
        for target in _targets(root, entries)
    }
    for name, meant in unused.items():
        if name.rstrip("/") not in linked:  # where the originals lie that links lead to
            log.warning(
                "warning: folder %r of %s with %s is not used%s",
                name,
                shown(root),
                _images(root / name),
                f": if it is the {meant} part, name it {meant}/" if meant else "",
            )
    stray = [
        f"{folder}{item.name}"
        for folder in above
        for item in listing(root / folder)
        if item.name.lower().endswith(EXTENSIONS) and not is_folder(item)
    ]
    if stray:
        log.warning(
            "warning: %s of %s beside the class folders %s not used, such as %r: put them into one",
            "an image" if len(stray) == 1 else f"{len(stray):,} images",
            shown(root),
            "is" if len(stray) == 1 else "are",
            stray[0],
        )
    _warn_of_ignored(root, [name for _, ignored in parts for name in ignored])


def _targets(root: Path, entries: Iterable[Entry]) -> Iterator[str]:
    """Where the first file of every class folder really is."""
    seen = set()
    for entry in entries:
        folder = os.path.dirname(entry.name)
        if folder not in seen:
            seen.add(folder)
            yield os.path.realpath(root / entry.name)


def _warn_of_ignored(root: Path, names: Sequence[str]) -> None:
    """Log how many files of which suffix are not taken for images, and where the first is."""
    if not names:
        return
    suffixes = Counter(os.path.splitext(name)[1].lower() or "no suffix" for name in names)
    kinds = [f"{count:,} {suffix!r}"[:40] for suffix, count in suffixes.most_common(SHOWN)]
    more = f", and {len(suffixes) - SHOWN} other kinds" if len(suffixes) > SHOWN else ""
    log.warning(
        "warning: ignored %s of %s without the suffix of an image (%s%s), such as %r: "
        "images are %s%s",
        "a file" if len(names) == 1 else f"{len(names):,} files",
        shown(root),
        ", ".join(kinds),
        more,
        names[0],
        ", ".join(EXTENSIONS),
        unread(names),
    )
