"""A whole photograph with a frame around what is seen of it."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fgvc_jax.data.view import Photographs, View
from fgvc_jax.figures.framed import framed

PAPER = "#ffffff"


def asked(banner=0, **view):
    view = View(resize=40, crop=20, **view)
    return SimpleNamespace(view=view, photographs=Photographs(banner=banner))


def light(picture):
    """(top, left, bottom, right) of what is as bright as it was, inside of the frame's line."""
    rows, columns = np.nonzero((np.asarray(picture) == 200).all(-1))
    return rows.min(), columns.min(), rows.max() + 1, columns.max() + 1


@pytest.mark.parametrize(
    ("fit", "edges"),
    [
        ("squash", (37.5, 25, 62.5, 75)),  # half of each side of 100 x 50, within 25 px of paper
        ("crop", (37.5, 37.5, 62.5, 62.5)),
        ("pad", (25, 25, 75, 75)),
    ],
)
def test_the_frame_is_where_the_view_is(fit, edges):
    picture = Image.new("RGB", (400, 200), (200, 200, 200))
    found = framed(asked(fit=fit), picture, 100, PAPER)
    assert found.shape == (100, 100, 3) and (found[0] == 255).all() and (found[-1] == 255).all()
    np.testing.assert_allclose(light(found), edges, atol=1.6)
    assert found[30, 5].tolist() == [90, 90, 90]  # darker outside


def test_what_is_seen_whole_has_no_frame_and_a_banner_is_no_part_of_it():
    whole = asked(test_view="whole")
    pixels = np.full((30, 30, 3), 200, np.uint8)
    assert (framed(whole, pixels, 60, PAPER) == 200).all()
    pixels[20:] = 0
    cut = framed(asked(test_view="whole", banner=10), pixels, 60, PAPER)
    assert (cut[12:48] == 200).all() and (cut[:8] == 255).all()


def test_a_photograph_is_turned_and_a_sliver_is_drawn(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (400, 200), (200, 200, 200)).save(tmp_path / "a.png", exif=exif)
    assert (framed(asked(), tmp_path / "a.png", 100, PAPER)[:, 0] == 255).all()  # upright
    assert framed(asked(), np.zeros((1, 5000, 3), np.uint8), 100, PAPER).shape == (100, 100, 3)
