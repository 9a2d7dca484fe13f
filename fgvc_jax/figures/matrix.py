"""The confusion matrix as a drawing, with classes that are taken for each other side by side."""

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from markupsafe import Markup

from fgvc_jax.figures.numbers import Class, Pair
from fgvc_jax.figures.page import render
from fgvc_jax.utils.text import printable

LARGEST = 500  # classes that are drawn
READABLE = 40  # classes whose names can be read without enlarging
CELL, NAMES = 18, 165  # units: a cell's side, and what the names beside it may take
MARGIN = 6  # units between a name and its row
# Units that a letter takes in DejaVu Sans, which is wide; one that is not named takes WIDTH.
WIDTHS = {
    **dict.fromkeys("ijl.,:;|!'- ", 4.0),
    **dict.fromkeys("frt", 4.6),
    **dict.fromkeys("csz_", 6.0),
    **dict.fromkeys("mwMW@%", 11.0),
}
WIDTH, CAPITAL, IDEOGRAPH, DOTS = 7.0, 8.5, 11.0, 11.0


def confusion(classes: Sequence[Class], pairs: Sequence[Pair]) -> Markup:
    """A row for each class, in which its images are where they were named; empty where there are
    too many classes, or none was taken for another.

    Args:
        classes: of all images, in any order.
        pairs: classes that are taken for each other; where there are many, those that are so most.
    """
    if len(classes) > LARGEST or not pairs:
        return Markup()
    named = {entry["label"]: entry for entry in classes}
    counts = {label: {label: entry["right"]} for label, entry in named.items()}
    for pair in pairs:
        for (one, other), count in zip(
            (pair["classes"], pair["classes"][::-1]), pair["counts"], strict=True
        ):
            counts[one][other] = count
    order = ordered(len(classes), pairs, sorted(named))
    places = {label: place for place, label in enumerate(order)}
    cells = [
        {
            "row": places[one],
            "column": places[other],
            "count": count,
            "share": min(count / max(named[one]["images"], 1), 1),
            "one": named[one],
            "other": named[other],
        }
        for one in order
        for other, count in counts[one].items()
        if count
    ]
    drawn = sum(count for row in counts.values() for count in row.values())
    return render(
        "matrix.html",
        cells=cells,
        left=max(sum(entry["images"] for entry in classes) - drawn, 0),
        names=[cut(named[label]["class"], NAMES - MARGIN) for label in order],
        readable=len(order) <= READABLE,
        cell=CELL,
        room=NAMES,
        margin=MARGIN,
    )


def cut(name: str, room: float) -> str:
    """A name, or as much of it as has room in so many units; the drawing would cut off its start,
    and no text in a drawing ends itself."""
    name = printable(name)
    ends = [0.0, *accumulate(map(_width, name))]
    if ends[-1] <= room:
        return name
    return f"{name[: bisect_right(ends, room - DOTS) - 1]}…"


def _width(letter: str) -> float:
    if unicodedata.east_asian_width(letter) in "WF":
        return IDEOGRAPH
    return WIDTHS.get(letter, CAPITAL if letter.isupper() else WIDTH)


def ordered(count: int, pairs: Sequence[Pair], labels: Sequence[int]) -> list[int]:
    """The labels so that classes which are taken for each other are neighbours: the leaves of an
    average linkage by how often they are."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    places = {label: place for place, label in enumerate(labels)}
    together = np.zeros((count, count))
    for pair in pairs:
        one, other = (places[label] for label in pair["classes"])
        share = sum(
            wrong / max(images, 1)
            for wrong, images in zip(pair["counts"], pair["images"], strict=True)
        )
        together[one, other] = together[other, one] = share
    if count < 3:
        return list(labels)
    apart = 2 - np.minimum(together, 2)  # two classes that are always exchanged have a share of 2
    np.fill_diagonal(apart, 0)
    return [labels[place] for place in leaves_list(linkage(squareform(apart), "average"))]
