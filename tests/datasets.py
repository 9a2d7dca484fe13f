"""Datasets on disk for the tests: written below a folder, opened by name."""

import pytest

from fgvc_jax.data.sources import open_source
from fgvc_jax.errors import UserError


def write(root, files):
    """Files below root: name -> text or bytes; a name without content is a placeholder."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


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
