"""A model draws what the command draws, for a notebook and for a file."""

import dataclasses
import re

import jax.numpy as jnp
import numpy as np
import pytest
from pages import HOSTILE, SEEN, Elements
from patchworks import linear, model_of, patchwork, picture
from PIL import Image

from fgvc_jax.data.view import Photographs
from fgvc_jax.figures import explanation, panels
from fgvc_jax.figures.explained import Explainer
from fgvc_jax.figures.framed import framed
from fgvc_jax.inference.gradcam import find_evidence
from fgvc_jax.utils.errors import UserError

IMAGE = picture(red=255, green=220, blue=200)


@pytest.fixture(scope="module")
def model():
    members = [linear(4 * jnp.eye(3)), linear(2 * jnp.eye(3))]
    return model_of(patchwork(), members, classes=(HOSTILE, "green", "blue"), kind=Explainer)


def test_it_is_the_commands_drawing(model, tmp_path):
    found = model.explain(IMAGE, against="blue")
    (e,) = find_evidence(model, IMAGE, against=2)
    assert (found.evidence.cam == e.cam).all() and found.evidence.against == 2
    whole = framed(model, IMAGE, panels.SIDE, panels.PAPER)
    assert found.picture == explanation.page(model.classes, e, "", model.numbers, whole=whole)
    found.save(tmp_path / "a.png")
    found.save(str(tmp_path / "a.png"))  # over the first
    assert Image.open(tmp_path / "a.png").convert("RGB") == found.picture


def test_a_path_is_told_by_its_end(model, tmp_path, monkeypatch):
    notes = []
    monkeypatch.setattr(explanation, "page", lambda _, __, note, *___: notes.append(note))
    (tmp_path / "birds").mkdir()
    Image.fromarray(IMAGE).save(tmp_path / "birds/a.png")
    model.explain(tmp_path / "birds/a.png")
    model.explain(Image.open(tmp_path / "birds/a.png"))
    assert notes == ["birds/a.png", ""]


def test_a_banner_is_cut_once(model):
    strip = np.zeros((4, *IMAGE.shape[1:]), np.uint8)
    (whole,) = find_evidence(model, IMAGE)
    banner = dataclasses.replace(model, photographs=Photographs(banner=4))
    for image in (np.concatenate([IMAGE, strip]), Image.fromarray(np.concatenate([IMAGE, strip]))):
        assert (banner.explain(image).evidence.shown == whole.shown).all()


def test_a_notebook_shows_it_and_nothing_of_a_name_is_html(model):
    found = model.explain(IMAGE)
    shown = Elements(found._repr_html_())
    given = dict(shown.attributes)
    assert shown.tags == ["img"] and set(given) == {"src", "alt"}
    assert given["alt"].startswith(f"{SEEN} (") and " rather than green (" in given["alt"]
    assert re.fullmatch(r"data:image/png;base64,[A-Za-z0-9+/=]+", given["src"])
    assert "\n" not in repr(found) and repr(found).startswith("<")


def test_what_cannot_be_drawn_is_told(model, tmp_path):
    for image in ([IMAGE, IMAGE], [IMAGE], np.stack([IMAGE] * 2)):
        with pytest.raises(UserError, match="one image is drawn at a time"):
            model.explain(image)
    with pytest.raises(UserError, match="did you mean 'green'"):
        model.explain(IMAGE, against="grean")
    with pytest.raises(UserError, match="calibrat|fitted"):
        model.explain(IMAGE, calibrated=True)
    found = model.explain(IMAGE)
    with pytest.raises(UserError, match=r"end its name in \.png"):
        found.save(tmp_path / "a.jpg")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UserError, match=r"a\.png"):
        found.save(tmp_path / "a.png")
