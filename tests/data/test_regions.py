"""Where things are: masks and boxes go the way of the images."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import SHARED, needs_shared
from datasets import write
from PIL import Image

from fgvc_jax.data import regions, tables
from fgvc_jax.data.augment import center_crop
from fgvc_jax.data.images import decode
from fgvc_jax.data.records import origin
from fgvc_jax.data.sketchbirds import defining_parts
from fgvc_jax.data.sources import open_source, restrict
from fgvc_jax.data.view import View
from fgvc_jax.utils.errors import UserError

VIEW = View(resize=40, crop=32)
WHOLE = View(resize=40, crop=32, test_view="whole")


def seen(image, view):
    square = decode({"image": image, "name": "a"}, view.test_side, orientation="stored")
    return np.asarray(center_crop(square[None], crop=view.crop))[0, ..., 0]


@pytest.fixture
def birds():
    return restrict(open_source("sketchbirds"), classes=5, images_per_class=0, validation=0, seed=0)


def test_drawn_birds_know_their_parts(birds):
    found = regions.find_regions("sketchbirds", birds.test, 5, VIEW)
    assert list(found.about) == ["parts", "telling parts"]
    drawing, number = origin(birds.test, 7)
    assert drawing.names[number] == birds.test.names[7]
    masks, everything = drawing.masks(number), found.of(7)
    union = np.any(list(masks.values()), axis=0)
    image = np.repeat(np.uint8(255) * union[..., None], 3, -1)
    np.testing.assert_allclose(everything["parts"], seen(image, VIEW), atol=1e-6)
    telling = everything["telling parts"]
    assert telling.shape == (32, 32) and 0 < telling.sum() < everything["parts"].sum()
    assert (telling <= everything["parts"] + 1e-6).all()
    # Of another species another choice of parts tells it.
    assert len({row.tobytes() for row in defining_parts(drawing.codes[:5])}) > 1


def cub(root, **files):
    """Two images of 60 x 40, one to train and one to test."""
    file = io.BytesIO()
    Image.new("RGB", (60, 40), "white").save(file, "PNG")
    return write(root, {
        "images/a.png": file.getvalue(), "images/b.png": file.getvalue(),
        "images.txt": "7 a.png\n9 b.png\n", "image_class_labels.txt": "7 1\n9 1\n",
        "train_test_split.txt": "7 1\n9 0\n", "classes.txt": "1 crow\n",
    } | files)  # fmt: skip


BOXES = {regions.BOXES: "7 0.0 0.0 60.0 40.0\n9 15.0 10.0 30.0 20.0\n"}
PLACES = {regions.PLACES: "9 1 20.0 15.0 1\n9 2 40.0 25.0 0\n7 1 1.0 1.0 1\n"}


@pytest.mark.parametrize("view", [VIEW, WHOLE])
def test_boxes_and_parts_of_cub_are_resized_and_cropped_as_their_image(tmp_path, view):
    root = cub(tmp_path, **BOXES, **PLACES)
    source = open_source(f"cub:{root}").test
    found = regions.find_regions(f"cub:{root}", source, 1, view).of(0)
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:30, 15:45] = 255
    np.testing.assert_array_equal(found["box"], seen(image, view))
    parts = found["parts"]
    row, column = (parts * np.mgrid[:32, :32]).sum((1, 2)) / parts.sum()
    # Place (20, 15) of 60 x 40, in pixels of the resized square, less what is cropped.
    offset = (view.test_side - 32) / 2
    at = view.test_side * np.array([15 / 40, 20 / 60]) - offset - 0.5
    np.testing.assert_allclose((row, column), at, atol=0.5)
    radius = regions.PART_RADIUS * np.sqrt(30 * 20)
    expected = np.pi * radius**2 * view.test_side**2 / (40 * 60)
    assert parts.sum() == pytest.approx(expected, rel=0.25)


def test_boxes_alone_and_an_image_without_visible_parts(tmp_path):
    source = open_source(f"cub:{cub(tmp_path / 'a', **BOXES)}").test
    assert list(regions.find_regions(f"cub:{tmp_path / 'a'}", source, 1, VIEW).of(0)) == ["box"]
    places = {regions.PLACES: "7 1 1.0 1.0 1\n"}
    source = open_source(f"cub:{cub(tmp_path / 'b', **BOXES, **places)}").test
    assert regions.find_regions(f"cub:{tmp_path / 'b'}", source, 1, VIEW).of(0)["parts"].max() == 0


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "has no bounding_boxes.txt"),
        ({regions.BOXES: "7 0 0 9 9\n"}, "lacks image 9"),
        ({regions.BOXES: "9 0 0 9\n"}, "bounding_boxes.txt' line 1: '9 0 0 9' is not 5 numbers"),
        ({regions.BOXES: "9 0 0 x 9\n"}, "is not 5 numbers"),
        ({regions.BOXES: "9 0 0 nan 9\n"}, "is not 5 numbers"),
    ],
)
def test_what_is_wrong_with_boxes_is_told(tmp_path, files, words):
    root = cub(tmp_path, **files)
    source = open_source(f"cub:{root}").test
    with pytest.raises(UserError, match=words):
        regions.find_regions(f"cub:{root}", source, 1, VIEW)


def test_boxes_beyond_the_image_end_with_it(tmp_path):
    boxes = {regions.BOXES: "7 0 0 1 1\n9 -1e30 -5 1e300 1e9\n"}
    root = cub(tmp_path, **boxes)
    source = open_source(f"cub:{root}").test
    assert regions.find_regions(f"cub:{root}", source, 1, VIEW).of(0)["box"].min() == 1


def test_an_image_with_two_boxes_is_refused_wherever_they_are_read(tmp_path):
    """The last one won."""
    root = cub(tmp_path, **{regions.BOXES: "7 0 0 1 1\n9 0 0 9 9\n7 0 0 2 2\n"})
    source = open_source(f"cub:{root}").test
    for opened in (
        lambda: regions.find_regions(f"cub:{root}", source, 1, VIEW),
        lambda: open_source(f"cub:{root},boxes"),
    ):
        with pytest.raises(UserError, match="bounding_boxes.txt' lists image 7 twice"):
            opened()


def test_other_datasets_are_refused():
    with pytest.raises(UserError, match="'folder:birds' does not say where things are"):
        regions.find_regions("folder:birds", SimpleNamespace(), 3, VIEW)


@needs_shared
def test_the_real_index_of_boxes_is_read():
    file = SHARED / "cub200_2011_annotations" / regions.BOXES
    boxes = tables.numbers_by_image(file, 5)
    assert len(boxes) == 11_788 == len(tables.read_lines(file))
    assert boxes[1] == (60.0, 27.0, 325.0, 304.0)


def test_a_mask_loses_the_banner_that_the_image_loses():
    mask = np.zeros((40, 60), bool)
    mask[-10:] = True
    cut = View(resize=40, crop=32, test_view="whole", banner=10)
    assert regions.seen(mask, WHOLE)[-6:].min() == 1 and not regions.seen(mask, cut).any()


@pytest.mark.parametrize("test_view", ["center", "whole"])
@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_a_box_is_fitted_as_its_image_is(tmp_path, fit, test_view):
    """Each pixel of an image that is black but for the box is as bright as much of it is inside;
    beside a padded image nothing is."""
    view = View(resize=40, crop=32, test_view=test_view, fit=fit)
    root = cub(tmp_path, **BOXES)
    source = open_source(f"cub:{root}").test
    found = regions.find_regions(f"cub:{root}", source, 1, view).of(0)["box"]
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:30, 15:45] = 255
    how = view.reading | {"orientation": "stored", "fill": (0, 0, 0)}
    square = decode({"image": image, "name": "a"}, view.test_side, **how)
    shown = np.asarray(center_crop(square[None], crop=32))[0, ..., 0]
    np.testing.assert_array_equal(found, shown)
    # 30 of 60 columns and 20 of 40 rows; of the middle 40 columns; of a square of 60.
    share = {"squash": (1 / 2, 1 / 2), "crop": (3 / 4, 1 / 2), "pad": (1 / 2, 1 / 3)}[fit]
    wide, high = np.minimum(1, np.array(share) * view.test_side / 32)
    assert found.mean() == pytest.approx(wide * high, abs=0.02)
    assert found.any(0).mean() == pytest.approx(wide, abs=0.07)


def test_masks_of_boxes_that_are_cut_out_go_the_way_of_the_cut(tmp_path):
    root = cub(tmp_path, **BOXES)
    view = View(resize=40, crop=40, pad=0, margin=0.5)
    source = open_source(f"cub:{root},boxes").test
    assert source.names == ("images/b.png#xywh=15,10,30,20",)
    found = regions.find_regions(f"cub:{root},boxes", source, 1, view).of(0)["box"]
    # Half of the box on each side of it: it has the middle of what is shown.
    assert found[12:28, 12:28].min() == 1 and found.mean() == pytest.approx(1 / 4, abs=0.02)
    plain = open_source(f"cub:{root}").test
    assert plain.names == ("images/b.png",) and plain.ids.tolist() == source.ids.tolist() == [9]


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ({}, "bounding_boxes.txt' does not exist"),
        ({regions.BOXES: "7 0 0 9 9\n"}, "lacks image 9"),
        (
            {regions.BOXES: "7 0 0 9 9\n9 0 0 0 9\n"},
            "the box #xywh=0,0,0,9 of 'images/b.png' is em",
        ),
    ],
)
def test_what_is_wrong_with_boxes_that_are_cut_out_is_told(tmp_path, boxes, words):
    with pytest.raises(UserError, match=words):
        open_source(f"cub:{cub(tmp_path, **boxes)},boxes")
