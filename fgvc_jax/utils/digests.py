"""Digests (SHA-256): what "the same" means to every cache, continuation and comparison.

weights: a file's bytes. data: names, labels and contents of the images of every part, and the
classes in order. view: the View and its seed. training: all that a member's numbers depend on.
member: its variables. Device and commit are recorded beside, never hashed.
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from fgvc_jax.utils import paths
from fgvc_jax.utils.text import Json

# The version of how numbers are computed, by part. Whoever changes the numbers of a part, by more
# than the rounding in which platforms differ, too, raises its integer. "step" is in the digest of
# every run; another part only where the run computes with it, and only once it was raised.
NUMERICS = {
    "step": 2,
    "stochastic depth": 2,
    "second view": 2,  # of csdnet, where --data.flip is off
    "bfloat16 depthwise": 2,  # on the CPU
    "solved head": 2,  # of linear: the scale of what hardly varies, and weak weight decays
    "cached transformers": 2,  # behind a frozen trunk: features in batches of training's size
}


class LabelledImages(Protocol):
    """The images of one part of a dataset, see `fgvc_jax.data.records.Source`."""

    @property
    def names(self) -> Sequence[str]: ...
    @property
    def labels(self) -> np.ndarray: ...
    @property
    def ids(self) -> np.ndarray: ...
    @property
    def groups(self) -> np.ndarray | None: ...

    def stat(self, index: int) -> tuple[int, int] | None:
        """Bytes and time of change of an image's file, where it has one of its own."""


class LabelledParts(Protocol):
    """The parts of a dataset by name, see `fgvc_jax.data.records.Splits`."""

    @property
    def classes(self) -> Sequence[str]: ...
    @property
    def parts(self) -> Mapping[str, LabelledImages]: ...


def of_value(value: Json) -> str:
    """Digest of a value that JSON can hold; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def numerics(parts: Iterable[str] = ()) -> int | dict[str, int]:
    """What a digest has of how numbers are computed, as JSON has it.

    Args:
        parts: of NUMERICS that are computed with, beside the step.

    Returns:
        By part; the step's integer alone where no other part was raised, as digests had it before
        there were parts.
    """
    raised = {part: NUMERICS[part] for part in parts if NUMERICS[part] > 1}
    return {"step": NUMERICS["step"], **raised} if raised else NUMERICS["step"]


def of_program() -> str:
    """Digest of the program's own modules, by their names and bytes."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def of_file(path: Path) -> str:
    """Digest of a file's bytes."""
    with paths.readable(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_arrays(tree: object) -> str:
    """Digest of a pytree of arrays: names, shapes, dtypes and bytes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(jax.device_get(leaf))
        digest.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def of_images(source: LabelledImages, classes: Iterable[str], contents: list[bytes] | None) -> str:
    """Digest of one part of a dataset: names, labels and ids in order, classes, and contents.

    The ids count, since what is shown of an image is a function of its id.

    Args:
        source: its images.
        classes: names of all classes, in order.
        contents: SHA-256 of each image's bytes; None where they are not read, and then sizes stand
            for them.
    """
    digest = hashlib.sha256(of_value(list(classes)).encode())
    for i, (name, label) in enumerate(zip(source.names, source.labels, strict=True)):
        stat = None if contents else source.stat(i)
        content = contents[i] if contents else str(stat and stat[0]).encode()
        digest.update(name.encode(errors="surrogateescape"))
        digest.update(f"\0{int(label)} {int(source.ids[i])}".encode())
        digest.update(b"\0" + content)
    return digest.hexdigest()


def _of_pictures(source: LabelledImages, contents: Sequence[bytes]) -> str:
    """Digest of the names, labels and contents of one part of a dataset."""
    digest = hashlib.sha256()
    for name, label, content in zip(source.names, source.labels, contents, strict=True):
        digest.update(
            name.encode(errors="surrogateescape") + f"\0{int(label)}\0".encode() + content
        )
    return digest.hexdigest()


def of_files(source: LabelledImages) -> str:
    """Digest of the names, labels and sizes of one part of a dataset."""
    rows = zip(source.names, map(int, source.labels), strict=True)
    return of_value([[*row, (source.stat(i) or [0])[0]] for i, row in enumerate(rows)])


def of_spelt(parts: Iterable[LabelledImages]) -> str | None:
    """Digest of the names, labels and sizes of all images, the same whatever the form of accents
    (Unicode), on which a split may depend; None where names have none, so that there is one form.
    """
    sources = list(parts)
    if all(name.isascii() for source in sources for name in source.names):
        return None
    rows: list[list[str | int]] = [
        [unicodedata.normalize("NFC", name), int(source.labels[i]), (source.stat(i) or [0])[0]]
        for source in sources
        for i, name in enumerate(source.names)
    ]
    return of_value(sorted(rows))


def of_data(splits: LabelledParts, contents: dict[str, list[bytes] | None]) -> dict[str, Any]:
    """Digests of a dataset.

    Args:
        splits: the dataset.
        contents: by part, see `of_images`.

    Returns:
        For each part {"names": by names and sizes, "contents": by contents, None where images are
        streamed and nothing has read them all, "files" and "pictures": the same without ids,
        "groups": of these, None where there are none, "count"}, under "data" one digest of all
        images, by contents where they are known, and under "spelt" another, see `of_spelt`.
    """
    parts: dict[str, Any] = {}
    for name, part in splits.parts.items():
        known = contents.get(name)
        parts[name] = {
            "names": of_images(part, splits.classes, None),
            "contents": of_images(part, splits.classes, known) if known else None,
            "pictures": _of_pictures(part, known) if known else None,
            "files": of_files(part),
            "groups": None if part.groups is None else of_value(part.groups.tolist()),
            "count": len(part.names),
        }
    data = of_value([best(part) for part in parts.values()])
    return parts | {"data": data, "spelt": of_spelt(splits.parts.values())}


def best(part: Mapping[str, Any]) -> str:
    """The digest of a part by its contents, or by names and sizes where they are not known."""
    return part["contents"] or part["names"]


def respelt(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two digests of a dataset that is not the same say that the images are, and that names
    of theirs have their accents in another form."""
    return bool(old.get("spelt")) and old["spelt"] == new.get("spelt") and bool(changed(old, new))


def changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The parts of a dataset that two digests of it say are not the same, in words.

    Ids count on from part to part. So a later part that differs only in its ids is not named where
    an earlier part has changed, since that explains it. The training images are the first part.
    """
    parts = [
        name
        for name in ("train", "validation", "test")
        if (name in old) != (name in new) or (name in old and differ(old[name], new[name]))
    ]
    files = {name: [known.get(name, {}).get("files") for known in (old, new)] for name in parts}
    others = [
        name
        for name in parts
        if name == "train" or None in files[name] or len(set(files[name])) > 1
    ]
    counts = {name: [known.get(name, {}).get("count", 0) for known in (old, new)] for name in parts}
    return [
        f"{name} images" + (f" ({then:,}, now {now:,})" if then and then != now else "")
        for name in others or parts
        for then, now in [counts[name]]
    ]


def completed(new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
    """Digests of a dataset, with the contents that earlier digests have of the same names and
    sizes.

    Whether contents are read depends on where decoded images live, which may change from start to
    start. What is known of the contents shall not be lost by that.
    """
    known = dict(new)
    for name in ("train", "validation", "test"):
        if name in new and name in old and not new[name]["contents"]:
            same = new[name]["names"] == old[name]["names"]
            read = {key: old[name].get(key) for key in ("contents", "pictures")}
            known[name] = new[name] | (read if same else {})
    parts = [known[name] for name in ("train", "validation", "test") if name in known]
    return known | {"data": of_value([best(part) for part in parts])}


def same_images(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two digests of a part are of the same images, names and labels, whatever their ids,
    which another number of training images moves. Earlier versions kept names and sizes for it."""
    for key in ("pictures", "files"):
        if one.get(key) and other.get(key):
            return one[key] == other[key]
    return not differ(one, other)


def differ(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two digests of a part say that it is not the same."""
    if old["contents"] and new["contents"]:
        return old["contents"] != new["contents"]
    return old["names"] != new["names"]
