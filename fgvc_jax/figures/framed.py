"""A photograph as a whole, with a frame around what a network sees of it."""

from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from fgvc_jax.data import framing
from fgvc_jax.data.images import Photograph, read, record_of
from fgvc_jax.data.view import Reading, View
from fgvc_jax.inference.embeddings import Embedder

DIMMED = 0.45  # of what is not seen, the share of its brightness that is left
LINE = "#ffffff", "#1d1f21"  # the frame and what is around it, one of which is visible on anything


class Framed(NamedTuple):
    """A photograph in its own aspect, darker outside of the frame; whole: it has no frame, since
    nothing of it is left out."""

    picture: Image.Image
    whole: bool


def framed(asked: Embedder, image: Photograph, side: int, paper: str) -> np.ndarray:
    """(side, side, 3) uint8: a photograph as `drawn`, on paper.

    Args:
        asked: whose view it is.
        image: a path, a PIL image or an (H, W, 3) uint8 array.
        side: of the picture, in pixels.
        paper: what is beside the photograph, a colour.
    """
    reading = asked.view.reading | asked.photographs.reading
    picture = drawn(asked.view, record_of(image), side, reading).picture
    return np.asarray(ImageOps.pad(picture, (side, side), color=paper))


def drawn(view: View, record: dict[str, Any], side: int, reading: Reading) -> Framed:
    """A photograph whose longer side has so many pixels.

    Args:
        view: what is seen of it.
        record: its own, see `images.decode`.
        side: pixels.
        reading: how it is read, see `View.reading` and `Photographs.reading`.

    Raises:
        UserError: when it cannot be read.
    """
    if isinstance(record["image"], np.ndarray):
        photograph = Image.fromarray(record["image"])
    else:
        photograph = read(record, orientation=reading["orientation"])
    width, height = photograph.width, photograph.height - reading["banner"]
    photograph = photograph.crop((0, 0, width, height))
    edges = framing.seen((width, height), reading["fit"], view.crop / view.test_side)
    scale = side / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(photograph.resize(size, Image.Resampling.LANCZOS), np.float32)
    left, top, right, bottom = (round(edge * scale) for edge in edges)
    right, bottom = max(right, left + 1), max(bottom, top + 1)  # of a sliver
    light = np.full((*size[::-1], 1), DIMMED, np.float32)
    light[top:bottom, left:right] = 1
    shown = Image.fromarray(np.round(small * light).astype(np.uint8))
    whole = (right - left, bottom - top) == size
    if not whole:
        draw = ImageDraw.Draw(shown)
        for out, colour in enumerate(LINE):
            draw.rectangle(
                (left - out, top - out, right - 1 + out, bottom - 1 + out), outline=colour
            )
    return Framed(shown, whole)
