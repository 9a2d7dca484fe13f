"""Boxes: where they are in an image, and which are none."""

import math

import pytest

from fgvc_jax.data.framing import Box, inside_box, seen

WHOLE = (1, 1)


@pytest.mark.parametrize(
    ("box", "edges"),
    [
        (Box(0.25, 0.5, 0.5, 0.25, WHOLE), (50, 50, 150, 75)),
        (Box(50, 50, 100, 25), (50, 50, 150, 75)),
        (Box(100, 200, 200, 100, (400, 400)), (50, 50, 150, 75)),  # of a copy of another size
        (Box(-10, -10, 1000, 1000), (0, 0, 200, 100)),  # as far as the image goes
    ],
)
def test_edges_in_pixels(box, edges):
    assert box.problem == "" and inside_box(box, (200, 100)) == edges


def test_a_margin_is_a_share_of_the_box_and_ends_with_the_image():
    assert inside_box(Box(50, 50, 100, 20), (200, 100), margin=0.1) == (40, 48, 160, 72)
    assert inside_box(Box(50, 50, 100, 20), (200, 100), margin=9) == (0, 0, 200, 100)
    assert inside_box(Box(50, 50, 100, 50), (200, 100), cut=30) == (50, 50, 150, 70)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        (Box(math.nan, 0, 1, 1, WHOLE), "is not four finite numbers"),
        (Box(0, 0, math.inf, 1), "is not four finite numbers"),
        (Box(0.1, 0.1, 0, 0.5, WHOLE), "is empty"),
        (Box(5, 5, 5, -1), "is empty"),
        (Box(1, 0, 0.5, 0.5, WHOLE), "is outside of its image"),
        (Box(-5, 0, 5, 5), "is outside of its image"),
        (Box(0, 700, 5, 5, (500, 600)), "is outside of its image"),
    ],
)
def test_what_is_no_box_is_told(box, words):
    assert box.problem == words
    with pytest.raises(ValueError, match=words):
        inside_box(box, (200, 100))


@pytest.mark.parametrize("box", [Box(300, 0, 5, 5), Box(5, 5, 0.5, 9), Box(199.5, 0, 50, 50)])
def test_what_the_image_alone_can_tell(box):
    assert box.problem == ""
    with pytest.raises(ValueError, match="less than one pixel of its image of 200 x 100"):
        inside_box(box, (200, 100))


def test_a_box_of_the_photograph_as_it_is_stored_is_not_taken_for_one_of_it_upright():
    with pytest.raises(ValueError, match="of an image of 100 x 200 pixels, and this one, upright"):
        inside_box(Box(5, 5, 9, 9, (100, 200)), (200, 100))


def test_a_box_as_text():
    assert str(Box(1, 2, 30.5, 4)) == "#xywh=1,2,30.5,4"
    assert str(Box(0.1, 0.25, 0.5, 1, WHOLE)) == "#xywh=percent:10,25,50,100"


@pytest.mark.parametrize(
    ("fit", "edges"),
    [("squash", (50, 25, 150, 75)), ("crop", (75, 25, 125, 75)), ("pad", (50, 0, 150, 100))],
)
def test_what_is_seen_of_an_image(fit, edges):
    """The middle half of the side of its square; of a padded one the paper is no part of it."""
    assert seen((200, 100), fit, 0.5) == edges
    assert seen((100, 100), fit, 1) == (0, 0, 100, 100)


@pytest.mark.parametrize(
    ("box", "cut"), [(Box(200, 10, 50, 20), 0), (Box(20, 100, 50, 20), 0), (Box(0, 82, 50, 40), 20)]
)
def test_a_margin_does_not_bring_back_a_box_outside(box, cut):
    """Its margin alone would be shown, a strip at the border without the animal."""
    with pytest.raises(ValueError, match="less than one pixel of its image of 200 x 100"):
        inside_box(box, (200, 100), margin=0.1, cut=cut)
