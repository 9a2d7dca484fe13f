"""Kept photographs inside a page, within a number of bytes, and what a network attends to."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, UnidentifiedImageError

from fgvc_jax.figures import page

DARKEST = 0.3  # of a picture's light, where nothing is attended to


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

    def show(self, index: int, alternative: str, side: int = page.THUMBNAIL) -> str:
        """Image `index`, at most `side` pixels long."""
        picture = self._open(index)
        return self._spend(picture, alternative, side)

    def spotlight(self, index: int, member: int, alternative: str) -> str:
        """What a member saw of image `index`, dark where its map Z is at or below its mean."""
        picture = self._open(index)
        if picture is not None:
            picture = lit(picture, self._attention(index, member), self._share)
        return self._spend(picture, alternative, page.THUMBNAIL)

    def _open(self, index: int) -> Image.Image | None:
        try:
            return Image.open(io.BytesIO(self._encoded(index))).convert("RGB")
        except UnidentifiedImageError:
            return None

    def _spend(self, picture: Image.Image | None, alternative: str, side: int) -> str:
        if picture is not None and self._left > 0:
            made = page.image(picture, alternative, side)
            self._left -= len(made)
            if self._left >= 0:
                return made
        text = page.escape(alternative)
        return f'<span class="none" role="img" aria-label="{text}">no picture</span>'


def lit(picture: Image.Image, attention: np.ndarray, share: float) -> Image.Image:
    """The centre of a picture, as bright as a map Z (h, w) is high there."""
    side = max(1, round(min(picture.size) * share))
    left, top = ((length - side) // 2 for length in picture.size)
    centre = picture.crop((left, top, left + side, top + side))
    values = np.maximum(np.nan_to_num(np.asarray(attention, np.float32)), 0)
    values = Image.fromarray(values / (values.max() or 1)).resize(centre.size, Image.BICUBIC)
    light = DARKEST + (1 - DARKEST) * np.clip(np.asarray(values), 0, 1)
    return Image.fromarray(np.uint8(np.asarray(centre) * light[..., None]))
