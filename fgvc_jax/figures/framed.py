"""A photograph as a whole, with a frame around what a network sees of it."""

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from fgvc_jax.data import framing
from fgvc_jax.data.images import read, record_of
from fgvc_jax.inference.embeddings import Embedder

DIMMED = 0.45  # of what is not seen, the share of its brightness that is left
LINE = "#ffffff", "#1d1f21"  # the frame and what is around it, one of which is visible on anything


def framed(asked: Embedder, image: Any, side: int, paper: str) -> np.ndarray:
    """(side, side, 3) uint8: a photograph in its own aspect on paper, darker outside of the frame.

    Args:
        asked: whose view it is.
        image: a path, a PIL image or an (H, W, 3) uint8 array.
        side: of the picture, in pixels.
        paper: what is beside the photograph, a colour.
    """
    reading = asked.view.reading | asked.photographs.reading
    record = record_of(image)
    if isinstance(record["image"], np.ndarray):
        photograph = Image.fromarray(record["image"])
    else:
        photograph = read(record, orientation=reading["orientation"])
    width, height = photograph.width, photograph.height - reading["banner"]
    photograph = photograph.crop((0, 0, width, height))
    share = asked.view.crop / asked.view.test_side
    edges = framing.seen((width, height), reading["fit"], share)
    scale = side / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(photograph.resize(size, Image.Resampling.LANCZOS), np.float32)
    left, top, right, bottom = (round(edge * scale) for edge in edges)
    right, bottom = max(right, left + 1), max(bottom, top + 1)  # of a sliver
    light = np.full((*size[::-1], 1), DIMMED, np.float32)
    light[top:bottom, left:right] = 1
    shown = Image.fromarray(np.round(small * light).astype(np.uint8))
    if (right - left, bottom - top) != size:
        draw = ImageDraw.Draw(shown)
        for out, colour in enumerate(LINE):
            draw.rectangle(
                (left - out, top - out, right - 1 + out, bottom - 1 + out), outline=colour
            )
    page = Image.new("RGB", (side, side), paper)
    page.paste(shown, ((side - size[0]) // 2, (side - size[1]) // 2))
    return np.asarray(page)
