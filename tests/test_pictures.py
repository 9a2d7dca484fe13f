"""Photographs in a page: within their budget, and lit where a member looks."""

import io

import numpy as np
import pytest
from PIL import Image

from fgvc_jax.figures.pictures import DARKEST, Pictures, lit

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
    assert all('"a &quot;b&quot;"' in text for text in made)
    assert made[-1].endswith(">no picture</span>")


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_what_was_not_kept_is_said(content):
    pictures = Pictures(lambda _: content, attention, share=1, budget=10**6)
    assert "no picture" in pictures.show(0, "a") and "no picture" in pictures.spotlight(0, 1, "a")


def test_light_falls_where_the_map_is_high_in_the_square_that_was_seen():
    light = np.asarray(lit(WHITE, attention(0, 3), 0.5))
    assert light.shape == (20, 20, 3)
    assert light[:, 0].min() > 240
    np.testing.assert_allclose(light[:, -4:], 255 * DARKEST, atol=6)


def test_a_map_that_is_nowhere_high_lights_nothing():
    for value in (0, -1, np.nan):
        light = np.asarray(lit(WHITE, np.full((2, 2), value, np.float16), 1))
        np.testing.assert_allclose(light, 255 * DARKEST, atol=1)
