"""Small files that take minutes to decode are refused, and healthy ones that look like them not."""

import io
import random
import time

import numpy as np
import pytest
from PIL import Image

from fgvc_jax.data import endless
from fgvc_jax.data.images import decode
from fgvc_jax.utils.errors import UserError


def decoded(data):
    return decode({"image": data, "name": "new.jpg"}, 8, orientation="exif")


def scanned(more, side=16, **options):
    """A JPEG whose last scan comes some times more."""
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", **options)
    data = file.getvalue()
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * more + b"\xff\xd9"


def in_parts(data):
    """A baseline JPEG whose first scan says that it has one of the three parts."""
    place = data.index(b"\xff\xda") + 4
    return data[:place] + b"\1" + data[place + 1 :]


@pytest.mark.parametrize(
    "data", [scanned(200, progressive=True), in_parts(scanned(200))], ids=["progressive", "parts"]
)
def test_a_jpeg_of_many_scans_is_refused(data):
    """Each takes as long as the image: 200 more than its own of 80 million pixels, in half a
    megabyte, took 26 s, and an upload has room for a hundred thousand."""
    with pytest.raises(UserError, match=r"'new\.jpg' has more than 100 scans: repair it"):
        decoded(data)


def test_a_jpeg_of_as_many_scans_as_there_are_is_decoded():
    assert decoded(scanned(50, progressive=True)).shape == (8, 8, 3)


def test_what_stands_behind_a_jpeg_is_not_counted():
    """A film, as telephones add one."""
    plain = scanned(0, progressive=True)
    film = random.Random(0).randbytes(1000) + b"\xff\xda" * 200
    assert (plain + film).count(b"\xff\xda") > endless.MAX_SCANS
    np.testing.assert_array_equal(decoded(plain), decoded(plain + film))


def test_scans_in_a_segment_are_not_counted():
    """As of a thumbnail."""
    plain = scanned(0)
    segment = b"\xff\xe1" + (2 + 400).to_bytes(2) + b"\xff\xda" * 200
    np.testing.assert_array_equal(decoded(plain), decoded(plain[:2] + segment + plain[2:]))


@pytest.mark.parametrize("filling", [b"#" + b"a" * 10**6, b"#\n" * 10**6, b" " * 10**6])
@pytest.mark.parametrize("start", [b"P6 ", b"P6 4 4 ", b"P5 4 ", b"PyCMYK\n"])
def test_a_header_without_end_is_refused(start, filling):
    """Of 30 MB it was read byte by byte for 25 s."""
    began = time.perf_counter()
    with pytest.raises(UserError, match="has a header of more than 65,536 bytes"):
        decoded(start + filling)
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize(
    ("header", "mode", "value"),
    [(b"P6 300 200\n255\n", "RGB", 0), (b"P5\n# a word\n400 300 255 ", "L", 32),
     (b"P4 1600 400 ", "1", 32), (b"P6 300 200 255 ", "RGB", 35)],
)  # fmt: skip
def test_a_healthy_one_is_decoded(header, mode, value):
    size = {"RGB": 180_000, "L": 120_000, "1": 80_000}[mode]
    assert len(header) + size > endless.MAX_HEADER
    assert decoded(header + bytes([value]) * size).shape == (8, 8, 3)


def test_other_files_are_left_to_others():
    for data in (b"", b"P", b"Photograph" * 10_000, b"\xff\xd8", b"\xff\xd8\xff\xda" * 20):
        assert not endless.problem(data)
