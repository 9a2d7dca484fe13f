"""Photographs of each class: some of those that a run keeps, at even distances."""

import dataclasses
import io

import numpy as np
import pytest
from conftest import tiny
from PIL import Image

from fgvc_jax.figures.examples import EXAMPLES, Examples
from fgvc_jax.training import members
from fgvc_jax.workdir.folder import Workdir


def picture(shade):
    file = io.BytesIO()
    Image.new("L", (8, 8), shade).save(file, "PNG")
    return file.getvalue()


def test_they_are_of_the_class_and_at_even_distances():
    kept = Examples(np.array([0, 1] * 9), [picture(10 * n) for n in range(18)])
    found = kept.addresses(1)
    assert len(found) == EXAMPLES == len(set(found))
    assert all(each.startswith("data:image/jpeg;base64,") for each in found)
    assert found != kept.addresses(0) and kept.addresses(2) == []


def test_what_is_kept_of_no_picture_is_left_out():
    kept = Examples(np.zeros(2, int), [picture(0), b""])
    assert len(kept.addresses(0)) == 1


@pytest.mark.slow
def test_without_kept_photographs_there_are_none(tmp_path):
    members.train(tiny(tmp_path / "run", epochs=1, members=1))
    view = Workdir(tmp_path / "run").record().experiment.data.view
    assert Examples.of(str(tmp_path / "run"), view).addresses(0)
    other = dataclasses.replace(view, crop=31)  # which was never asked for
    assert Examples.of(str(tmp_path / "run"), other).addresses(0) == []
