"""Datasets on disk for the tests: written below a folder, opened by name."""

import os
import shutil

import pytest
from PIL import Image

from fgvc_jax.data.sources import open_source
from fgvc_jax.utils.errors import UserError


def write(root, files):
    """Files below root: name -> text or bytes; a name without content is a placeholder."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def hostile(folder, photograph):
    """A folder of what is no photograph, among two that are: 00.png, and one.png of one pixel."""
    (folder / "x.jpg").mkdir(parents=True)
    shutil.copy(photograph, folder / "x.jpg/00.png")
    Image.new("RGB", (1, 1)).save(folder / "one.png")
    Image.new("L", (10_000, 10_000)).save(folder / "huge.png")
    (folder / "text.jpg").write_text("hello")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "up").symlink_to(folder)
    os.mkfifo(folder / "pipe.jpg")
    (folder / "notes.txt").write_text("hello")
    return folder


def placeholders(*names):
    return {name: name.encode() for name in names}


def contents(source):
    """(name below the root as the placeholder says, label, id) of each record."""
    records = (source[i] for i in range(len(source)))
    return [(record["image"].decode(), record["label"], record["id"]) for record in records]


def refused(spec, *words):
    with pytest.raises(UserError) as caught:
        open_source(spec)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
