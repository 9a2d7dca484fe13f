"""What a source of labelled images is, and how one is cut into parts."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from fgvc_jax.utils.errors import UserError


class Records(Protocol):
    """Random access to images alone, see `Source`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


@runtime_checkable
class Source(Records, Protocol):
    """Random access to labelled images.

    labels: (N,) int32, 0 <= label < number of classes.
    ids: (N,) int32, unique per image across all parts (train, validation, test) of one dataset.
    names: N strings: the image's name inside the dataset, such as its relative path; unique there,
      and the same wherever the dataset lies.
    groups: (N,) str, or None: images of one group (an individual, a site, a burst of photographs)
      never straddle parts; "" is a group of one's own.

    `source[i]` is a record: {"image": encoded bytes or an (H,W,3) uint8 array, "label": int,
    "id": int, "name": what to call the image in a message, usually its path}. A record may also
    hold "crop_bottom", a number of pixel rows that `images.decode` cuts off first (a banner), and
    "box", a `framing.Box`: then only what is inside it is shown.
    `stat(i)` is (bytes, time of the last change in ns) of an image's file; None without a file.
    """

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def ids(self) -> np.ndarray: ...

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def groups(self) -> np.ndarray | None: ...

    def stat(self, index: int) -> tuple[int, int] | None: ...


@dataclass(frozen=True)
class Splits:
    """The parts of a dataset, which never share an image; `classes[label]` is a class name.

    orientation: "exif" where photographs are to be turned as their EXIF tag says, as people see
    them; "stored" where they are taken as they are stored, as in published results.
    decode: likewise "scaled" where large JPEGs are decoded at a fraction of their size, or "exact".
    own: somebody's own images, of which a few that are broken may be left out; a published set is
      complete.
    lineages: of every class its name and those of the folders that it is in, the innermost first;
      empty where classes are in none.
    """

    train: Source
    test: Source
    classes: tuple[str, ...]
    validation: Source | None = None
    orientation: Literal["exif", "stored"] = "stored"
    decode: Literal["exact", "scaled"] = "exact"
    own: bool = False
    lineages: tuple[tuple[str, ...], ...] = ()

    @property
    def parts(self) -> dict[str, Source]:
        """The parts that there are, by name, in the order train, validation, test."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def names(self) -> frozenset[str]:
        """Of all images."""
        return frozenset(name for part in self.parts.values() for name in part.names)


def check_names(classes: Sequence[str], what: str) -> None:
    """Raise a UserError where two classes have one name: what knows them by it would take one for
    the other. `what` has the classes, for the message."""
    first: dict[str, int] = {}
    for number, name in enumerate(classes, start=1):
        if first.setdefault(name, number) != number:
            raise UserError(
                f"{what} calls two classes {name!r}, number {first[name]} and number {number} of "
                f"{len(classes)}: give each a name of its own"
            )


@dataclass(frozen=True)
class Opening:
    """How a dataset is opened.

    to_train: to learn from it, so that what has no test part is split; else all that is there is to
      be judged, and the training part may be empty.
    links: a folder outside of the dataset that links may lead into; None for none.
    faults: where all that is wrong is to be listed: what a fault concerns is not used, and reading
      goes on; None where the first one is raised.
    split_by: of a list the column whose values are groups; empty: "group".
    """

    to_train: bool = True
    links: Path | None = None
    faults: list[str] | None = None
    split_by: str = ""

    @contextmanager
    def each(self) -> Iterator[None]:
        """Around what is read of one thing among many: a UserError is raised, or listed."""
        try:
            yield
        except UserError as error:
            self.fault(error)

    def fault(self, error: UserError) -> None:
        """Raise an error, or list it."""
        if self.faults is None:
            raise error
        self.faults.append(str(error))


TO_TRAIN = Opening()


class Subset:
    """The records of `source` at `indices` (M,), in that order, with all that belongs to them."""

    def __init__(self, source: Source, indices: Sequence[int] | np.ndarray):
        self.source = source
        self.indices = np.asarray(indices, np.int64)
        self.labels = source.labels[self.indices]
        self.ids = source.ids[self.indices]
        self.names = tuple(source.names[index] for index in self.indices)
        self.groups = None if source.groups is None else source.groups[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.source[int(self.indices[index])]

    def stat(self, index: int) -> tuple[int, int] | None:
        return self.source.stat(int(self.indices[index]))


def origin(source: Source, index: int) -> tuple[Source, int]:
    """The source, and the row there, that an image of a part of one comes from."""
    while isinstance(source, Subset):
        index = int(source.indices[index])
        source = source.source
    return source, index


def split_keys(part: str, own: Iterable[object], groups: np.ndarray | None) -> list[str]:
    """Keys for `stratified`: each image's own, or its group's where it is in one."""
    keys = [f"{part} {key}" for key in own]
    if groups is None:
        return keys
    named = zip(keys, groups, strict=True)
    return [f"{part} group {group}" if group else key for key, group in named]


def stratified(
    labels: np.ndarray, keys: Iterable[object], fraction: float, *, seed: int, at_least: int
) -> np.ndarray:
    """Marks about `fraction` of each class, chosen by seed: (N,) bool, in the order of `labels`.

    Of a class with n images, `fraction * n` rounded are marked, not fewer than `at_least` and never
    all n. The choice ranks the images by a hash of (seed, key), not by a random generator: it is
    the same on every platform and library version, and does not depend on the order of listing.

    Images of equal key, a group, are marked together or not at all. The groups are taken in their
    order as long as each brings its classes closer to their number; a class that is left with
    fewer than `at_least` then gets its smallest group. Where that would leave another class, or
    itself, without an unmarked image, it is not done: then fewer than `at_least` are marked.
    """
    groups: dict[bytes, list[int]] = {}
    for index, key in enumerate(keys):
        rank = hashlib.sha256(f"{seed} {key}".encode(errors="surrogateescape")).digest()
        groups.setdefault(rank, []).append(index)
    ranked = [np.array(groups[rank]) for rank in sorted(groups)]
    counts = [Counter(labels[group].tolist()) for group in ranked]
    total = Counter(np.asarray(labels).tolist())
    wanted = {label: max(round(fraction * n), at_least) for label, n in total.items()}
    marked, taken = np.zeros(len(labels), bool), Counter[Any]()

    def take(number: int) -> None:
        marked[ranked[number]] = True
        taken.update(counts[number])

    def leaves_one(number: int) -> bool:
        return all(taken[label] + n < total[label] for label, n in counts[number].items())

    for number, count in enumerate(counts):
        closer = all(taken[label] + n / 2 <= wanted[label] for label, n in count.items())
        if closer and leaves_one(number):
            take(number)
    for label in sorted(total):
        if taken[label] < at_least:
            left = [i for i, count in enumerate(counts) if label in count and leaves_one(i)]
            if left := [i for i in left if not marked[ranked[i][0]]]:
                take(min(left, key=lambda i: len(ranked[i])))
    return marked
