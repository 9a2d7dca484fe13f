"""Datasets as their makers lay them out on disk: folders, CUB, Cars, Aircraft, Ultra-FGVC.

Each `open_*` reads the index and trusts none of it: what is missing, listed twice, out of range or
outside the dataset's folder raises a UserError that names the file and line. Images are opened only
when they are asked for. The splits are the official ones (METHODS, section 4).
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fgvc_jax.data.images import EXTENSIONS
from fgvc_jax.data.matlab import read_variables
from fgvc_jax.data.records import Splits, stratified
from fgvc_jax.errors import UserError

FOLDER_TEST_FRACTION = 0.2  # of each class, when `folder:PATH` comes without a test part
FOLDER_TEST_NAMES = ("test", "val", "valid", "validation")  # the first that exists is the test part
AIRCRAFT_BANNER = 20  # rows of pixels at the bottom that hold the copyright notice
MAX_ID = np.iinfo(np.int32).max


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
            raise UserError(f"cannot read image {_shown(path)}: {error.strerror}") from error
        return {
            "image": image,
            "label": int(self.labels[index]),
            "id": int(self.ids[index]),
            "name": str(path),
            "crop_bottom": self.crop_bottom,
        }


def open_folder(path: str, *, seed: int) -> Splits:
    """`train/` and `test/` folders of class folders, or one folder of class folders.

    The test part may also be called val, valid or validation; if there are both test and one of
    these, the latter is the validation part. Without train/, PATH itself holds the class folders
    and `FOLDER_TEST_FRACTION` of each class, chosen by `seed`, becomes the test part.
    Class folders hold images directly; files with other extensions and hidden files are ignored.
    Classes are the folders of the training part, sorted by name.
    """
    root = _root(path)
    folders = _subfolders(root)
    parts = [name for name in FOLDER_TEST_NAMES if name in folders]
    if "train" not in folders:
        if parts:
            raise UserError(f"{_shown(root)} has {parts[0]}/ but no train/ with class folders")
        return _one_folder(root, folders, seed)
    if not parts:
        raise UserError(
            f"{_shown(root)} has train/ but none of {', '.join(FOLDER_TEST_NAMES)}: add one, or "
            f"give folder:{os.path.join(path, 'train')} to have it split"
        )
    if len(parts) > 2 or (len(parts) == 2 and parts[0] != "test"):
        raise UserError(f"{_shown(root)} has {', '.join(parts)}: keep test and at most one other")
    classes = _subfolders(root / "train")
    entries = {
        role: list(_class_folders(root, f"{folder}/", _subfolders(root / folder), classes))
        for role, folder in zip(("train", "test", "validation"), ("train", *parts), strict=False)
    }
    return _splits(root, entries, classes)


def _one_folder(root: Path, classes: Sequence[str], seed: int) -> Splits:
    entries = list(_class_folders(root, "", classes, classes))
    counts = np.bincount([entry.label for entry in entries], minlength=len(classes))
    for name, count in zip(classes, counts, strict=True):
        if count < 2:
            raise UserError(
                f"class folder {_shown(root / name)} has {count} images: it takes at least 2, one "
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
    return _splits(root, parts, classes)


def _class_folders(
    root: Path, prefix: str, folders: Iterable[str], classes: Sequence[str]
) -> Iterator[Entry]:
    labels = {name: label for label, name in enumerate(classes)}
    for folder in folders:
        path = root / f"{prefix}{folder}"
        if folder not in labels:
            raise UserError(f"class folder {_shown(path)} has no counterpart in train/")
        for item in _listing(path):
            if _is_folder(item):
                raise UserError(
                    f"{_shown(item.path)} is a folder in a class folder, which holds images only: "
                    "move its images up, or give the folder above the class folders"
                )
            if item.name.lower().endswith(EXTENSIONS):
                yield Entry(f"{prefix}{folder}/{item.name}", labels[folder], _shown(path))


def open_cub(path: str) -> Splits:
    """CUB-200-2011 (5,994 / 5,794 images) and what shares its layout.

    `images.txt` "id path", `image_class_labels.txt` "id class", `train_test_split.txt` "id 1|0"
    (1 = train), `classes.txt` "class name", classes counted from 1; the images in `images/`.
    """
    root = _root(path)
    images = _table(root / "images.txt")
    labels = _table(root / "image_class_labels.txt")
    split = _table(root / "train_test_split.txt")
    classes = _class_table(root / "classes.txt")
    for table in (labels, split):
        _same_ids(images, table)
    train, test = [], []
    for image_id in sorted(images.rows):
        label = labels.number(image_id, 1, len(classes), "class") - 1
        part = train if split.number(image_id, 0, 1, "split") else test
        name = images.rows[image_id].value
        part.append(Entry(f"images/{name}", label, images.at(image_id), image_id))
    return _splits(root, {"train": train, "test": test}, classes)


def open_cars(path: str) -> Splits:
    """Stanford Cars, 8,144 / 8,041 images, in either release.

    First: `cars_train/`, `cars_test/`, `devkit/` with `cars_meta.mat`, `cars_train_annos.mat` and
    `cars_test_annos_withlabels.mat` (or this one beside it). Second: `car_ims/`, `cars_annos.mat`.
    """
    root = _root(path)
    single = root / "cars_annos.mat"
    if single.is_file():
        return _cars_single(root, single)
    if not (root / "devkit").is_dir():
        raise UserError(
            f"{_shown(root)} holds neither cars_annos.mat (with car_ims/) nor devkit/ (with "
            "cars_train/ and cars_test/): give the folder of one of the two releases"
        )
    meta = root / "devkit" / "cars_meta.mat"
    classes = _mat_classes(meta, *_mat(meta, "class_names"))
    name = "cars_test_annos_withlabels.mat"
    labelled = root / name if (root / name).is_file() else root / "devkit" / name
    parts = {"train": root / "devkit" / "cars_train_annos.mat", "test": labelled}
    entries = {}
    for part, file in parts.items():
        entries[part] = [
            Entry(f"cars_{part}/{row.text('fname')}", _car_label(row, classes), row.where)
            for row in _annotations(file, *_mat(file, "annotations"))
        ]
    return _splits(root, entries, classes)


def _car_label(row: "_Annotation", classes: Sequence[str]) -> int:
    return row.number("class", 1, len(classes)) - 1


def _cars_single(root: Path, file: Path) -> Splits:
    names, annotations = _mat(file, "class_names", "annotations")
    classes = _mat_classes(file, names)
    parts: dict[str, list[Entry]] = {"train": [], "test": []}
    for row in _annotations(file, annotations):
        part = parts["test" if row.number("test", 0, 1) else "train"]
        part.append(Entry(row.text("relative_im_path"), _car_label(row, classes), row.where))
    return _splits(root, parts, classes)


def open_aircraft(path: str) -> Splits:
    """FGVC-Aircraft, 100 variants, 6,667 / 3,333 images; the banner at the bottom is cropped.

    PATH is the folder that holds `images/`, `images_variant_trainval.txt` and
    `images_variant_test.txt` ("image variant"), or the one that holds it as `data/`. Classes are in
    the order of `variants.txt`, sorted by name where that file is absent.
    """
    root = _root(path)
    if (root / "data").is_dir():
        root = root / "data"
    parts = {"train": "images_variant_trainval.txt", "test": "images_variant_test.txt"}
    tables = {part: _table(root / file, integer_keys=False) for part, file in parts.items()}
    listed = root / "variants.txt"
    if listed.is_file():
        classes = list(dict.fromkeys(line for _, line in _lines(listed)))
    else:
        classes = sorted({row.value for row in tables["train"].rows.values()})
    labels = {name: label for label, name in enumerate(classes)}
    entries: dict[str, list[Entry]] = {}
    for part, table in tables.items():
        entries[part] = []
        for name, row in table.rows.items():
            if row.value not in labels:
                known = listed.name if listed.is_file() else parts["train"]
                raise UserError(f"{table.at(name)}: variant {row.value!r} is not in {known}")
            entries[part].append(Entry(f"images/{name}.jpg", labels[row.value], table.at(name)))
    return _splits(root, entries, classes, crop_bottom=AIRCRAFT_BANNER)


def open_ultra(path: str) -> Splits:
    """The Ultra-FGVC sets (Cotton80, SoyLocal, SoyGene, SoyAgeing, SoyGlobal).

    `images/`, `anno/train.txt` and `anno/test.txt` with lines "name label", labels from 1. The sets
    name no classes: the label as printed is the name.
    """
    root = _root(path)
    entries: dict[str, list[Entry]] = {}
    for part in ("train", "test"):
        file = root / "anno" / f"{part}.txt"
        entries[part] = []
        for number, line in _lines(file):
            where = _at(file, number)
            name, *label = line.rsplit(maxsplit=1)
            if not label:
                raise UserError(f"{where}: {line!r} is not 'name label'")
            entries[part].append(Entry(f"images/{name}", _integer(label[0], where) - 1, where))
    # Every class has a training image, so there are no more classes than training images.
    limit = len(entries["train"])
    for entry in entries["train"] + entries["test"]:
        if not 0 <= entry.label < limit:
            raise UserError(f"{entry.where}: label {entry.label + 1} is outside 1..{limit}")
    count = 1 + max((entry.label for entry in entries["train"] + entries["test"]), default=-1)
    return _splits(root, entries, [str(label + 1) for label in range(count)])


# What the layouts share: from entries to Splits, with every check on the files themselves.


def _splits(
    root: Path,
    parts: Mapping[str, Sequence[Entry]],
    classes: Sequence[str],
    *,
    crop_bottom: int = 0,
) -> Splits:
    for part in ("train", "test"):
        if not parts[part]:
            raise UserError(f"{_shown(root)} has no image in its {part} part")
    _check_files(root, [entry for entries in parts.values() for entry in entries])
    counts = np.bincount([entry.label for entry in parts["train"]], minlength=len(classes))
    if not counts.all():
        empty = [classes[label] for label in np.flatnonzero(counts == 0)]
        more = f" (nor have {len(empty) - 1} other classes)" if len(empty) > 1 else ""
        raise UserError(
            f"class {empty[0]!r} has no training image in {_shown(root)}{more}: add images "
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
                f"{entry.where}: {entry.name!r} is a link that leaves {_shown(root)}: copy what it "
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
            f"{missing[0].where}: image {_shown(root / missing[0].name)} does not exist{more}: "
            "unpack the images there, or give the right folder"
        )


def _files_in(folder: Path) -> tuple[str, dict[str, bool]]:
    """The real path of a folder and its files: name -> is it a symbolic link."""
    if not folder.is_dir():
        return str(folder), {}
    items = (item for item in _listing(folder) if item.is_symlink() or item.is_file())
    return os.path.realpath(folder), {item.name: item.is_symlink() for item in items}


# Reading the folders and index files.


def _shown(path: str | os.PathLike[str]) -> str:
    """A path as messages show it: quoted, without line breaks or undecodable bytes."""
    return repr(os.fspath(path))


def _at(file: Path, line: int) -> str:
    return f"{_shown(file)} line {line}"


def _root(path: str) -> Path:
    root = Path(path).expanduser()
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise UserError(f"dataset folder {_shown(root)} {problem}: give the folder it is in")
    return root


def _listing(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name, without hidden entries."""
    try:
        with os.scandir(folder) as items:
            visible = [item for item in items if not item.name.startswith(".")]
    except OSError as error:
        raise UserError(f"cannot list folder {_shown(folder)}: {error.strerror}") from error
    return sorted(visible, key=lambda item: item.name)


def _is_folder(item: os.DirEntry[str]) -> bool:
    # A link that points to itself makes DirEntry.is_dir raise.
    return os.path.isdir(item.path) if item.is_symlink() else item.is_dir()


def _subfolders(folder: Path) -> list[str]:
    names = [item.name for item in _listing(folder) if _is_folder(item)]
    if not names:
        raise UserError(f"{_shown(folder)} has no class folders: put each class into a folder")
    return names


def _lines(file: Path) -> list[tuple[int, str]]:
    """The lines of an index file that are not blank, stripped, with their numbers from 1."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(
            f"index file {_shown(file)} does not exist: give the folder that holds the dataset"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read index file {_shown(file)}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"index file {_shown(file)} is not UTF-8 text: unpack it again") from error
    stripped = ((number, line.strip()) for number, line in enumerate(text.split("\n"), start=1))
    return [(number, line) for number, line in stripped if line]


def _integer(text: str, where: str) -> int:
    # int() also takes "1_000", " 1 " and digits of other scripts; its length limit is a ValueError.
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise UserError(f"{where}: {text!r} is not a whole number")
    return int(text)


@dataclass(frozen=True)
class Row:
    """The second column of an index line, and the line's number."""

    value: str
    line: int


@dataclass(frozen=True)
class Table:
    """An index file of two columns, by its first."""

    file: Path
    rows: dict[Any, Row]

    def at(self, key: Any) -> str:
        return _at(self.file, self.rows[key].line)

    def number(self, key: Any, low: int, high: int, what: str) -> int:
        """The value at `key` as a number of low..high."""
        value = _integer(self.rows[key].value, self.at(key))
        if not low <= value <= high:
            raise UserError(f"{self.at(key)}: {what} {value} is outside {low}..{high}")
        return value


def _table(file: Path, *, integer_keys: bool = True) -> Table:
    rows: dict[Any, Row] = {}
    for number, line in _lines(file):
        where = _at(file, number)
        key, *rest = line.split(maxsplit=1)
        if not rest:
            raise UserError(f"{where}: {line!r} lacks its second column")
        if integer_keys:
            key = _integer(key, where)
            if key > MAX_ID:
                raise UserError(f"{where}: id {key} is above {MAX_ID}")
        if key in rows:
            raise UserError(f"{where}: {key!r} is already on line {rows[key].line}")
        rows[key] = Row(rest[0], number)
    if not rows:
        raise UserError(f"index file {_shown(file)} is empty: unpack it again")
    return Table(file, rows)


def _class_table(file: Path) -> list[str]:
    """Class names in the order of their numbers, which must be 1..K."""
    table = _table(file)
    for number in table.rows:
        if not 1 <= number <= len(table.rows):
            raise UserError(
                f"{table.at(number)}: class {number} is outside 1..{len(table.rows)}, the number "
                "of lines"
            )
    return [table.rows[number].value for number in sorted(table.rows)]


def _same_ids(images: Table, table: Table) -> None:
    for one, other in ((images, table), (table, images)):
        for image_id in one.rows:
            if image_id not in other.rows:
                raise UserError(
                    f"{one.at(image_id)}: image {image_id} is not in {_shown(other.file)}"
                )


# Reading MATLAB files, whose content may be anything.


def _mat(file: Path, *names: str) -> list[list[Any]]:
    """The cell or struct arrays of a .mat file that are called `names`."""
    try:
        variables = read_variables(file, names)
    except FileNotFoundError as error:
        raise UserError(
            f"annotation file {_shown(file)} does not exist: it is part of the dataset"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {_shown(file)}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(
            f"{_shown(file)} is not a readable MATLAB file ({error}): fetch it again"
        ) from error
    for name in names:
        if not isinstance(variables.get(name), list):
            raise UserError(f"{_shown(file)} has no list {name!r}: it is not the dataset's file")
    return [variables[name] for name in names]


def _mat_classes(file: Path, values: Sequence[Any]) -> list[str]:
    for number, value in enumerate(values, start=1):
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{_shown(file)} class {number} has no name: fetch the file again")
    return [" ".join(value.split()) for value in values]


class _Annotation:
    """One row of `annotations`, trusted in nothing."""

    def __init__(self, file: Path, number: int, fields: Any):
        self.where = f"{_shown(file)} annotation {number}"
        self.fields = fields if isinstance(fields, dict) else {}

    def text(self, name: str) -> str:
        value = self._field(name)
        if not isinstance(value, str):
            raise UserError(f"{self.where}: field {name!r} is not text: fetch the file again")
        return value

    def number(self, name: str, low: int, high: int) -> int:
        value = self._field(name)
        if not isinstance(value, int | float) or not float(value).is_integer():
            raise UserError(f"{self.where}: field {name!r} is not one whole number")
        number = int(value)
        if not low <= number <= high:
            raise UserError(f"{self.where}: {name} {number} is outside {low}..{high}")
        return number

    def _field(self, name: str) -> Any:
        if name not in self.fields:
            raise UserError(
                f"{self.where} has no field {name!r}: it is another file than the dataset's "
                "(the test part's labels are in cars_test_annos_withlabels.mat)"
            )
        return self.fields[name]


def _annotations(file: Path, values: Sequence[Any]) -> Iterator[_Annotation]:
    return (_Annotation(file, number, fields) for number, fields in enumerate(values, start=1))
