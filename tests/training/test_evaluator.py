"""What is recorded of members; tests/test_train.py and test_continue.py judge whole runs."""

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from conftest import tiny

from fgvc_jax.config import Network
from fgvc_jax.data.files import Entry, Files
from fgvc_jax.data.framing import Box
from fgvc_jax.training import evaluator
from fgvc_jax.training.members import train
from fgvc_jax.training.run import Run
from fgvc_jax.workdir import Workdir, begun, storage


@pytest.fixture(scope="module")
def run():
    return Run(tiny(network=Network(name="vit_micro", head="linear"), members=2))


def test_what_is_lost_of_a_member_is_told_as_nothing(tmp_path):
    lost = {"training": None, "seconds": None, "scores": {"selected": None, "best_on_test": None}}
    assert evaluator.history(tmp_path) == lost
    scores = {"test_accuracy": 0.5, "test_accuracy_aux": 0.25, "test_images": 9}
    storage.write_json(tmp_path / begun.FILE, {"training": "t", "seconds": 2.0, "scores": scores})
    storage.write_json(tmp_path / "selected.json", {"epoch": 1, "test_accuracy": 0.75})
    assert evaluator.history(tmp_path) == {
        "training": "t",
        "seconds": 2.0,
        "scores": {"selected": 0.75, "best_on_test": None, "test_accuracy_aux": 0.25},
    }


def test_seconds_of_training_are_those_of_the_journal(tmp_path):
    assert evaluator.seconds(tmp_path) == 0
    lines = [{"step": 1, "seconds": 1.5}, {"step": 2}, {"step": 3, "seconds": 2.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert evaluator.seconds(tmp_path) == 3.5


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("frozen", ["", "stage4"])
def test_training_photographs_are_kept_by_the_programs_that_judged(
    frozen, tmp_path, monkeypatch, caplog
):
    def watched(keep, *words, **options):
        with jax.log_compiles():
            return keep(*words, **options)

    for name in ("keep_photographs", "keep_nearest"):
        monkeypatch.setattr(evaluator, name, partial(watched, getattr(evaluator, name)))
    network = Network(name="resnet_micro", head="linear", pool="avg", frozen=frozen)
    train(tiny(tmp_path / "run", network=network, epochs=1))
    assert next((tmp_path / "run/predictions").glob("neighbours-*/*.embedding.npy"))
    assert not [line for line in caplog.messages if line.startswith("Compiling jit(step)")]


def test_a_broken_image_is_of_the_test_part_by_its_name_or_file():
    entry = Entry("a/1.jpg", 0, "list", box=Box(0, 0, 1, 1))
    test = Files(Path("/data"), [entry], 0, crop_bottom=0, places=["a/1.jpg"])
    run = SimpleNamespace(splits=SimpleNamespace(test=test))
    for name in ("/data/a/1.jpg", "a/1.jpg#xywh=0,0,1,1"):
        assert evaluator.is_tested(run, ["x.png", name])
    assert not evaluator.is_tested(run, ["/data/train/ba/1.jpg"])
    assert not evaluator.is_tested(run, [])


def test_the_published_protocol_needs_the_answers_of_every_member(run, tmp_path):
    workdir, labels = Workdir(tmp_path), run.splits.test.labels
    assert evaluator.published_protocol(run, workdir, 2) is None
    right = np.full((len(labels), len(run.splits.classes)), -9, np.float16)
    right[np.arange(len(labels)), labels] = 0
    wrong = np.roll(right, 1, axis=1) / 3  # less sure
    for number, answers in ((1, wrong), (2, right)):
        storage.write_array(workdir.member(number) / "best_on_test.npy", answers)
    found = evaluator.published_protocol(run, workdir, 2)
    assert found == {"selected_by": "test accuracy", "members": [0.0, 1.0], "ensemble": [0.0, 1.0]}
    storage.write_array(workdir.member(1) / "best_on_test.npy", wrong[1:])  # of other images
    assert evaluator.published_protocol(run, workdir, 2) is None
