"""Kept photographs inside a page, within a number of bytes, and what a network attends to."""

import io
from collections.abc import Callable

import numpy as np
from markupsafe import Markup
from PIL import Image, UnidentifiedImageError

from fgvc_jax.figures import page
from fgvc_jax.figures.panels import overlay


class Pictures:
    """Makes <img> elements until a budget is spent; then, and where there is no picture, a word.

    Args:
        encoded: gives image i as a file's bytes, empty where there is none.
        attention: gives image i's map Z (h, w) of member n, counted from 1.
        share: of a picture's side, that of the square that members see of it.
        budget: bytes of HTML.
    """

    def __init__(
        self,
        encoded: Callable[[int], bytes],
        attention: Callable[[int, int], np.ndarray],
        *,
        share: float,
        budget: int,
    ):
        self._encoded = encoded
        self._attention = attention
        self._share = share
        self._left = budget

    def show(self, index: int, alternative: str, side: int = page.THUMBNAIL) -> Markup:
        """Image `index`, at most `side` pixels long."""
        picture = kept_picture(self._encoded(index))
        return self._spend(picture, alternative, side)

    def spotlight(self, index: int, member: int, alternative: str) -> Markup:
        """What a member saw of image `index`, coloured where its map Z is above its mean."""
        picture = kept_picture(self._encoded(index))
        if picture is not None:
            shown = np.asarray(centre_of(picture, self._share))
            picture = overlay(shown, self._attention(index, member), page.THUMBNAIL)
        return self._spend(picture, alternative, page.THUMBNAIL)

    def _spend(self, picture: Image.Image | None, alternative: str, side: int) -> Markup:
        if picture is not None and self._left > 0:
            made = page.image(picture, alternative, side)
            self._left -= len(made)
            if self._left >= 0:
                return made
        return page.no_image(alternative)


def without_maps(encoded: Callable[[int], bytes], budget: int) -> Pictures:
    """Those of photographs of which nobody kept where members look."""

    def attention(image: int, member: int) -> np.ndarray:
        raise ValueError("nobody kept where members look in these photographs")

    return Pictures(encoded, attention, share=1, budget=budget)


def kept_picture(encoded: bytes) -> Image.Image | None:
    """A kept picture; None where there is none."""
    try:
        return Image.open(io.BytesIO(encoded)).convert("RGB")
    except UnidentifiedImageError:
        return None


def centre_of(picture: Image.Image, share: float) -> Image.Image:
    """The centre of a picture, so large a share of its side."""
    side = max(1, round(min(picture.size) * share))
    left, top = ((length - side) // 2 for length in picture.size)
    return picture.crop((left, top, left + side, top + side))
