"""Photographs under maps, and the sheets that they are on."""

import numpy as np

from fgvc_jax.figures import panels
from fgvc_jax.figures.colours import scale
from fgvc_jax.figures.panels import PanelRow, Tile

GREEN = np.broadcast_to(np.array([40, 160, 80], np.uint8), (20, 20, 3)).copy()


def corner():
    values = np.zeros((20, 20), np.float32)
    values[:8, :8] = 3.0
    return values


def test_the_strongest_place_has_the_brightest_colour_and_the_rest_stays_gray():
    picture = np.asarray(panels.overlay(GREEN, corner(), side=100)).astype(int)
    assert picture.shape == (100, 100, 3)
    gray = picture[80, 80]
    assert np.ptp(gray) == 0
    expected = panels.COVER * scale()[255] + (1 - panels.COVER) * gray
    np.testing.assert_allclose(picture[15, 15], expected, atol=8)
    white = (picture == 255).all(-1)  # its outline, at half of the largest value
    assert white.any() and white[30:50, 10].any() and not white[60:].any()


def test_a_map_without_evidence_colours_nothing():
    for values in (np.zeros((5, 5)), -np.ones((5, 5)), np.full((5, 5), np.nan)):
        picture = np.asarray(panels.overlay(GREEN, values, side=50))
        assert len(np.unique(picture)) == 1


def test_a_sheet_holds_any_number_of_tiles_and_hostile_names():
    tiles = [Tile(GREEN, corner(), "\u202ex\n" * 200, "99.9%", "<script>" * 99) for _ in range(14)]
    title = [("a" * 500, True), ("rather than", False), ("b\n" * 500, True)]
    rows = [PanelRow("Image", "", [Tile(GREEN)]), PanelRow("x" * 300, "y" * 300, tiles)]
    page = panels.sheet(title, "z" * 5000, rows)
    width = 2 * panels.MARGIN + 6 * panels.SIDE + 5 * panels.GAP
    assert page.width == width and page.height > 4 * panels.SIDE
    pixels = np.asarray(page)
    paper = (pixels == 255).all(-1)
    edge = panels.MARGIN // 2
    for margin in (paper[:edge], paper[-edge:], paper[:, :edge], paper[:, -edge:]):
        assert margin.all()
    # 14 tiles are six, six and two: the last line's third place is empty.
    last = pixels[-54 - panels.SIDE : -100]
    third = panels.MARGIN + 2 * (panels.SIDE + panels.GAP)
    assert (last[:, third:] == 255).all() and (last[:, : third - panels.GAP] != 255).any()


def test_a_sheet_of_one_image_has_room_for_its_title():
    page = panels.sheet([("a", True)], "b", [PanelRow("c", "", [Tile(GREEN)])])
    assert page.width == 2 * panels.MARGIN + 3 * panels.SIDE + 2 * panels.GAP


def test_only_the_long_piece_of_a_title_is_cut():
    title = [("a" * 99, True), ("rather than", False), ("short", True)]
    rooms = panels._rooms(title, 500)
    whole = [panels.length(text, size=panels.TITLE, bold=strong) for text, strong in title]
    assert rooms[1:] == whole[1:] and rooms[0] < whole[0]
    assert sum(rooms) + 2 * panels.WORD == 500
    assert panels._rooms(title[1:], 500) == whole[1:]
