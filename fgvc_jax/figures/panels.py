"""Pictures of what a network looks at: a photograph under maps of evidence, in labelled rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fgvc_jax.figures.colours import scale
from fgvc_jax.figures.lettering import draw_text, length

SIDE = 256  # pixels of a tile
GAP = 20
MARGIN = 32
TITLE, WORD = 22, 13  # size of a title's letters, and what is between its pieces
COLUMNS = 6  # of tiles, at the most; more go on below
FEWEST = 3  # columns that a sheet is wide, so that its title has room

PAPER, INK, SOFT, LINE = "#ffffff", "#1d1f21", "#5c6166", "#d8d5ce"
COVER, FADING = 0.85, 0.8  # share of the photograph where the evidence is strongest, and exponent
BLUR = 1 / 48  # of a side: smooths the creases of maps that are much coarser
HALF = 0.5  # of the largest value: what is above is outlined

Piece = tuple[str, bool]  # of a title, and whether it is strong


@dataclass(frozen=True)
class Tile:
    """A photograph and what lies over it.

    image: (S, S, 3) uint8. values: (S', S') float, at least 0 where there is evidence, None to show
    the photograph alone. title: in strong letters, such as a class. value: beside it, such as a
    probability. note: below.
    """

    image: np.ndarray
    values: np.ndarray | None = None
    title: str = ""
    value: str = ""
    note: str = ""


@dataclass(frozen=True)
class PanelRow:
    """Tiles under a heading, and what it means in a few words."""

    heading: str
    about: str
    tiles: Sequence[Tile]


def overlay(image: np.ndarray, values: np.ndarray, side: int = SIDE) -> Image.Image:
    """A photograph in gray, coloured where the evidence is, its upper half outlined in white.

    Args:
        image: (S, S, 3) uint8.
        values: (S', S'); the largest becomes the brightest, what is not above 0 stays gray.
        side: of the picture, in pixels.
    """
    from scipy.ndimage import gaussian_filter

    size = (side, side)
    gray = Image.fromarray(image).convert("L").resize(size, Image.Resampling.BICUBIC)
    values = np.maximum(np.nan_to_num(np.asarray(values, np.float32)), 0)
    values = values / (values.max() or 1)
    values = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR))
    values = gaussian_filter(values, side * BLUR, mode="nearest")
    values /= values.max() or 1
    colour = scale()[np.round(255 * values).astype(np.uint8)]
    cover = _cover(values)
    mixed = np.asarray(gray, np.float32)[..., None] * (1 - cover) + colour * cover
    inside = Image.fromarray(255 * (values >= HALF).astype(np.uint8))
    outline = np.asarray(inside) != np.asarray(inside.filter(ImageFilter.MinFilter(5)))
    mixed[outline] = 255
    return Image.fromarray(np.round(mixed).astype(np.uint8))


def _cover(values: np.ndarray) -> np.ndarray:
    """(..., 1) how much of the photograph is covered where the map is so large."""
    return (COVER * values**FADING)[..., None]


def sheet(
    title: Sequence[Piece], note: str, rows: Sequence[PanelRow], *, columns: int = COLUMNS
) -> Image.Image:
    """All rows on one page.

    Args:
        title: its pieces, side by side; what is strong is cut where there is no room.
        note: under it.
        rows: from the top.
        columns: tiles side by side; a row with more goes on below itself.
    """
    widest = max(min(max(len(row.tiles) for row in rows), columns), FEWEST)
    width = 2 * MARGIN + widest * SIDE + (widest - 1) * GAP
    lines = [[row.tiles[i : i + columns] for i in range(0, len(row.tiles), columns)]
             for row in rows]  # fmt: skip
    height = MARGIN + 62 + sum(56 + sum(map(_height, line)) for line in lines) + 54
    page = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(page)
    top = _head(draw, title, note, width)
    for row, line in zip(rows, lines, strict=True):
        top = _heading(draw, row, top, width)
        for tiles in line:
            for column, tile in enumerate(tiles):
                _place(page, draw, tile, MARGIN + column * (SIDE + GAP), top)
            top += _height(tiles)
    _legend(page, draw, top + 14, width)
    return page


def _height(tiles: Sequence[Tile]) -> int:
    titled = any(tile.title or tile.value for tile in tiles)
    return SIDE + 26 * titled + 20 * any(tile.note for tile in tiles) + 14


def _head(draw: ImageDraw.ImageDraw, title: Sequence[Piece], note: str, width: int) -> int:
    room, base = width - 2 * MARGIN, MARGIN + 20
    left: float = MARGIN
    for (text, strong), most in zip(title, _rooms(title, room), strict=True):
        colour = INK if strong else SOFT
        place = (left, base)
        used = draw_text(draw, place, text, size=TITLE, colour=colour, width=most, bold=strong)
        left += used + WORD
    draw_text(draw, (MARGIN, base + 26), note, size=14, colour=SOFT, width=room)
    return base + 42


def _rooms(title: Sequence[Piece], room: float) -> list[float]:
    """How long each piece may be: what is strong shares what the rest leaves, the short ones first,
    so that only the long are cut."""
    lengths = [length(text, size=TITLE, bold=strong) for text, strong in title]
    room -= WORD * (len(title) - 1)
    waiting = sum(strong for _, strong in title)
    for n in sorted(range(len(title)), key=lambda n: (title[n][1], lengths[n])):
        lengths[n] = min(lengths[n], room / waiting) if title[n][1] else lengths[n]
        room, waiting = room - lengths[n], waiting - title[n][1]
    return lengths


def _heading(draw: ImageDraw.ImageDraw, row: PanelRow, top: int, width: int) -> int:
    draw.line([(MARGIN, top + 10), (width - MARGIN, top + 10)], fill=LINE)
    room = width - 2 * MARGIN
    base = top + 38
    used = draw_text(draw, (MARGIN, base), row.heading, size=16, colour=INK, width=room, bold=True)
    place = (MARGIN + used + 12, base)
    draw_text(draw, place, row.about, size=14, colour=SOFT, width=room - used - 12)
    return top + 52


def _place(page: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, left: int, top: int) -> None:
    if tile.values is None:
        shown = Image.fromarray(tile.image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    else:
        shown = overlay(tile.image, tile.values)
    page.paste(shown, (left, top))
    base = top + SIDE + 20
    if tile.title or tile.value:
        room = SIDE - 62 if tile.value else SIDE
        used = draw_text(draw, (left, base), tile.title, size=15, colour=INK, width=room, bold=True)
        gap = 7 if tile.title else 0
        draw_text(draw, (left + used + gap, base), tile.value, size=15, colour=SOFT, width=62)
        base += 20
    draw_text(draw, (left, base), tile.note, size=13, colour=SOFT, width=SIDE)


def _legend(page: Image.Image, draw: ImageDraw.ImageDraw, top: int, width: int) -> None:
    """The scale of colours, on mid-gray as it lies over photographs."""
    size = (160, 12)
    ramp = np.broadcast_to(np.linspace(0, 1, size[0], dtype=np.float32), size[::-1])
    colour, cover = scale()[np.round(255 * ramp).astype(np.uint8)], _cover(ramp)
    bar = 128 * (1 - cover) + colour * cover
    page.paste(Image.fromarray(np.round(bar).astype(np.uint8)), (MARGIN, top))
    words = "Colours go from nothing to a picture's largest value; the line is around half of it."
    place = (MARGIN + size[0] + 12, top + 11)
    room = width - 2 * MARGIN - size[0] - 12
    draw_text(draw, place, words, size=13, colour=SOFT, width=room)
