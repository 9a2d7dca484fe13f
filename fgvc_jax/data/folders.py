"""Folders of class folders, as people keep their own images."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from fgvc_jax.data.files import (
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
from fgvc_jax.data.images import EXTENSIONS
from fgvc_jax.data.records import Splits
from fgvc_jax.utils.errors import UserError

TEST_NAMES = ("test", "val", "valid", "validation")  # the first that exists is the test part

log = logging.getLogger(__name__)


def open_folder(path: str, *, seed: int) -> Splits:
    """`train/` and `test/` folders of class folders, or one folder of class folders.

    The test part may also be called val, valid or validation; if there are both test and one of
    these, the latter is the validation part. Without train/, PATH itself holds the class folders
    and `files.TEST_FRACTION` of each class, chosen by `seed`, becomes the test part.
    Class folders hold images directly. Hidden files are ignored, and so are files with other
    extensions than `EXTENSIONS`, which a warning counts. Classes are the folders of the training
    part, sorted by name. Photographs are turned as their EXIF orientation says.
    """
    root = dataset_root(path)
    folders = subfolders(root)
    names = [name for name in TEST_NAMES if name in folders]
    if "train" not in folders:
        if names:
            raise UserError(f"{shown(root)} has {names[0]}/ but no train/ with class folders")
        classes = folders
        parts = _held_out(root, classes, seed)
    else:
        _check_parts(root, path, names)
        classes = subfolders(root / "train")
        roles = zip(("train", "test", "validation"), ("train", *names), strict=False)
        found = {role: _entries(root, f"{name}/", classes) for role, name in roles}
        _warn_of_ignored(root, found.values())
        parts = {role: entries for role, (entries, _) in found.items()}
    return assemble(root, parts, classes, orientation="exif")


def _check_parts(root: Path, path: str, names: Sequence[str]) -> None:
    """Raise a UserError unless beside train/ there is a test part and at most one other."""
    if not names:
        raise UserError(
            f"{shown(root)} has train/ but none of {', '.join(TEST_NAMES)}: add one, or "
            f"give folder:{os.path.join(path, 'train')} to have it split"
        )
    if len(names) > 2 or (len(names) == 2 and names[0] != "test"):
        raise UserError(f"{shown(root)} has {', '.join(names)}: keep test and at most one other")


def _held_out(root: Path, classes: Sequence[str], seed: int) -> dict[str, list[Entry]]:
    found = _entries(root, "", classes)
    _warn_of_ignored(root, [found])
    entries, _ = found
    counts = np.bincount([entry.label for entry in entries], minlength=len(classes))
    for name, count in zip(classes, counts, strict=True):
        if count < 2:
            raise UserError(
                f"class folder {shown(root / name)} has {count} images: it takes at least 2, one "
                f"to train and one to test ({', '.join(EXTENSIONS)})"
            )
    return hold_out(entries, seed=seed)


def _entries(root: Path, part: str, classes: Sequence[str]) -> tuple[list[Entry], list[str]]:
    """The images of a part's class folders, and the names of the files that are no images."""
    labels = {name: label for label, name in enumerate(classes)}
    entries, ignored = [], []
    for folder in subfolders(root / part):
        path = root / part / folder
        if folder not in labels:
            raise UserError(f"class folder {shown(path)} has no counterpart in train/")
        for item in listing(path):
            name = f"{part}{folder}/{item.name}"
            if is_folder(item):
                raise UserError(
                    f"{shown(item.path)} is a folder in a class folder, which holds images only: "
                    "move its images up, or give the folder above the class folders"
                )
            if item.name.lower().endswith(EXTENSIONS):
                entries.append(Entry(name, labels[folder], shown(path)))
            else:
                ignored.append(name)
    return entries, ignored


def _warn_of_ignored(root: Path, parts: Iterable[tuple[list[Entry], list[str]]]) -> None:
    """Log how many files of which suffix are not taken for images, and where the first is."""
    names = [name for _, ignored in parts for name in ignored]
    if not names:
        return
    suffixes = Counter(os.path.splitext(name)[1].lower() or "no suffix" for name in names)
    kinds = [f"{count:,} {suffix!r}"[:40] for suffix, count in suffixes.most_common(SHOWN)]
    more = f", and {len(suffixes) - SHOWN} other kinds" if len(suffixes) > SHOWN else ""
    log.warning(
        "warning: ignored %s of %s that by their names are no images (%s%s), such as %r: "
        "images are %s",
        "a file" if len(names) == 1 else f"{len(names):,} files",
        shown(root),
        ", ".join(kinds),
        more,
        names[0],
        ", ".join(EXTENSIONS),
    )
