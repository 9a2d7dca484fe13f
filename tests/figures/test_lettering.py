"""Names in pictures: cut, escaped, and never a box for a letter that fonts lack."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fgvc_jax.figures import lettering


@pytest.fixture
def canvas():
    image = Image.new("RGB", (600, 40), "white")
    return image, ImageDraw.Draw(image)


def ink(image):
    """First and last column with ink."""
    columns = np.flatnonzero((np.asarray(image) < 200).any((0, 2)))
    return (columns[0], columns[-1]) if len(columns) else None


def put(draw, text, width=500, **style):
    return lettering.draw_text(draw, (10, 25), text, size=16, colour="black", width=width, **style)


@pytest.mark.parametrize("text", ["x" * 200, "W" * 100_000, "Fish Crow " * 40, "\u202e" * 300])
def test_a_long_name_stays_in_its_place(canvas, text):
    image, draw = canvas
    width = put(draw, text, width=200)
    assert 120 < width <= 200 and ink(image)[1] <= 10 + 200


def test_what_fits_is_whole(canvas):
    image, draw = canvas
    width = put(draw, "Fish Crow", bold=True)
    assert width == lettering.length("Fish Crow", size=16, bold=True)
    assert ink(image)[1] == pytest.approx(10 + width, abs=2)


@pytest.mark.parametrize("text", ["", "a\nb\u202ec<script>", "\udcff", "\x00"])
def test_nothing_and_the_hostile_are_drawn_on_one_line(canvas, text):
    image, draw = canvas
    put(draw, text)
    rows = np.flatnonzero((np.asarray(image) < 200).any((1, 2)))
    assert not text or (rows[0] >= 5 and rows[-1] <= 32)


def test_letters_that_no_font_has_are_escapes(monkeypatch):
    lettering._fonts.cache_clear()
    monkeypatch.setattr(lettering, "FAMILIES", ())  # Pillow's own alone
    assert lettering._font("a\u4e2db", 16, False)[1] == "a\\u4e2db"
    assert lettering._font("plain", 16, False)[1] == "plain"
    lettering._fonts.cache_clear()
