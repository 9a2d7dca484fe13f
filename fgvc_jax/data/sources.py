"""The names users type (`sketchbirds`, `cub:PATH`, ...) -> train, validation and test sources."""

import difflib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fgvc_jax.data import coco, csvfile, folders, layouts
from fgvc_jax.data.files import dataset_root
from fgvc_jax.data.names import confused, in_the_form_of
from fgvc_jax.data.records import (
    Opening,
    Source,
    Splits,
    Subset,
    check_names,
    split_keys,
    stratified,
)
from fgvc_jax.utils import paths
from fgvc_jax.utils.errors import UserError

__all__ = ["Source", "Splits", "Subset", "open_source", "restrict"]


FOLDER_SEED = 0  # of the split of a folder or list without a test part, the same for all runs
log = logging.getLogger(__name__)


def _sketchbirds(path: str, how: Opening) -> Splits:
    from fgvc_jax.data.sketchbirds import SEED, open_sketchbirds

    if path:
        raise UserError(f"sketchbirds is drawn on the fly and takes no path: not {path!r}")
    return open_sketchbirds(seed=SEED)


def _tfds(path: str, how: Opening) -> Splits:
    from fgvc_jax.data.tfds import open_tfds

    return open_tfds(path, how)


OPENERS: dict[str, Callable[[str, Opening], Splits]] = {
    "sketchbirds": _sketchbirds,
    "folder": lambda path, how: folders.open_folder(path, how, seed=FOLDER_SEED),
    "csv": lambda path, how: csvfile.open_csv(path, how, seed=FOLDER_SEED),
    "coco": lambda path, how: coco.open_coco(path, how, seed=FOLDER_SEED),
    "cub": layouts.open_cub,
    "cars": layouts.open_cars,
    "aircraft": layouts.open_aircraft,
    "ultra": layouts.open_ultra,
    "tfds": _tfds,
}
PATHLESS = ("sketchbirds",)


def open_source(
    spec: str,
    *,
    to_train: bool = True,
    allow_links: str = "",
    faults: list[str] | None = None,
    split_by: str = "",
) -> Splits:
    """Opens the dataset that `spec` names: `sketchbirds`, or `NAME:PATH` with NAME in `OPENERS`.

    Where it is not opened `to_train`, what has no parts is not split: all of it is the test part,
    and there may be no other. Links may lead into the folder `allow_links`, beside the dataset's.
    Of a list, images of one value in the column `split_by` are never in two parts. To `faults` is
    added what is wrong with single images, rows and folders, which are not used then; without it
    the first is raised.

    The images and their split are the same for every seed of a run, so that runs with other seeds
    are judged on the same test images. Only indices are read here, images when they are asked for.
    Raises UserError if the name is unknown, if what is on disk is missing or contradicts itself, or
    if a class has no image to train on, which matters `to_train` only.
    """
    name, _, path = spec.partition(":")
    known = ", ".join(key if key in PATHLESS else f"{key}:PATH" for key in OPENERS)
    if name not in OPENERS:
        near = difflib.get_close_matches(name, OPENERS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"unknown data source {spec!r}: {hint}known are {known}")
    if not path and name not in PATHLESS:
        raise UserError(f"data source {spec!r} lacks what follows the colon: write {name}:PATH")
    if split_by and name != "csv":
        raise UserError(
            f"--data.split-by {split_by!r} names a column of a list, and {spec!r} is none: give "
            "csv:FILE, or leave it out"
        )
    how = Opening(to_train, _links(allow_links), faults, split_by)
    splits = OPENERS[name](path, how)
    check_names(splits.classes, f"{spec!r}")
    if splits.own and (several := confused(splits.classes)):
        log.warning(
            "warning: the classes %s of %r may be one under several names%s: keep one name",
            " and ".join(map(repr, several[0])),
            spec,
            f" (and {len(several) - 1:,} more such)" if len(several) > 1 else "",
        )
    if to_train:
        with how.each():
            _check_every_class_has_images(splits, spec)
    return splits


def _links(text: str) -> Path | None:
    """The folder that links may lead into, where one is named."""
    if not text:
        return None
    path = paths.local(text, "--data.allow-links")
    if not os.path.isdir(path):
        raise UserError(
            f"--data.allow-links {text!r} is no folder: name the one that links lead to"
        )
    return path


def _check_every_class_has_images(splits: Splits, spec: str) -> None:
    counts = np.bincount(splits.train.labels, minlength=len(splits.classes))
    if not counts.all():
        empty = [splits.classes[label] for label in np.flatnonzero(counts == 0)]
        more = f" (nor have {len(empty) - 1} other classes)" if len(empty) > 1 else ""
        raise UserError(
            f"class {empty[0]!r} has no training image in {spec!r}{more}: add images or remove the "
            "class"
        )


def check_can_learn(splits: Splits) -> None:
    """Raise a UserError where there is nothing to tell apart."""
    if len(splits.classes) < 2:
        raise UserError(
            f"there is one class, {splits.classes[0]!r}, and a network learns to tell classes "
            "apart: give at least 2 (--data.classes keeps the first so many)"
        )


def check_outside(spec: str, folder: str | os.PathLike) -> None:
    """Raise a UserError where a folder that a run writes would lie among the class folders that it
    reads; empty is no folder."""
    name, _, path = spec.partition(":")
    path = path.removesuffix(folders.NESTED)
    if name != "folder" or not folder or not os.path.isdir(os.path.expanduser(path)):
        return
    if Path(folder).expanduser().resolve().is_relative_to(dataset_root(path).resolve()):
        raise UserError(
            f"{str(folder)!r} is inside the dataset, where what a run writes would be taken for a "
            "class: name another folder"
        )


def restrict(
    splits: Splits, *, classes: int, images_per_class: int, validation: float, seed: int
) -> Splits:
    """The same dataset, smaller, and with a validation part.

    classes: keep the first so many classes in every part (0: all).
    images_per_class: of each class keep the first so many training images (0: all).
    validation: move this fraction of the remaining training images, stratified and chosen by
      `seed`, to the validation part (0: none); every class keeps a training image, and groups
      stay together.
    Labels and ids stay what they were. Raises UserError if it cannot be done.
    """
    available = len(splits.classes)
    if not 0 <= classes <= available:
        raise UserError(
            f"data.classes={classes} must be 0 (all) or at most {available}, the classes there are"
        )
    if images_per_class < 0:
        raise UserError(f"data.images_per_class={images_per_class} must be 0 (all) or more")
    if not 0.0 <= validation < 1.0:
        raise UserError(f"data.validation={validation} is a fraction: it must be in [0, 1)")
    if validation and splits.validation is not None:
        raise UserError(
            f"data.validation={validation}, but the dataset has a validation part of its own: "
            "set data.validation to 0"
        )
    if classes:
        splits = _first_classes(splits, classes)
    if images_per_class:
        seen = _occurrence(splits.train.labels)
        splits = replace(splits, train=_where(splits.train, seen < images_per_class))
    if validation:
        splits = _split_validation(splits, validation, seed)
    return splits


def _where(source: Source, mask: np.ndarray) -> Source:
    return Subset(source, np.flatnonzero(mask))


def _first_classes(splits: Splits, count: int) -> Splits:
    def kept(source: Source) -> Source:
        return _where(source, source.labels < count)

    parts: dict[str, Any] = {name: kept(part) for name, part in splits.parts.items()}
    for name, part in parts.items():
        if not len(part):
            raise UserError(
                f"data.classes={count} leaves no {name} image: raise it, or add images of the "
                f"first {count} classes to that part"
            )
    lineages = splits.lineages[:count]
    return replace(splits, **parts, classes=splits.classes[:count], lineages=lineages)


def _occurrence(labels: np.ndarray) -> np.ndarray:
    """How many earlier entries have the same label: (N,)."""
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[order])
    seen = np.empty(len(labels), np.int64)
    seen[order] = np.arange(len(labels)) - starts
    return seen


def _split_validation(splits: Splits, fraction: float, seed: int) -> Splits:
    train = splits.train
    keys = split_keys("validation", train.ids, train.groups)
    marked = stratified(train.labels, keys, fraction, seed=seed, at_least=0)
    if not marked.any():
        largest = int(np.bincount(train.labels).max())
        raise UserError(
            f"data.validation={fraction} takes no image: the largest class has {largest} training "
            "images and must keep one, and groups stay together; raise the fraction or the number "
            "of images"
        )
    return replace(splits, train=_where(train, ~marked), validation=_where(train, marked))


def with_classes(
    source: Source, theirs: Sequence[str], ours: Sequence[str], spec: str, *, some: bool = False
) -> Source:
    """A source whose labels count the classes as the members do; they are compared by name,
    whatever the form of accents.

    Args:
        source: of a dataset.
        theirs: names of its classes, by label.
        ours: names of the members' classes, by label.
        spec: the dataset's, for messages.
        some: the members were trained on some classes of their dataset, by --data.classes: images
            of classes that they do not know are left out.

    Raises:
        UserError: when there are names that the members do not know, naming what is missing and
            what is new; or when no image is left.
    """
    theirs = in_the_form_of(ours, theirs)
    missing, surplus = sorted(set(ours) - set(theirs)), sorted(set(theirs) - set(ours))
    if surplus and not some:
        told = [
            f"{word}: {', '.join(map(repr, names[:5]))}" + (" ..." if len(names) > 5 else "")
            for word, names in (("missing", missing), ("not known to the members", surplus))
            if names
        ]
        raise UserError(
            f"{spec!r} has {len(theirs)} classes and the members know {len(ours)} "
            f"({'; '.join(told)}): name a --source with the same classes"
        )
    if missing:
        log.warning(
            "warning: %r has none of %s, such as %r: they are not judged",
            spec,
            "one class" if len(missing) == 1 else f"{len(missing):,} classes",
            missing[0],
        )
    places = {name: label for label, name in enumerate(ours)}
    translate = np.array([places.get(name, -1) for name in theirs], np.int32)
    known = np.flatnonzero(translate[source.labels] >= 0)
    if not len(known):
        raise UserError(f"{spec!r} has no image of the classes that the members know")
    relabelled = Subset(source, known)
    relabelled.labels = translate[source.labels[known]]
    return relabelled
