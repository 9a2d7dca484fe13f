"""What the words of a command that asks a run name: every reading, and what could be two things."""

import pytest
from begun_runs import begun, finish, photographs, told

from fgvc_jax.commands import inspect, named
from fgvc_jax.commands.asked import Embedding, Evaluation, Prediction, Report


def answered_by(cls, command, words):
    return named.of_a_run(named.read(cls, command, words))


def test_a_workdir_comes_first(elsewhere):
    begun("a run")
    for name in ("b.jpg", "@b"):
        (elsewhere / name).touch()
    found = named.read(Prediction, "predict", ["a run", "@b"])
    assert (found.workdir, found.images) == ("a run", ("@b",))
    for words in (["a run", "b.jpg", "c"], ["--top", "3", "a run", "b.jpg", "c"]):
        found = answered_by(Prediction, "predict", words)
        assert (found.workdir, found.images) == ("a run", ("b.jpg", "c"))
    for first in ("hf:org/birds", "gs://bucket/run"):
        found = answered_by(Prediction, "predict", [first, "b.jpg"])
        assert (found.workdir, found.images) == (first, ("b.jpg",))
    assert answered_by(Evaluation, "evaluate", ["a run"]).workdir == "a run"
    same = answered_by(Evaluation, "evaluate", ["a run", "--workdir", "a run"])
    assert same.workdir == "a run"


def test_with_workdir_all_words_are_images(elsewhere):
    begun("run")
    found = answered_by(Prediction, "predict", ["run", "x.jpg", "--workdir=run"])
    assert (found.workdir, found.images) == ("run", ("run", "x.jpg"))


def test_an_option_of_several_words_keeps_them(elsewhere):
    begun("run")
    words = ["run", "--against", "one", "two", "--members", "1"]
    found = answered_by(Report, "report", words)
    assert (found.workdir, found.against, found.members) == ("run", ("one", "two"), 1)
    assert answered_by(Report, "report", [*words[1:4], "--workdir", "run"]).against == (
        "one",
        "two",
    )


def test_without_a_workdir_it_is_the_newest_finished_run(elsewhere, caplog):
    begun("runs/old")
    begun("runs/study/row/1")
    begun("runs/unfinished")
    begun("runs/broken")
    for path, seconds in (("runs/old", 10), ("runs/study/row/1", 20), ("runs/broken", 30)):
        finish(path, seconds)
    (elsewhere / "runs/broken/config.json").write_text("{")
    (elsewhere / "a.jpg").touch()
    with caplog.at_level("INFO"):
        found = answered_by(Prediction, "predict", ["a.jpg"])
    assert (found.workdir, found.images) == ("runs/study/row/1", ("a.jpg",))
    assert "runs/study/row/1: the newest finished run" in caplog.text


def test_a_pretrained_network_asks_no_run(elsewhere):
    (elsewhere / "a.jpg").touch()
    words = ["a.jpg", "--network.name", "resnet50"]
    assert named.read(Embedding, "embed", words).workdir == ""


@pytest.mark.parametrize("some", [False, True])
def test_no_finished_run_says_the_way_out(elsewhere, some):
    if some:
        begun("runs/x")
    refused = told(answered_by, Evaluation, "evaluate", [])
    assert ("none of the 1 below runs/ is finished" if some else "none is in runs/") in refused
    assert "name one first, or train one" in refused


@pytest.mark.parametrize(
    ("cls", "words", "told_"),
    [
        (Prediction, ["rum", "a.jpg"], "there is no 'rum' (did you mean 'run'?)"),
        (Prediction, ["run", "aa.jpg"], "there is no 'aa.jpg' (did you mean 'a.jpg'?)"),
        (Prediction, ["aa.jpg"], "there is no 'aa.jpg' (did you mean 'a.jpg'?)"),
        (Prediction, ["a.jpg", "run"], "'run' is a workdir, of which a command takes one"),
        (Prediction, ["run", "run"], "'run' is a workdir, of which a command takes one"),
        (Prediction, ["a.jpg", "hf:org/x"], "predict hf:org/x IMAGES"),
        (Prediction, ["both of"], "write --workdir 'both of' IMAGES to ask the run in it, or "
                                  "--workdir RUN 'both of' for its images"),
        (Prediction, ["a.jpg", "--workdir", ""], "--workdir is empty"),
        (Prediction, ["a.jpg", "--workdir"], "--workdir is empty"),
        (Evaluation, ["a.jpg"], "'a.jpg' is no workdir (it has no config.json)"),
        (Evaluation, ["rum"], "did you mean 'run'?"),
        (Evaluation, ["run", "both of"], "'run' and 'both of' are two"),
        (Evaluation, ["run", "--workdir", "both of"], "'run' and 'both of' are two"),
        (Evaluation, ["hf:org/x"], "is an export on a hub, which predict, explain, embed and demo"),
        (Report, ["--workdir", "hf:org/x"], "report takes the workdir that it was made of"),
        (Report, ["run", "both of"], "--against others"),
        (Report, ["run", "--agianst", "x"], "did you mean --against?"),
    ],
)  # fmt: skip
def test_a_word_that_is_no_workdir_or_two(elsewhere, cls, words, told_):
    begun("run")
    begun("both of")
    for name in ("a.jpg", "both of/b.png"):
        (elsewhere / name).touch()
    command = {Prediction: "predict", Evaluation: "evaluate", Report: "report"}[cls]
    assert told_ in told(answered_by, cls, command, words)


def test_inspect_takes_a_source(elsewhere, capsys):
    photographs(elsewhere / "birds")
    inspect.main(["birds"])
    assert "a: 2 to train on" in capsys.readouterr().out
    assert "one of two sources" in told(inspect.main, ["birds", "other"])
    assert "one of two sources" in told(inspect.main, ["birds", "--data.source", "sketchbirds"])
    (elsewhere / "sketchbirds").mkdir()
    assert "write --data.source sketchbirds or ./sketchbirds" in told(inspect.main, ["sketchbirds"])
