"""Published datasets as people find them: which release it is, and where it begins."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from fgvc_jax.data.files import dataset_root, is_folder, listing, shown
from fgvc_jax.utils import paths
from fgvc_jax.utils.errors import UserError

LOOKED_AT = 500  # folders below one that has no index, at the most
WITH_LABELS = "cars_test_annos_withlabels.mat"


def home(kind: str, path: str, *indices: str) -> Path:
    """The dataset's folder, in which one of the indices (files or folders) should be.

    Raises:
        UserError: where it is in a folder further down, naming that.
    """
    root = dataset_root(path)
    if any((root / name).exists() for name in indices):
        return root
    for folder in islice(_below(root), LOOKED_AT):
        if any((folder / name).exists() for name in indices):
            raise UserError(
                f"{shown(root)} has no {' or '.join(indices[:2])}, and {shown(folder)} has: give "
                f"{kind}:{folder}"
            )
    return root


def _below(root: Path, levels: int = 2) -> Iterator[Path]:
    """The folders in a folder, then those in them."""
    level = [root]
    for _ in range(levels):
        level = [
            Path(item.path)
            for folder in level
            for item in islice(listing(folder), LOOKED_AT)
            if is_folder(item)
        ]
        yield from level


def check_cub(root: Path) -> None:
    """Raise a UserError for a relative of CUB-200-2011 that has another layout."""
    list_instead = (
        "write a list with the columns path,label,split beside its images and give csv:FILE"
    )
    if (root / "hierarchy.txt").is_file() or _has_uuids(root / "images.txt"):
        raise UserError(
            f"{shown(root)} is NABirds, whose images have no numbers and whose classes are a tree: "
            f"{list_instead}"
        )
    if (root / "lists" / "files.txt").is_file():
        raise UserError(
            f"{shown(root)} is CUB-200 of 2010, which has other images than CUB-200-2011 and names "
            f"them in lists/: {list_instead}"
        )


def _has_uuids(index: Path) -> bool:
    try:
        with paths.readable(index).open("rb") as file:
            return bool(re.match(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]+\s", file.read(64)))
    except OSError:
        return False


def cars_is_single(root: Path) -> bool:
    """Whether Stanford Cars is there as its second release, all images in one folder, rather than
    as its first: the index whose images exist wins.

    Raises:
        UserError: where it is neither, naming what it is.
    """
    single, first = (root / "cars_annos.mat").is_file(), (root / "devkit").is_dir()
    if single and (root / "car_ims").is_dir():
        return True
    for nested in ("cars_train/cars_train", "cars_test/cars_test"):
        # An empty one is what is left of it when somebody has moved the images.
        if (root / nested).is_dir() and listing(root / nested):
            raise UserError(
                f"{shown(root)} is Kaggle's copy of Stanford Cars, which has its images one folder "
                "deeper and another index: move the images of cars_train/cars_train/ and "
                "cars_test/cars_test/ up to cars_train/ and cars_test/, and put the makers' "
                f"devkit/ and {WITH_LABELS} beside these"
            )
    for place in (root / "car_data" / "car_data", root / "car_data"):
        if (place / "train").is_dir():
            raise UserError(
                f"{shown(root)} is Kaggle's copy of Stanford Cars by class folders: give "
                f"folder:{place}"
            )
    if single and not (first and (root / "cars_train").is_dir()):
        raise UserError(
            f"{shown(root)} has cars_annos.mat without the images that it lists: unpack car_ims/ "
            "beside it, or give the release with devkit/, cars_train/ and cars_test/"
        )
    if not first:
        deeper = next((f / "devkit" for f in _below(root, 1) if (f / "devkit").is_dir()), None)
        if deeper and (root / "cars_train").is_dir():
            raise UserError(f"{shown(root)} has its devkit/ in {shown(deeper)}: move it up")
        raise UserError(
            f"{shown(root)} holds neither cars_annos.mat (with car_ims/) nor devkit/ (with "
            "cars_train/ and cars_test/): give the folder of one of the two releases"
        )
    return False


def cars_test_labels(root: Path) -> Path:
    """The file of the test part's labels, which was published later than the devkit.

    Raises:
        UserError: when it is missing.
    """
    places = root / WITH_LABELS, root / "devkit" / WITH_LABELS
    for place in places:
        if place.is_file():
            return place
    near = [file for place in places for file in sorted(place.parent.glob("*withlabels*.mat"))]
    hint = f"rename {shown(near[0])}" if near else "fetch it and put it beside devkit/"
    raise UserError(
        f"annotation file {shown(places[1])} does not exist: it has the labels of the test part, "
        f"which Stanford Cars has in a file apart from its devkit: {hint}"
    )
