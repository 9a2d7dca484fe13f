"""Files that are read anew in every epoch are those of the first one."""

import os

import numpy as np
import pytest
from PIL import Image

from fgvc_jax.data import pipeline
from fgvc_jax.data.sources import open_source
from fgvc_jax.data.steady import Steady
from fgvc_jax.utils.errors import UserError


@pytest.fixture
def source(tmp_path):
    """Photographs of two classes, all of one size in bytes."""
    for part in ("train", "test"):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(2):
                image = Image.new("RGB", (8, 8), (i, ord(name), 0))
                image.save(tmp_path / part / name / f"{i}.bmp")
    return open_source(f"folder:{tmp_path}").train


def replace(path, other, *, seconds=5):
    """Give a file the content of another one, and a later time of change."""
    with open(other, "rb") as file:
        content = file.read()
    changed = os.stat(path).st_mtime_ns + seconds * 10**9
    assert len(content) == os.stat(path).st_size
    with open(path, "wb") as file:
        file.write(content)
    os.utime(path, ns=(changed, changed))


def test_a_file_that_was_replaced_by_one_of_equal_size_is_told(source):
    """What streams learned from both, under the digest of one."""
    fetch = pipeline.streamed(source, 8, threads=2, orientation="exif")
    rows = np.arange(4)
    first = fetch(rows)
    replace(source.path(1), source.path(0))
    with pytest.raises(UserError, match=r"/a/1\.bmp' was replaced .* another content before") as e:
        fetch(rows)
    assert "\n" not in str(e.value)
    np.testing.assert_array_equal(fetch(rows[2:]), first[2:])


def test_a_file_of_the_same_content_may_be_written_again(source):
    steady = Steady(source)
    before = steady[1]
    replace(source.path(1), source.path(1))
    assert steady[1] == before
    replace(source.path(1), source.path(0), seconds=5)
    with pytest.raises(UserError, match="was replaced"):
        steady[1]


def test_what_was_not_read_yet_is_what_is_there(source):
    steady = Steady(source)
    replace(source.path(1), source.path(0))
    assert steady[1]["image"] == steady[0]["image"]


def test_what_is_in_no_file_of_its_own_is_read_as_it_is():
    birds = open_source("sketchbirds").train
    assert Steady(birds)[3]["id"] == birds[3]["id"]
