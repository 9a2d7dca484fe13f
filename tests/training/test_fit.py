"""Training from Python leaves the process as it was, tells what is asked for, and is continued."""

import dataclasses
import logging
import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT, tiny
from PIL import Image

import fgvc_jax
from fgvc_jax.config import Experiment, Optimizer
from fgvc_jax.training.fit import _experiment, _options
from fgvc_jax.utils.errors import UserError


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(a run, what was told of it, the programs that it started); no signal could be caught."""
    told, started, folder = [], [], tmp_path_factory.mktemp("fit") / "whole"
    popen = subprocess.Popen

    class Noted(popen):
        def __init__(self, words, *rest, **options):
            started.append(words[0])
            super().__init__(words, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", Noted)
        for module, name in ((signal, "signal"), (os, "fork"), (os, "_exit")):
            patch.setattr(module, name, lambda *_: pytest.fail("the process is not ours"))
        run = fgvc_jax.fit(tiny("unused"), workdir=folder, progress=told.append)
    return run, told, started


@pytest.mark.slow
def test_it_tells_of_lines_and_of_epochs_in_numbers(whole):
    _, told, _ = whole
    assert all(isinstance(each["line"], str) for each in told)
    epochs = [each for each in told if "epoch" in each]
    assert [(e["member"], e["epoch"], e["step"]) for e in epochs] == [
        (1, 1, 4), (1, 2, 8), (2, 1, 4), (2, 2, 8),
    ]  # fmt: skip
    assert all((e["members"], e["epochs"]) == (2, 2) for e in epochs)
    assert all(f"{e['test_accuracy']:.1%}" in e["line"] for e in epochs)
    assert len(told) > len(epochs)


def test_it_starts_no_process_but_git_which_tells_the_commit(whole):
    assert set(whole[2]) <= {"git"}


def test_what_it_returns_is_what_is_in_the_folder(whole):
    run, told, _ = whole
    last = [each["test_accuracy"] for each in told if each.get("epoch") == 2]
    assert [e["test_accuracy"] for e in run.history if e["epoch"] == 2] == last
    assert run.results == fgvc_jax.results(run.workdir)
    assert repr(run.model) == repr(fgvc_jax.load(run.workdir)) and "<iframe" in run._repr_html_()


@pytest.mark.slow
def test_an_interrupted_call_is_continued_bit_for_bit(whole, tmp_path):
    """Ctrl-C in a notebook is KeyboardInterrupt, wherever the training is."""
    run, folder = whole[0], tmp_path / "run"

    def interrupt(at):
        def tell(told):
            if (told.get("member"), told.get("epoch")) == at:
                signal.raise_signal(signal.SIGINT)

        return tell

    for at in ((1, 1), (2, 1)):
        with pytest.raises(KeyboardInterrupt):
            fgvc_jax.fit(tiny(folder, save_every=1), progress=interrupt(at))
    again = fgvc_jax.fit(tiny(folder, save_every=1), progress=False)
    assert again.model.identities == run.model.identities
    assert again.history == run.history
    told = []
    fgvc_jax.fit(folder, progress=told.append)
    assert len(told) == 1 and "nothing to do" in told[0]["line"]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_what_progress_raises_ends_it_and_silence_is_silent(tmp_path, capfd):
    def stop(told):
        logging.getLogger("absl").warning("a slow save")  # as Orbax tells of it
        raise ArithmeticError(told["line"])

    level = logging.getLogger("absl").level
    spec = tiny(tmp_path / "run", members=1, epochs=1)
    with pytest.raises(ArithmeticError, match="sketchbirds: 4 classes"):
        fgvc_jax.fit(spec, progress=stop)
    assert logging.getLogger("absl").level == level
    fgvc_jax.fit(spec, progress=False)
    assert capfd.readouterr() == ("", "")
    fgvc_jax.fit(spec)
    assert "nothing to do" in capfd.readouterr().out


# -- words and fields ------------------------------------------------------------------------------


def read(what, **fields):
    return _experiment(what, [*_options(fields)])


def test_fields_are_keywords_and_groups_dicts(elsewhere):
    found = read("tiny", epochs=3, data={"view_seed": -1, "cache_gib": 2}, workdir=elsewhere / "-a")
    data = dataclasses.replace(tiny().data, view_seed=-1, cache_gib=2.0)
    assert found == tiny(elsewhere / "-a", epochs=3, data=data)
    assert read(tiny("x"), members=1, workdir="y") == tiny("y", members=1)
    assert read(tiny("x")) == tiny("x")
    assert list(_options({"a": (1, 2), "b": {"c_d": True}})) == ["--a", "1", "2", "--b.c-d=True"]


@pytest.mark.parametrize(
    ("what", "fields", "told"),
    [
        ("tiny", {"epoch": 3}, "did you mean --epochs?"),
        ("tiny", {"epochs": "x"}, "--epochs"),
        ("tiny", {"optimizer": {"learning_rates": 1}}, "did you mean --optimizer.learning-rate?"),
        ("tiny", {"optimizer": Optimizer()}, "optimizer is of the class Optimizer"),
        ("tinny", {}, "did you mean 'tiny'?"),
        ("", {}, "'' names nothing to train"),
        ("--help", {}, "'--help' names nothing to train"),
        (3, {}, "3 names nothing to train"),
        (Experiment(), {"config": "tiny"}, "are two"),
    ],
)
def test_what_makes_no_sense_is_told_in_a_line(elsewhere, what, fields, told):
    with pytest.raises(UserError) as error:
        read(what, **fields)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_several_processes_and_a_strange_progress_are_refused(tmp_path):
    with pytest.raises(UserError, match="in this process alone"):
        fgvc_jax.fit(tiny(tmp_path / "run"), distributed=True)
    with pytest.raises(UserError, match="progress is 3: give a function"):
        fgvc_jax.fit(tiny(tmp_path / "run"), progress=3)
    assert not (tmp_path / "run").exists()


# -- memory ----------------------------------------------------------------------------------------

TEN_RUNS = """
import dataclasses, gc, sys
from pathlib import Path
from conftest import ROOT, tiny
from PIL import Image
import fgvc_jax

for number in range(1, 11):
    spec = tiny(Path(sys.argv[1]) / str(number), seed=number)
    data = dataclasses.replace(spec.data, images_per_class=4, resize=128)
    run = fgvc_jax.fit(dataclasses.replace(spec, data=data, epochs=1), progress=False)
    run._repr_html_(), run.model.explain(Path(sys.argv[2]))._repr_html_()
    del run
    gc.collect()
    print(int(Path("/proc/self/statm").read_text().split()[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="a system without /proc")
@pytest.mark.exhaustive
def test_ten_runs_in_a_process_take_the_memory_of_two(tmp_path):
    """What a run has compiled, decoded and mapped goes with it."""
    Image.new("RGB", (150, 150)).save(tmp_path / "a.png")
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    words = [sys.executable, "-c", TEN_RUNS, tmp_path / "runs", tmp_path / "a.png"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    pages = [int(line) for line in done.stdout.split()]
    assert len(pages) == 10 and pages[-1] < 1.2 * pages[1], pages
