"""A view as one value: what fits together, and what a test image is decoded to."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fgvc_jax.config import Data
from fgvc_jax.data import augment
from fgvc_jax.data.images import decode
from fgvc_jax.data.view import View
from fgvc_jax.utils.errors import ArgumentError


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (View(resize=40, crop=50, pad=4), "`crop` 50 .*padded image .40 \\+ 2 \\* 4"),
        (View(resize=40, crop=46, pad=4), "`crop` 46 .*`test_view` whole"),
    ],
)
def test_a_crop_that_does_not_fit_is_named(view, words):
    with pytest.raises(ArgumentError, match=words):
        view.check()
    replace(view, crop=40).check()


def test_the_data_options_are_a_view_and_give_it_alone():
    data = Data(crop=20, resize=30)
    assert type(data.view) is View and data.view == View(crop=20, resize=30)


@pytest.mark.parametrize(("test_view", "side"), [("center", 48), ("whole", 32)])
def test_a_test_image_is_resized_once(test_view, side):
    """Whole: as one resize to the crop's size gives it, as the published recipe does."""
    view = View(resize=48, crop=32, test_view=test_view, normalize="half")
    assert view.test_side == side
    picture = np.random.default_rng(0).integers(0, 256, (100, 70, 3), np.uint8)
    square = decode({"image": picture, "name": "x"}, view.test_side, orientation="stored")
    shown = jax.jit(lambda x: augment.test_view(view, x))(jnp.asarray(square)[None])
    resized = Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)
    start = (side - 32) // 2
    expected = np.asarray(resized, np.float32)[start : start + 32, start : start + 32] / 255
    np.testing.assert_allclose(shown[0], (expected - 0.5) / 0.5, atol=1e-6)


def test_a_view_without_a_banner_of_its_own_is_known_as_before_there_was_one():
    """Caches and training digests of earlier runs are found again."""
    names = {"resize", "crop", "pad", "flip", "test_view", "normalize", "orientation"}
    assert set(View().known) == names and len(View().test) == 4
    for rows in (0, 20):
        assert View(banner=rows).known["banner"] == View(banner=rows).test[-1] == rows


def test_a_view_that_decodes_exactly_is_known_as_before_there_was_another_way():
    for exact in (View(decode="auto"), View(decode="exact")):
        assert exact.known == View().known and len(exact.test) == 4
    assert View(fit="squash") == View()
    fitted = View(decode="scaled", fit="pad")
    assert fitted.known["fit"] == "pad" and fitted.test[4:] == ["scaled", "pad"]
    scaled = View(decode="scaled")
    assert scaled.known == View().known | {"decode": "scaled"} and scaled.test[4:] == ["scaled"]


def test_an_augmentation_is_known_by_its_name_and_by_what_is_said_of_it():
    """Not to the images of a test, and mixing to no view: what teachers say of it is not mixed."""
    assert View(augment="published", erase=-1) == View()
    strong = View(augment="strong", erase=0.3)
    assert strong.known == View().known | {"augment": "strong", "erase": 0.3}
    assert strong.test == View().test
    assert (strong.amount("erase"), strong.amount("trivial"), strong.amount("blur")) == (0.3, 1, 0)
    mixed = Data(augment="standard", mixup=0.3)
    assert mixed.view == View(augment="standard") and mixed.amount("mixup") == 0.3


@pytest.mark.parametrize(
    ("source", "banner", "cut"),
    [("aircraft:x", -1, 20), ("aircraft:x", 0, 0), ("cub:x", -1, 0), ("folder:x", 40, 40)],
)
def test_the_rows_that_training_images_lack(source, banner, cut):
    assert Data(source=source, banner=banner).cut == cut
