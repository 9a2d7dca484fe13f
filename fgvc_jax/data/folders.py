"""Folders of class folders, as people keep their own images."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from fgvc_jax.data.files import Entry, assemble, dataset_root, is_folder, listing, shown, subfolders
from fgvc_jax.data.images import EXTENSIONS
from fgvc_jax.data.records import Splits, stratified
from fgvc_jax.errors import UserError

FOLDER_TEST_FRACTION = 0.2  # of each class, when `folder:PATH` comes without a test part
FOLDER_TEST_NAMES = ("test", "val", "valid", "validation")  # the first that exists is the test part


def open_folder(path: str, *, seed: int) -> Splits:
    """`train/` and `test/` folders of class folders, or one folder of class folders.

    The test part may also be called val, valid or validation; if there are both test and one of
    these, the latter is the validation part. Without train/, PATH itself holds the class folders
    and `FOLDER_TEST_FRACTION` of each class, chosen by `seed`, becomes the test part.
    Class folders hold images directly; files with other extensions and hidden files are ignored.
    Classes are the folders of the training part, sorted by name.
    """
    root = dataset_root(path)
    folders = subfolders(root)
    parts = [name for name in FOLDER_TEST_NAMES if name in folders]
    if "train" not in folders:
        if parts:
            raise UserError(f"{shown(root)} has {parts[0]}/ but no train/ with class folders")
        return _one_folder(root, folders, seed)
    if not parts:
        raise UserError(
            f"{shown(root)} has train/ but none of {', '.join(FOLDER_TEST_NAMES)}: add one, or "
            f"give folder:{os.path.join(path, 'train')} to have it split"
        )
    if len(parts) > 2 or (len(parts) == 2 and parts[0] != "test"):
        raise UserError(f"{shown(root)} has {', '.join(parts)}: keep test and at most one other")
    classes = subfolders(root / "train")
    entries = {
        role: list(_class_folders(root, f"{folder}/", subfolders(root / folder), classes))
        for role, folder in zip(("train", "test", "validation"), ("train", *parts), strict=False)
    }
    return assemble(root, entries, classes)


def _one_folder(root: Path, classes: Sequence[str], seed: int) -> Splits:
    entries = list(_class_folders(root, "", classes, classes))
    counts = np.bincount([entry.label for entry in entries], minlength=len(classes))
    for name, count in zip(classes, counts, strict=True):
        if count < 2:
            raise UserError(
                f"class folder {shown(root / name)} has {count} images: it takes at least 2, one "
                f"to train and one to test ({', '.join(EXTENSIONS)})"
            )
    tested = stratified(
        np.array([entry.label for entry in entries]),
        (f"test {entry.name}" for entry in entries),
        FOLDER_TEST_FRACTION,
        seed=seed,
        at_least=1,
    )
    parts = {
        "train": [entry for entry, test in zip(entries, tested, strict=True) if not test],
        "test": [entry for entry, test in zip(entries, tested, strict=True) if test],
    }
    return assemble(root, parts, classes)


def _class_folders(
    root: Path, prefix: str, folders: Iterable[str], classes: Sequence[str]
) -> Iterator[Entry]:
    labels = {name: label for label, name in enumerate(classes)}
    for folder in folders:
        path = root / f"{prefix}{folder}"
        if folder not in labels:
            raise UserError(f"class folder {shown(path)} has no counterpart in train/")
        for item in listing(path):
            if is_folder(item):
                raise UserError(
                    f"{shown(item.path)} is a folder in a class folder, which holds images only: "
                    "move its images up, or give the folder above the class folders"
                )
            if item.name.lower().endswith(EXTENSIONS):
                yield Entry(f"{prefix}{folder}/{item.name}", labels[folder], shown(path))
