"""Finished runs as they were kept: the rest is tested with the report that is made of them."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from conftest import tiny

from fgvc_jax import train
from fgvc_jax.errors import UserError
from fgvc_jax.kept import Kept


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept") / "row/0"
    train.train(tiny(folder, members=1))
    return folder


def test_a_run_and_what_it_answers(run):
    kept = Kept.of(str(run))
    assert kept.complete and kept.which == "final"
    assert np.mean(kept.right()) == pytest.approx(kept.results["ensemble"][0])
    assert kept.judged["metrics"] == kept.results["metrics"]
    read = []
    kept.right(read.append)
    assert sum(read) == len(kept.part.labels)


def test_the_same_run_with_other_seeds(run):
    def copied(name, **changes):
        shutil.copytree(run, run.parent / name)
        saved = json.loads((run.parent / name / "config.json").read_text())
        (run.parent / name / "config.json").write_text(json.dumps(saved | changes))

    kept = Kept.of(str(run))
    assert list(kept.seeds()) == [0]
    copied("3", seed=3)
    copied("4", seed=5)  # in the folder of another seed
    copied("6", seed=6, batch_size=4)  # another experiment
    copied("copy", seed=7)
    copied("8", seed=8)
    (run.parent / "8/results.json").unlink()  # not finished
    assert list(kept.seeds()) == [0, 3]
    assert list(Kept.of(str(run.parent / "copy")).seeds()) == [7]
    other = dataclasses.replace(kept, part=dataclasses.replace(kept.part, labels=np.zeros(3)))
    assert not kept.is_comparable(other)
    with pytest.raises(UserError, match="other test images"):
        kept.check_comparable(other)
