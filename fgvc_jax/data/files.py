"""Image files that an index or a folder lists: checked before anything is read, then a Source."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fgvc_jax.data.copies import shared_files
from fgvc_jax.data.framing import Box
from fgvc_jax.data.images import Broken
from fgvc_jax.data.names import Spellings, composed, in_one_form
from fgvc_jax.data.records import TO_TRAIN, Opening, Splits, split_keys, stratified
from fgvc_jax.utils import paths
from fgvc_jax.utils.errors import UserError

TEST_FRACTION = 0.2  # of each class, where a dataset comes without a test part
HIDDEN = ".", "__MACOSX"  # what a Mac leaves in an archive is no folder of images
_ONE_GROUP = ", and its boxes to one group"
SHOWN = 5  # examples in a message
LOOKED_THROUGH = 50_000  # images at the most, of a set that is searched for copies when opened

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One image of an index: its path below the root, label, origin, official id or -1, group, and
    the box that is meant of it, where not the whole of it is."""

    name: str
    label: int
    where: str  # the line of the index, for messages
    id: int = -1
    group: str = ""
    box: Box | None = None

    def check(self) -> "Entry":
        """Itself; a UserError where its box is none."""
        if self.box is not None and self.box.problem:
            raise UserError(
                f"{self.where}: the box {self.box} of {self.name!r} {self.box.problem}: correct it"
            )
        return self


class Files:
    """A Source of encoded image files: `root / places[i]` with its name, label, id and group.

    A place is the name on the disk, whose accents may have another Unicode form. Ids are the
    official ones; without them they count from `first`.
    """

    def __init__(
        self,
        root: Path,
        entries: Sequence[Entry],
        first: int,
        *,
        crop_bottom: int,
        places: Sequence[str],
    ):
        self.root = root
        # A box is part of the name, so that it is in every digest.
        self.names = tuple(f"{entry.name}{entry.box or ''}" for entry in entries)
        self.boxes = tuple(entry.box for entry in entries)
        self.places = places
        self.labels = np.array([entry.label for entry in entries], np.int32)
        self.ids = np.array([entry.id for entry in entries], np.int32)
        if (self.ids < 0).any():
            self.ids = np.arange(first, first + len(entries), dtype=np.int32)
        groups = np.array([entry.group for entry in entries], str)
        self.groups = groups if any(groups) else None
        self.crop_bottom = crop_bottom

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = self.path(index)
        try:
            with open(path, "rb") as file:
                image = file.read()
        except OSError as error:
            raise _unread(path, error) from error
        box = self.boxes[index]
        return {
            "image": image,
            "label": int(self.labels[index]),
            "id": int(self.ids[index]),
            "name": path,
            "crop_bottom": self.crop_bottom,
            **({} if box is None else {"box": box}),
        }

    def path(self, index: int) -> str:
        """Of an image's file."""
        return os.path.join(self.root, self.places[index])

    def stat(self, index: int) -> tuple[int, int]:
        path = self.path(index)
        try:
            status = os.stat(path)
        except OSError as error:
            raise _unread(path, error) from error
        return status.st_size, status.st_mtime_ns


def _unread(path: str, error: OSError) -> Broken:
    return Broken(
        f"cannot read image {shown(path)}: {error.strerror}: make it readable or remove it from "
        "the dataset",
        [path],
    )


def assemble(
    root: Path,
    parts: Mapping[str, Sequence[Entry]],
    classes: Sequence[str],
    *,
    crop_bottom: int = 0,
    published: bool = True,
    how: Opening = TO_TRAIN,
) -> Splits:
    """From entries to Splits, with every check on the files themselves; the accents of names have
    one form (`names.in_one_form`), whatever that of the disk.

    root: folder that the entries' names start from.
    parts: "train", "test" and perhaps "validation" -> their entries.
    classes: names.
    crop_bottom: rows of pixels to cut off each image.
    published: results on them are; others are turned upright, and decoded at the size needed.
    how: it is opened.
    """
    for part, entries in parts.items():
        if not entries and (how.to_train or part == "test"):
            raise UserError(f"{shown(root)} has no image in its {part} part")
    every = [entry for entries in parts.values() for entry in entries]
    named, located = iter(in_one_form(each.name for each in every)), iter(locate(root, every, how))
    sources: dict[str, Files] = {}
    first = 0
    for part, entries in parts.items():
        known = [(replace(entry, name=next(named)), next(located)) for entry in entries]
        own = [place for _, place in known if place is not None]
        entries = [entry for entry, place in known if place is not None]
        sources[part] = Files(root, entries, first, crop_bottom=crop_bottom, places=own)
        first += len(entries)
    splits = Splits(
        sources["train"],
        sources["test"],
        tuple(in_one_form(classes)),
        sources.get("validation"),
        orientation="stored" if published else "exif",
        decode="exact" if published else "scaled",
        own=not published,
    )
    if first <= LOOKED_THROUGH:  # every file is asked for its size, and many are opened
        _warn_of_shared_files(root, {part: sources[part] for part in splits.parts})
    else:
        log.info(
            "%s images are not searched for copies of each other here: "
            "python -m fgvc_jax.inspect does it",
            f"{first:,}",
        )
    return splits


def _warn_of_shared_files(root: Path, parts: Mapping[str, Files]) -> None:
    """Log a warning when parts share a file's content: such an image is judged after training."""
    files = [
        (part, name, source.path(index), source.stat(index)[0])
        for part, source in parts.items()
        for index, name in enumerate(source.names)
    ]
    shared = shared_files(files)
    if shared:
        examples = (" = ".join(f"{part} {name!r}" for part, name, *_ in same) for same in shared)
        more = f" and {len(shared) - SHOWN:,} more" if len(shared) > SHOWN else ""
        log.warning(
            "warning: %s in more than one part of %s, so that accuracies mean less: %s%s",
            f"{len(shared):,} pictures are" if len(shared) > 1 else "one picture is",
            shown(root),
            "; ".join(islice(examples, SHOWN)),
            more,
        )


def hold_out(entries: Sequence[Entry], *, seed: int) -> dict[str, list[Entry]]:
    """Train and test parts: `TEST_FRACTION` of each class, chosen by `seed`, whole groups only."""
    groups = np.array([entry.group for entry in entries], str)
    tested = stratified(
        np.array([entry.label for entry in entries]),
        split_keys("test", in_one_form(entry.name for entry in entries), groups),
        TEST_FRACTION,
        seed=seed,
        at_least=1,
    )
    pairs = list(zip(entries, tested, strict=True))
    return {
        "train": [entry for entry, test in pairs if not test],
        "test": [entry for entry, test in pairs if test],
    }


def check_can_be_split(
    file: Path, entries: Sequence[Entry], classes: Sequence[str], how: Opening, advice: str = ""
) -> None:
    """Raise, or list, a UserError for a class whose images cannot be in two parts."""
    groups: list[set[str]] = [set() for _ in classes]
    for entry in entries:
        groups[entry.label].add(entry.group or entry.where)
    for name, found in zip(classes, groups, strict=True):
        if len(found) < 2:
            how.fault(
                UserError(
                    f"class {name!r} of {shown(file)} has one image or group only: it takes at "
                    f"least 2, one to train and one to test{advice}"
                )
            )


def locate(root: Path, entries: Sequence[Entry], how: Opening) -> list[str | None]:
    """The path below the root of every entry's file, as the disk has it; None for one with a fault
    that is listed (`Opening.faults`).

    Each must be a file of its own inside the root, or inside `how.links` where a link leads there,
    or another box of a file in the same group; one listing per folder, no stat. A name that is on
    the disk with its accents in another form is that file. Raises a UserError for the first entry
    of which this is not so.
    """
    tops = [os.path.join(os.path.realpath(top), "") for top in (root, how.links) if top is not None]
    listings: dict[str, _Listing] = {}
    seen: dict[str, list[Entry]] = {}
    missing: list[Entry] = []
    outside: list[tuple[Entry, str]] = []
    places: list[str | None] = []
    for entry in entries:
        places.append(None)
        with how.each():
            place, real = _place(root, entry, listings)
            if real is None:
                missing.append(entry)
                continue
            if not real.startswith(tuple(tops)):
                outside.append((entry, real))
                continue
            _check_alone(entry, seen.setdefault(real, []))
            seen[real].append(entry)
            places[-1] = place
    _check_inside(root, outside, how)
    for entry in missing:
        alone = len(missing) == 1 or how.faults is not None  # else the first speaks for all
        more = "" if alone else f" ({len(missing):,} images are missing)"
        file = root / entry.name
        if os.path.exists(file):  # a pipe, a device: reading it may never end
            how.fault(UserError(f"{entry.where}: {shown(file)} is no ordinary file: remove it"))
        else:
            how.fault(
                UserError(
                    f"{entry.where}: image {shown(file)} does not exist{more}: unpack the images "
                    "there, or give the right folder"
                )
            )
    return places


def _check_inside(root: Path, outside: Sequence[tuple[Entry, str]], how: Opening) -> None:
    """Raise, or list, a UserError for links to these real paths, naming a folder of all of them."""
    folders = [os.path.dirname(real) for _, real in outside]
    folders += [os.path.realpath(how.links)] if how.links else []
    above = os.path.commonpath(folders or [os.sep])
    named = f", or name the folder that it is in, by --data.allow-links {above!r}"
    for entry, _ in outside:
        what = f"{entry.where}: {entry.name!r} is a link that leaves {shown(root)}"
        advice = f"copy what it points to into the dataset{named if above != os.sep else ''}"
        how.fault(UserError(f"{what}: {advice}"))


def _place(root: Path, entry: Entry, listings: dict[str, "_Listing"]) -> tuple[str, str | None]:
    """The path of an entry's file below the root, and its real one; None where it is no file."""
    if {"", ".", ".."} & set(entry.name.split("/")) or "\0" in entry.name:
        raise UserError(f"{entry.where}: {entry.name!r} is not a path inside the dataset")
    folder, _, name = entry.name.rpartition("/")
    if folder not in listings:
        listings[folder] = _Listing(root, folder, entry)
    there = listings[folder]
    name = there.find(name, entry)
    real = os.path.join(there.real, name)
    if there.links.get(name):
        real = os.path.realpath(real)
    missing = name not in there.links or (there.links[name] and not os.path.isfile(real))
    return f"{there.place}/{name}" if there.place else name, None if missing else real


def _check_alone(entry: Entry, others: Sequence[Entry]) -> None:
    """Raise a UserError where an entry and another one of the same file do not go together."""
    for other in others:
        if not (entry.box and other.box and entry.group and entry.group == other.group):
            raise UserError(
                f"{entry.where}: {entry.name!r} is already listed by {other.where}: every "
                f"image belongs to one part, once{_ONE_GROUP if entry.box else ''}"
            )
        if str(entry.box) == str(other.box):
            raise UserError(
                f"{entry.where}: the box {entry.box} of {entry.name!r} is already listed by "
                f"{other.where}: leave one of them out"
            )


class _Listing:
    """The files of a folder below a root: `links[name]`, is it a symbolic link.

    place: the folder as the disk has it. real: its real path.
    """

    def __init__(self, root: Path, folder: str, entry: Entry):
        self.place = _folder_on_disk(root, folder, entry)
        path = root / self.place
        self.real, self.links = str(path), {}
        if path.is_dir():
            items = (item for item in listing(path) if item.is_symlink() or item.is_file())
            self.real = os.path.realpath(path)
            self.links = {item.name: item.is_symlink() for item in items}

    @cached_property
    def _spellings(self) -> Spellings:
        return Spellings(self.links)

    def find(self, name: str, entry: Entry) -> str:
        """The file of that name, or the one that reads the same; the name where there is none."""
        return name if name in self.links else _the_one(name, self._spellings, entry)


def _folder_on_disk(root: Path, folder: str, entry: Entry) -> str:
    """A folder below the root with every name as the disk has it, as far as it is there."""
    if not folder or (root / folder).is_dir():
        return folder
    place = ""
    for name in folder.split("/"):
        here = root / place
        known = [item.name for item in listing(here) if is_folder(item)] if here.is_dir() else []
        place = f"{place}/{_the_one(name, Spellings(known), entry)}".lstrip("/")
    return place


def _the_one(name: str, known: Spellings, entry: Entry) -> str:
    found = known.find(name)
    if len(found) > 1:
        raise UserError(
            f"{entry.where}: {name!r} is not there, and {len(found)} names read the same, with "
            f"their accents in other forms ({', '.join(map(ascii, found))}): keep one of them"
        )
    return found[0] if found else name


# Folders.


def shown(path: str | os.PathLike[str]) -> str:
    """A path as messages show it: quoted, without line breaks or undecodable bytes."""
    return repr(os.fspath(path))


def dataset_root(path: str) -> Path:
    """The dataset's folder, which must exist."""
    root = paths.local(path, "dataset folder")
    if not os.path.isdir(root):  # Path.is_dir raises for paths that are too long
        problem = "is not a folder" if os.path.exists(root) else "does not exist"
        raise UserError(f"dataset folder {shown(root)} {problem}: give the folder it is in")
    return root


def listing(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name whatever the form of accents, without hidden entries."""
    try:
        with os.scandir(folder) as items:
            visible = [item for item in items if not item.name.startswith(HIDDEN)]
    except OSError as error:
        raise UserError(f"cannot list folder {shown(folder)}: {error.strerror}") from error
    return sorted(visible, key=lambda item: (composed(item.name), item.name))


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
