"""The training photographs that are nearest to an image, to be shown beside what is said of it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from fgvc_jax.figures.panels import PanelRow, Tile
from fgvc_jax.figures.pictures import kept_picture
from fgvc_jax.inference.model import Model
from fgvc_jax.utils.errors import UserError

SHOWN = 3  # photographs of a class
DRAWN = 4  # in a drawing, whose rows have as many columns as that of one network
Seen = Sequence[dict[str, np.ndarray]]  # of each member its "embedding" (1, D) at least


class Photograph(NamedTuple):
    """A training photograph, small, with its file's name and how similar it is."""

    picture: Image.Image
    name: str
    similarity: float


def nearest_of_classes(
    asked: Model, seen: Seen, classes: Sequence[int], most: int = SHOWN
) -> list[list[Photograph]]:
    """Of each class, by its number, the training photographs that members take for most like an
    image, the most similar first; nothing where the run keeps none.

    Args:
        asked: the members.
        seen: what each of them sees of the image, see `gradcam.Evidence`.
        classes: their numbers among all that the members know.
        most: photographs of a class.

    Raises:
        UserError: when what is seen of the image is not finite.
    """
    try:
        remembered = asked.remembered
    except UserError:
        return [[] for _ in classes]
    vectors = asked.whole(seen, ["the image"], normalize=True)
    found: list[list[Photograph]] = []
    for number in classes:
        found.append([])
        (rows,), (values,) = remembered.nearest(vectors, most, [number])
        for row, value in zip(rows.tolist(), values.tolist(), strict=True):
            picture = kept_picture(remembered.pictures[row] if remembered.pictures else b"")
            if picture is not None:
                name = remembered.part.names[row]
                found[-1].append(Photograph(picture, name.rpartition("/")[2] or name, value))
    return found


def panel_rows(asked: Model, seen: Seen, classes: Sequence[int]) -> list[PanelRow]:
    """The same as rows of a drawing."""
    numbers = list(dict.fromkeys(classes))
    near = nearest_of_classes(asked, seen, numbers, DRAWN)
    return [
        PanelRow(
            "Nearest training photographs",
            f"of {asked.classes[number]}, with how similar they are.",
            [
                Tile(np.asarray(each.picture), value=f"{each.similarity:.2f}", note=each.name)
                for each in found
            ],
        )
        for number, found in zip(numbers, near, strict=True)
        if found
    ]
