"""The nearest training photographs of a class: of this one alone; none where none are kept."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from patchworks import linear, model_of, patchwork, picture
from PIL import Image

from fgvc_jax.figures import explanation, nearest, panels
from fgvc_jax.figures.explained import Explainer
from fgvc_jax.figures.framed import framed
from fgvc_jax.inference import gradcam
from fgvc_jax.inference.neighbours import Neighbours
from fgvc_jax.workdir.predictions import Part

IMAGE = picture(red=255, green=220, blue=200)


def encoded(colour):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def model():
    members = [linear(4 * jnp.eye(3)), linear(2 * jnp.eye(3))]
    return model_of(patchwork(), members, classes=("red", "green", "blue"), kind=Explainer)


def remember(model, labels, pictures):
    """The model keeps photographs, the later the less like IMAGE."""
    own = model.embed(IMAGE, normalize=True)[0]
    other = np.random.default_rng(0).standard_normal(own.shape)
    vectors = np.stack([own + n * other for n in range(len(labels))])
    vectors = np.float32(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    names = tuple(f"train/{n}.png" for n in range(len(labels)))
    labels = np.array(labels, np.int32)
    kept = Neighbours(Part(None, "neighbours", names, labels, labels, model.classes, "n"), vectors)
    kept.__dict__["pictures"] = pictures
    model.__dict__["remembered"] = kept


def seen_by(model):
    (found,) = gradcam.find_evidence(model, [IMAGE])
    return found.seen


def test_they_are_of_the_class_and_the_most_similar_come_first(model):
    remember(model, [1, 0, 0, 1, 0, 0], [encoded((n, 0, 0)) for n in range(6)])
    red, blue = nearest.nearest_of_classes(model, seen_by(model), [0, 2])
    assert [each.name for each in red] == ["1.png", "2.png", "4.png"] and blue == []
    assert [each.picture.getpixel((0, 0))[0] for each in red] == [1, 2, 4]
    assert red[0].similarity > red[1].similarity > red[2].similarity
    rows = nearest.panel_rows(model, seen_by(model), [0, 2, 0])
    assert [row.about.split(",")[0] for row in rows] == ["of red"]
    assert [tile.note for tile in rows[0].tiles] == ["1.png", "2.png", "4.png", "5.png"]


def test_a_drawing_has_them(model):
    plain = model.explain(IMAGE)
    remember(model, [0, 1, 2], [encoded((255, 0, 0))] * 3)
    drawn = model.explain(IMAGE)
    assert drawn.picture.height > plain.picture.height
    near = nearest.panel_rows(model, seen_by(model), [0, 1])
    e = drawn.evidence
    assert len(near) == 2
    whole = framed(model, IMAGE, panels.SIDE, panels.PAPER)
    assert drawn.picture == explanation.page(model.classes, e, "", model.numbers, near, whole)


@pytest.mark.parametrize("pictures", [None, [b"", b"no picture", b""]])
def test_what_is_no_picture_is_left_out(model, pictures):
    remember(model, [0, 0, 0], pictures)
    assert nearest.nearest_of_classes(model, seen_by(model), [0]) == [[]]
    assert nearest.panel_rows(model, seen_by(model), [0]) == []


def test_of_a_run_that_keeps_none_there_are_none(model):
    assert nearest.nearest_of_classes(model, seen_by(model), [0, 1]) == [[], []]
