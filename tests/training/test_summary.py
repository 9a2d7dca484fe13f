import subprocess
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from conftest import tiny

from fgvc_jax.config import Network
from fgvc_jax.training import summary
from fgvc_jax.training.run import Run


@pytest.fixture(scope="module")
def run():
    network = Network(name="vit_micro", head="linear")
    return Run(tiny(members=2, network=network, networks=(), objective="hsd"))


def test_a_run_is_described_by_what_it_has(run):
    line = summary.describe(run)
    assert f"{len(run.splits.train)} training and {len(run.splits.test)} test images" in line
    assert "2 x vit_micro (float32, " in line and "hsd, transfer" in line and "\n" not in line


def test_parameters_of_a_member_are_counted_without_its_further_heads(run):
    shapes = run.plan(1).architecture.variables["params"]
    heads = run.plan(1).architecture.objective.heads
    plain = {**shapes, "heads": {k: v for k, v in shapes["heads"].items() if k not in heads}}
    millions = sum(leaf.size for leaf in jax.tree.leaves(plain)) / 1e6
    told = summary.parameters(run.plan(1).architecture)
    assert told.startswith(f"{millions:.1f} M parameters") and "more frozen" not in told
    assert all(f", {name} +" in told for name in heads)


def test_the_machine_is_told(run):
    told = summary.environment(run)
    assert told["processes"] == 1 and told["dtype"] == "float32"
    assert told["jax"] == jax.__version__ and len(told["devices"]) == run.mesh.size


def test_images_that_the_teachers_know_are_told_and_new_ones_are_not():
    own = np.arange(4 * 2 * 16, dtype=np.uint8).reshape(4, 2, 16)
    marks = {"train": own, "test": own[[1, 2, 1]] + np.uint8([[[0], [0]], [[0], [1]], [[9], [0]]])}
    asked = SimpleNamespace(method=SimpleNamespace(asks=SimpleNamespace(workdir="runs/big")))
    parts = {name: range(1000) for name in ("validation", "test", "new")}
    run = SimpleNamespace(
        experiment=asked,
        splits=SimpleNamespace(parts=parts),
        seen_by_teachers={"validation": None, "test": 3, "new": 0},
        marks=marks.__getitem__,
    )
    assert summary.copies(run, "test") == 2  # one by its name alone
    unknown, known = summary.of_teachers(run)
    assert unknown.startswith("runs/big does not tell") and "1,000 validation images" in unknown
    assert known.startswith("3 of 1,000 test images were training images of the teachers")
    run.seen_by_teachers = {"test": 2}
    (twice,) = summary.of_teachers(run)
    assert twice.startswith("2 of 1,000 test images are there twice") and "inspect" in twice


def test_outside_of_a_checkout_there_is_no_commit(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(summary.subprocess, "run", missing)
    assert summary.commit() is None


def test_a_repository_that_the_package_was_installed_into_is_not_its_own(tmp_path, monkeypatch):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["commit", "-qm", "one", "--allow-empty"]):
        subprocess.run([*git, *words], check=True)
    installed = tmp_path / "venv/site-packages/fgvc_jax/training/summary.py"
    installed.parent.mkdir(parents=True)
    monkeypatch.setattr(summary, "__file__", str(installed))
    assert summary.commit() is None
