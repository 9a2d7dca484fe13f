"""Image files that an index or a folder lists: checked before anything is read, then a Source."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fgvc_jax.data.images import EXTENSIONS
from fgvc_jax.data.records import Splits
from fgvc_jax.errors import UserError


@dataclass(frozen=True)
class Entry:
    """One image of an index: its path below the root, label, origin, and official id or -1."""

    name: str
    label: int
    where: str  # the line of the index, for messages
    id: int = -1


class Files:
    """A Source of encoded image files: `root / names[i]` with `labels[i]` and `ids[i]`."""

    def __init__(self, root: Path, entries: Sequence[Entry], *, crop_bottom: int):
        self.root = root
        self.names = tuple(entry.name for entry in entries)
        self.labels = np.array([entry.label for entry in entries], np.int32)
        self.ids = np.array([entry.id for entry in entries], np.int32)
        self.crop_bottom = crop_bottom

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = self.root / self.names[index]
        try:
            image = path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read image {shown(path)}: {error.strerror}") from error
        return {
            "image": image,
            "label": int(self.labels[index]),
            "id": int(self.ids[index]),
            "name": str(path),
            "crop_bottom": self.crop_bottom,
        }


def assemble(
    root: Path,
    parts: Mapping[str, Sequence[Entry]],
    classes: Sequence[str],
    *,
    crop_bottom: int = 0,
) -> Splits:
    """From entries to Splits, with every check on the files themselves.

    root: folder that the entries' names start from.
    parts: "train", "test" and perhaps "validation" -> their entries.
    classes: names; every one needs a training image.
    crop_bottom: rows of pixels to cut off each image.
    """
    for part in ("train", "test"):
        if not parts[part]:
            raise UserError(f"{shown(root)} has no image in its {part} part")
    _check_files(root, [entry for entries in parts.values() for entry in entries])
    counts = np.bincount([entry.label for entry in parts["train"]], minlength=len(classes))
    if not counts.all():
        empty = [classes[label] for label in np.flatnonzero(counts == 0)]
        more = f" (nor have {len(empty) - 1} other classes)" if len(empty) > 1 else ""
        raise UserError(
            f"class {empty[0]!r} has no training image in {shown(root)}{more}: add images "
            f"({', '.join(EXTENSIONS)}) or remove the class"
        )
    sources, first = {}, 0
    for part, entries in parts.items():
        sources[part] = Files(root, _numbered(entries, first), crop_bottom=crop_bottom)
        first += len(entries)
    return Splits(classes=tuple(classes), **sources)


def _numbered(entries: Sequence[Entry], first: int) -> Sequence[Entry]:
    """The entries with their official ids, or numbered from `first` where there are none."""
    if all(entry.id >= 0 for entry in entries):
        return entries
    return [
        Entry(entry.name, entry.label, entry.where, first + offset)
        for offset, entry in enumerate(entries)
    ]


def _check_files(root: Path, entries: Iterable[Entry]) -> None:
    """Every entry must be a file of its own inside the root; one listing per folder, no stat."""
    top = os.path.join(os.path.realpath(root), "")
    listings: dict[str, tuple[str, dict[str, bool]]] = {}
    seen: dict[str, Entry] = {}
    missing: list[Entry] = []
    for entry in entries:
        if {"", ".", ".."} & set(entry.name.split("/")) or "\0" in entry.name:
            raise UserError(f"{entry.where}: {entry.name!r} is not a path inside the dataset")
        folder, _, name = entry.name.rpartition("/")
        if folder not in listings:
            listings[folder] = _files_in(root / folder)
        real_folder, links = listings[folder]
        real = os.path.join(real_folder, name)
        if links.get(name):
            real = os.path.realpath(real)
        if not real.startswith(top):
            raise UserError(
                f"{entry.where}: {entry.name!r} is a link that leaves {shown(root)}: copy what it "
                "points to into the dataset"
            )
        if name not in links or (links[name] and not os.path.isfile(real)):
            missing.append(entry)
        if real in seen:
            raise UserError(
                f"{entry.where}: {entry.name!r} is already listed by {seen[real].where}: every "
                "image belongs to one part, once"
            )
        seen[real] = entry
    if missing:
        more = f" ({len(missing):,} images are missing)" if len(missing) > 1 else ""
        raise UserError(
            f"{missing[0].where}: image {shown(root / missing[0].name)} does not exist{more}: "
            "unpack the images there, or give the right folder"
        )


def _files_in(folder: Path) -> tuple[str, dict[str, bool]]:
    """The real path of a folder and its files: name -> is it a symbolic link."""
    if not folder.is_dir():
        return str(folder), {}
    items = (item for item in listing(folder) if item.is_symlink() or item.is_file())
    return os.path.realpath(folder), {item.name: item.is_symlink() for item in items}


# Folders.


def shown(path: str | os.PathLike[str]) -> str:
    """A path as messages show it: quoted, without line breaks or undecodable bytes."""
    return repr(os.fspath(path))


def dataset_root(path: str) -> Path:
    """The dataset's folder, which must exist."""
    root = Path(path).expanduser()
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise UserError(f"dataset folder {shown(root)} {problem}: give the folder it is in")
    return root


def listing(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name, without hidden entries."""
    try:
        with os.scandir(folder) as items:
            visible = [item for item in items if not item.name.startswith(".")]
    except OSError as error:
        raise UserError(f"cannot list folder {shown(folder)}: {error.strerror}") from error
    return sorted(visible, key=lambda item: item.name)


def is_folder(item: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one."""
    # A link that points to itself makes DirEntry.is_dir raise.
    return os.path.isdir(item.path) if item.is_symlink() else item.is_dir()


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted, of which there must be one."""
    names = [item.name for item in listing(folder) if is_folder(item)]
    if not names:
        raise UserError(f"{shown(folder)} has no class folders: put each class into a folder")
    return names
