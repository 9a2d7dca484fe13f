"""What a source of labelled images is, and how one is cut into parts."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Source(Protocol):
    """Random access to labelled images.

    labels: (N,) int32, 0 <= label < number of classes.
    ids: (N,) int32, unique per image across all parts (train, validation, test) of one dataset.

    `source[i]` is a record: {"image": encoded bytes or an (H,W,3) uint8 array, "label": int,
    "id": int, "name": what to call the image in a message, usually its path}. A record may also
    hold "crop_bottom", a number of pixel rows that `images.decode` cuts off first (a banner).
    """

    labels: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Splits:
    """The parts of a dataset, which never share an image; `classes[label]` is a class name."""

    train: Source
    test: Source
    classes: tuple[str, ...]
    validation: Source | None = None


class Subset:
    """The records of `source` at `indices` (M,), in that order, with their labels and ids."""

    def __init__(self, source: Source, indices: Sequence[int] | np.ndarray):
        self.source = source
        self.indices = np.asarray(indices, np.int64)
        self.labels = source.labels[self.indices]
        self.ids = source.ids[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.source[int(self.indices[index])]


def stratified(
    labels: np.ndarray, keys: Iterable[object], fraction: float, *, seed: int, at_least: int
) -> np.ndarray:
    """Marks about `fraction` of each class, chosen by seed: (N,) bool, in the order of `labels`.

    Of a class with n images, `fraction * n` rounded are marked, not fewer than `at_least` and never
    all n. The choice ranks the images by a hash of (seed, key), not by a random generator: it is
    the same on every platform and library version, and does not depend on the order of listing.
    """
    salted = (f"{seed} {key}".encode(errors="surrogateescape") for key in keys)
    ranks = [hashlib.sha256(text).digest() for text in salted]
    members: dict[int, list[int]] = {}
    for index in sorted(range(len(labels)), key=ranks.__getitem__):
        members.setdefault(int(labels[index]), []).append(index)
    marked = np.zeros(len(labels), bool)
    for indices in members.values():
        count = max(round(fraction * len(indices)), at_least)
        marked[indices[: min(count, len(indices) - 1)]] = True
    return marked
