"""Workdirs that are begun, folders of photographs, and what is told of words that name them."""

import json
import os

import pytest
from conftest import tiny
from PIL import Image

from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import Record, Workdir


def begun(path, spec=None, **changes):
    """A workdir that says what it is, without anything trained."""
    spec = spec or tiny(path, **changes)
    weights = [None] * spec.members if spec.networks else None
    record = Record(spec, ("a", "b"), {"data": "d", "weights": weights, "trunk": None}, False)
    Workdir(path).claim(record)
    return str(path)


def finish(path, seconds):
    """Have a workdir look finished, so many seconds after the epoch."""
    members = Workdir(path).record().experiment.members
    for number in range(1, members + 1):
        Workdir(path).final(number).mkdir(parents=True)
    results = Workdir(path).results
    results.write_text(json.dumps({"members": [{}] * members}))
    os.utime(results, (seconds, seconds))


def photographs(folder, classes=("a", "b"), each=3):
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            square = Image.new("RGB", (8, 8), (len(name) * 40, number * 9, hash(name) % 255))
            square.save(folder / name / f"{name}{number}.png")
    return folder


def told(call, *arguments):
    with pytest.raises(UserError) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)
