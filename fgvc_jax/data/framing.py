"""Which part of an image is shown, and how it becomes a square."""

import math
from typing import Literal, NamedTuple

from PIL import Image

Fit = Literal["squash", "crop", "pad"]
# ImageNet's mean colour, near zero however a network normalises: members may differ in that.
FILL = 124, 116, 104

Edges = tuple[float, float, float, float]  # left, top, right, bottom, in pixels


class Box(NamedTuple):
    """A part of an image, as it is when it was turned: its corner at the top left, and its sides.

    of: (width, height) of the image in the same unit, hence (1, 1) for fractions; None where they
    are the image's own pixels, however many it has.
    """

    x: float
    y: float
    width: float
    height: float
    of: tuple[float, float] | None = None

    @property
    def problem(self) -> str:
        """What is wrong with it as far as it tells by itself, after "the box ..."; "" if nothing
        is."""
        if not all(map(math.isfinite, self[:4])):
            return "is not four finite numbers"
        if self.width <= 0 or self.height <= 0:
            return "is empty"
        across, down = self.of or (math.inf, math.inf)
        if self.x + self.width <= 0 or self.y + self.height <= 0 or self.x >= across:
            return "is outside of its image"
        return "is outside of its image" if self.y >= down else ""

    def __str__(self) -> str:
        """As the fragment of an address (W3C, Media Fragments URI 1.0)."""
        fractions = self.of == (1, 1)
        numbers = (100 * number if fractions else number for number in self[:4])
        return f"#xywh={'percent:' * fractions}{','.join(f'{number:.6g}' for number in numbers)}"


def inside_box(box: Box, size: tuple[int, int], margin: float = 0.0, cut: int = 0) -> Edges:
    """The edges of a box in an image of (width, height) pixels, `margin` of its sides further out
    on every side, as far as the image goes above `cut` rows at its bottom.

    Raises:
        ValueError: what is wrong with the box, as `Box.problem`.
    """
    width, height = size
    across, down = box.of or size
    if box.problem:
        raise ValueError(box.problem)
    if width != height and (across, down) == (height, width) and box.of != (1, 1):
        raise ValueError(
            f"is of an image of {across} x {down} pixels, and this one, upright, has {width} x "
            f"{height}"
        )
    left, top = box.x * width / across, box.y * height / down
    right, bottom = left + box.width * width / across, top + box.height * height / down
    out, up = margin * (right - left), margin * (bottom - top)
    edges = (
        max(left - out, 0.0),
        max(top - up, 0.0),
        min(right + out, float(width)),
        min(bottom + up, float(height - cut)),
    )
    # A margin alone may reach into an image that the box itself is outside of.
    outside = left >= width or top >= height - cut
    if outside or edges[2] - edges[0] < 1 or edges[3] - edges[1] < 1:
        raise ValueError(f"has less than one pixel of its image of {width} x {height}")
    return edges


def fitted(
    image: Image.Image, edges: Edges, size: int, fit: Fit, fill: tuple[int, int, int]
) -> Image.Image:
    """What is between the edges in an image as a square of `size` pixels, see `images.decode`."""
    left, top, right, bottom = edges
    width, height = right - left, bottom - top
    if fit == "squash" or width == height:
        return image.resize((size, size), Image.Resampling.BILINEAR, edges)
    shorter, longer = sorted((width, height))
    if fit == "pad":
        short = max(1, round(shorter / longer * size))
        whole = (size, short) if width > height else (short, size)
        canvas = Image.new("RGB", (size, size), fill)
        place = round((size - whole[0]) * 0.5), round((size - whole[1]) * 0.5)
        canvas.paste(image.resize(whole, Image.Resampling.BILINEAR, edges), place)
        return canvas
    # Of the resized image, `long` pixels long, only the middle is ever made.
    long = int(size * longer / shorter)
    start = round((long - size) / 2.0)
    first, last = start / long, (start + size) / long
    if width > height:
        edges = left + first * width, top, left + last * width, bottom
    else:
        edges = left, top + first * height, right, top + last * height
    return image.resize((size, size), Image.Resampling.BILINEAR, edges)


def seen(size: tuple[int, int], fit: Fit, share: float) -> Edges:
    """The edges of what is seen of an image of (width, height) pixels: of the square that `fitted`
    makes of all of it the middle, `share` of its side."""
    width, height = size
    sides = {
        "squash": (width, height),
        "crop": (min(size), min(size)),
        "pad": (max(size), max(size)),
    }[fit]
    across, down = (min(side * share, length) for side, length in zip(sides, size, strict=True))
    left, top = (width - across) / 2, (height - down) / 2
    return left, top, left + across, top + down
