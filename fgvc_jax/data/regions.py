"""Where things are in the images of a dataset that knows it, as networks see them at test.

Drawn birds know their parts; CUB-200-2011 has a box around each bird (`bounding_boxes.txt`) and the
places of its parts (`parts/part_locs.txt`).
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fgvc_jax.data import augment, tables
from fgvc_jax.data.files import dataset_root, shown
from fgvc_jax.data.formats import FORMATS
from fgvc_jax.data.framing import Box
from fgvc_jax.data.images import decode
from fgvc_jax.data.layouts import BOXED, BOXES
from fgvc_jax.data.records import Source, origin
from fgvc_jax.data.sketchbirds import PARTS, Sketchbirds, defining_parts
from fgvc_jax.data.view import Reading, View
from fgvc_jax.utils.errors import UserError

PART_RADIUS = 0.08  # of a disc around a part's place, in sides of a square as large as the box
PLACES = "parts/part_locs.txt"

Masks = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Regions:
    """Regions of the images of one part of a dataset.

    about: what each is, by its name. of: image i -> (S, S) float32 in [0, 1] by name, how much of
    each pixel that a network sees is inside; all 0 where there is nothing of it.
    """

    about: Mapping[str, str]
    of: Callable[[int], Masks]


def find_regions(spec: str, source: Source, classes: int, view: View) -> Regions:
    """The regions that the dataset `spec` knows.

    Args:
        spec: as for `sources.open_source`.
        source: one of its parts.
        classes: how many of its classes are used, from the first.
        view: of the network.

    Raises:
        UserError: when the dataset knows no regions, or its files cannot be read.
    """
    name, _, path = spec.partition(":")
    if name == "sketchbirds":
        return _of_drawings(source, classes, view)
    if name == "cub":
        return _of_cub(dataset_root(path.removesuffix(BOXED)), source, view)
    raise UserError(
        f"{spec!r} does not say where things are in its images: sketchbirds does, and cub:PATH of "
        f"CUB-200-2011 with its {BOXES}"
    )


def seen(mask: np.ndarray, view: View, box: Box | None = None) -> np.ndarray:
    """A mask (H, W) bool as the network sees it: (S, S) float32 in [0, 1].

    It goes the same way as the image, of which perhaps only a box is shown: the banner that the
    view names is cut off, then it is fitted to the square, beside which nothing is inside, then
    cropped.
    """
    image = np.repeat(255 * mask.astype(np.uint8)[..., None], 3, axis=-1)
    record = {"image": image, "name": "mask", **({} if box is None else {"box": box})}
    how: Reading = {**view.reading, "orientation": "stored", "fill": (0, 0, 0)}
    square = decode(record, view.test_side, **how)
    cropped = augment.center_crop(square[None], crop=view.crop)  # type: ignore[arg-type]  # in numpy
    return np.asarray(cropped)[0, ..., 0]


# -- drawn birds -----------------------------------------------------------------------------------


def _of_drawings(source: Source, classes: int, view: View) -> Regions:
    birds, _ = origin(source, 0)
    if not isinstance(birds, Sketchbirds):
        raise UserError("only sketchbirds knows where its parts are")
    defining = defining_parts(birds.codes[:classes])

    def of(i: int) -> Masks:
        _, number = origin(source, i)
        masks, telling = birds.masks(number), defining[birds.labels[number]]
        chosen = [masks[part] for part, tells in zip(PARTS, telling, strict=True) if tells]
        together = {"parts": list(masks.values()), "telling parts": chosen}
        return {name: seen(np.any(some, axis=0), view) for name, some in together.items()}

    about = {
        "parts": "all visible parts of the bird",
        "telling parts": "those that tell its species from the nearest others",
    }
    return Regions(about, of)


# -- CUB-200-2011 ----------------------------------------------------------------------------------


def _of_cub(root: Path, source: Source, view: View) -> Regions:
    if not (root / BOXES).is_file():
        raise UserError(
            f"{shown(root)} has no {BOXES}, which says where the birds are: CUB-200-2011 as it is "
            "published has it"
        )
    boxes = tables.numbers_by_image(root / BOXES, 5)
    places: dict[int, list[tuple[float, float]]] = {}
    known = (root / PLACES).is_file()
    for key, (_, x, y, visible) in tables.number_rows(root / PLACES, 5) if known else ():
        if visible:
            places.setdefault(key, []).append((x, y))
    missing = [key for key in np.asarray(source.ids).tolist() if key not in boxes]
    if missing:
        raise UserError(f"{shown(root / BOXES)} lacks image {missing[0]}: is it complete?")

    def of(i: int) -> Masks:
        key = int(source.ids[i])
        files, number = origin(source, i)
        across, down = _size(files, number)
        y, x = np.arange(down)[:, None] + 0.5, np.arange(across) + 0.5  # of pixels' centres
        left, top, width, height = boxes[key]
        inside = (x >= left) & (x < left + width) & (y >= top) & (y < top + height)
        masks = {"box": inside}
        if known:
            masks["parts"] = np.zeros_like(inside)
            for column, row in places.get(key, ()):
                near = (x - column) ** 2 + (y - row) ** 2 <= PART_RADIUS**2 * width * height
                masks["parts"] |= near
        box = getattr(files, "boxes", {number: None})[number]
        return {name: seen(mask, view, box) for name, mask in masks.items()}

    about = {"box": "the box around the bird"}
    if known:
        about["parts"] = "discs around the places of its visible parts"
    return Regions(about, of)


def _size(files: Source, i: int) -> tuple[int, int]:
    with Image.open(io.BytesIO(files[i]["image"]), formats=FORMATS) as image:
        return image.size
