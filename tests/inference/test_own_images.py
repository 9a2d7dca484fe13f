"""A run's images are found again as they were, or a line says that they are others."""

import dataclasses

import pytest
from conftest import tiny
from datasets import write
from photographs import encoded, photograph

from fgvc_jax.data import left_out
from fgvc_jax.data.left_out import LeftOut
from fgvc_jax.inference import own_images
from fgvc_jax.utils import digests
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import unread
from fgvc_jax.workdir.folder import Workdir
from fgvc_jax.workdir.record import Record

BROKEN = "train/a/1.png"


@pytest.fixture
def run(tmp_path):
    """A run's folder as it begins, without one of its training images."""
    files = {
        f"{part}/{name}/{i}.png": encoded(photograph(8 * p + 4 * n + i))
        for p, part in enumerate(("train", "test"))
        for n, name in enumerate("ab")
        for i in range(4)
    }
    write(tmp_path / "birds", files)
    spec = tiny(tmp_path / "run")
    source = f"folder:{tmp_path / 'birds'}"
    changes = {"classes": 0, "images_per_class": 0, "validation": 0.25}
    data = dataclasses.replace(spec.data, source=source, **changes)
    spec = dataclasses.replace(spec, data=data)
    splits = left_out.without(own_images.dataset_of(spec), {BROKEN})
    workdir = Workdir(tmp_path / "run")
    known = digests.of_data(splits, {})
    Record(spec, splits.classes, known, True).write(workdir.config)
    unread.keep(workdir, [LeftOut("train", BROKEN, "cannot be read")])
    return workdir


@pytest.mark.parametrize(("name", "count"), [("train", 5), ("validation", 2), ("test", 8)])
def test_a_part_is_that_of_the_run(run, name, count):
    """Ids are counted without the training image that the run did without, in every part."""
    part = own_images.part(run, name)
    assert len(part) == count and BROKEN not in part.names


def test_another_dataset_is_refused(run, tmp_path):
    write(tmp_path / "birds", {"test/a/0.png": encoded(photograph(99)) + b"longer"})
    own_images.part(run, "train")
    with pytest.raises(UserError, match="the test images of .* are no longer those"):
        own_images.part(run, "test")


def test_links_may_be_allowed_now(run, tmp_path):
    with pytest.raises(UserError, match="--data.allow-links 'nowhere' is no folder"):
        own_images.splits_of(run, "nowhere")
