"""Photographs in a page: within their budget, and coloured where a member looks."""

import io

import numpy as np
import pytest
from PIL import Image

from fgvc_jax.figures import page
from fgvc_jax.figures.pictures import Pictures, centre_of

WHITE = Image.new("RGB", (40, 40), "white")


def encoded(_index):
    file = io.BytesIO()
    WHITE.save(file, "PNG")
    return file.getvalue()


def attention(_image, member):
    values = np.zeros((4, 4), np.float16)
    values[:, 0] = member
    return values


def test_where_the_budget_ends_a_word_stands_for_the_picture():
    pictures = Pictures(encoded, attention, share=1, budget=1000)
    made = [pictures.show(0, 'a "b"') for _ in range(9)]
    shown = [text for text in made if text.startswith("<img src=")]
    assert 0 < len(shown) < 9 and sum(map(len, shown)) <= 1000
    assert all('"a &#34;b&#34;"' in text for text in made)
    assert made[-1].endswith(">no picture</span>")


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_what_was_not_kept_is_said(content):
    pictures = Pictures(lambda _: content, attention, share=1, budget=10**6)
    assert "no picture" in pictures.show(0, "a") and "no picture" in pictures.spotlight(0, 1, "a")


def test_colour_falls_where_the_map_is_high_in_the_square_that_was_seen(monkeypatch):
    made = []
    monkeypatch.setattr(page, "image", lambda picture, *_: made.append(picture) or "")
    Pictures(encoded, attention, share=0.5, budget=10**6).spotlight(0, 3, "a")
    colour = np.asarray(made[0]).astype(int)
    assert np.ptp(colour[:, 2], axis=-1).min() > 30
    assert (colour[:, -40:] == 255).all()  # white in gray is white


def test_the_square_that_was_seen_is_the_centre():
    picture = Image.new("RGB", (40, 20))
    picture.putpixel((20, 10), (9, 9, 9))
    centre = centre_of(picture, 0.5)
    assert centre.size == (10, 10) and centre.getpixel((5, 5)) == (9, 9, 9)
    assert centre_of(picture, 0.001).size == (1, 1)
