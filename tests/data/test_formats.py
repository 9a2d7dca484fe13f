"""What a file is by its name and by its first bytes."""

import runpy

import pytest

from fgvc_jax.data import formats


def test_suffixes_are_those_of_formats_that_are_read():
    assert ".jpg" in formats.EXTENSIONS and ".txt" not in formats.EXTENSIONS
    assert (formats.HEIF[0] in formats.EXTENSIONS) == ("HEIF" in formats.FORMATS)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer"),
        (b"\xef\xbb\xbf <!DOCTYPE html>", "is a web page"),
        (b"0000ftypheic", "is HEIC"),
        ("ein Wort, caf\u00e9".encode(), ", but text"),
        ("caf\u00e9".encode()[:-1], ", but text"),  # cut off within a letter
        (b"\x00\x01\x02\xff" * 9, f"is none of {', '.join(formats.FORMATS)}"),
    ],
)
def test_a_file_that_is_no_image_is_named_by_how_it_begins(data, told):
    problem = formats.what_else(data)[0]
    assert told in problem
    assert ("but text" in problem) == ("but text" in told)


def test_heic_without_its_package_is_told(monkeypatch):
    assert formats.unread(["a.txt"]) == ""
    monkeypatch.setattr(formats, "_MISSING", {"HEIF"})
    assert formats.unread(["a.txt", "b.HEIC"]) == f" (and HEIC with {formats.HEIF_EXTRA})"


def test_formats_without_a_codec_are_not_offered(monkeypatch):
    monkeypatch.setattr(formats.features, "check", lambda codec: False)
    without = runpy.run_path(formats.__file__)
    assert set(formats.FORMATS) - set(without["FORMATS"]) <= {"AVIF", "HEIF", "JPEG2000", "WEBP"}
    assert ".avif" not in without["EXTENSIONS"] and ".png" in without["EXTENSIONS"]
