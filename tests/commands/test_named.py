"""What the words of a command name: every reading, what could be two things, and misspelt ones."""

import dataclasses
import json
import os

import pytest
from buckets import Memory
from conftest import tiny
from PIL import Image

from fgvc_jax import config
from fgvc_jax.commands import inspect, named
from fgvc_jax.commands.asked import Embedding, Evaluation, Prediction, Report
from fgvc_jax.commands.train import experiment_of
from fgvc_jax.config import Data, Experiment, Network, Optimizer, Transfer
from fgvc_jax.objectives import KD
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import Record, Workdir, bucket, mirror


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


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(call, *arguments):
    with pytest.raises(UserError) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


# -- train on a workdir ----------------------------------------------------------------------------


def test_a_workdir_without_a_config_is_what_it_is(elsewhere):
    """`train --workdir X` was the default experiment, and refused as another one."""
    begun("runs/x", tiny("was/elsewhere", seed=7, distributed=True, save_every=3))
    for words in (["--workdir", "runs/x"], ["runs/x"], ["--workdir=runs/x"]):
        found = experiment_of(words)
        assert found == tiny("runs/x", seed=7, save_every=3)
        assert Workdir("runs/x").continued(found) == found
    more = experiment_of(["runs/x", "--members", "3", "--epochs=2", "--seed", "7"])
    assert more == tiny("runs/x", seed=7, save_every=3, members=3)
    assert Workdir("runs/x").continued(more).members == 3


def test_another_value_than_that_of_a_workdir_is_refused_by_its_name_alone(elsewhere):
    """What was settled from the value, as the number of views, is no reason of its own."""
    spec = tiny("runs/x", data=dataclasses.replace(tiny().data, views=2, view_seed=0))
    begun("runs/x", spec)
    refused = told(Workdir("runs/x").continued, experiment_of(["runs/x", "--epochs", "1"]))
    assert "(--epochs 2 -> 1)" in refused and "--epochs 2" in refused.partition("): ")[2]
    same = Workdir("runs/x").continued(experiment_of(["runs/x", "--epochs", "2"]))
    assert same == spec


def test_with_a_config_the_config_holds(elsewhere):
    begun("runs/x", tiny("runs/x", seed=7))
    found = experiment_of(["tiny", "--workdir", "runs/x"])
    assert found == tiny("runs/x") == experiment_of(["--config", "tiny", "--workdir", "runs/x"])
    assert "--seed 7 -> 0" in told(Workdir("runs/x").continued, found)


def test_without_words_it_is_the_default_and_never_the_newest_run(elsewhere):
    begun("runs/x")
    finish("runs/x", 9)
    assert experiment_of([]) == Experiment()
    assert experiment_of(["--members", "5"]) == dataclasses.replace(Experiment(), members=5)
    assert experiment_of(["--workdir", "runs/new"]) == dataclasses.replace(
        Experiment(), workdir="runs/new"
    )


def test_members_of_networks_of_their_own_are_gone_on_with(elsewhere):
    networks = (Network(name="resnet_micro"), Network(name="vit_micro", head="linear"))
    begun("runs/x", tiny("runs/x", network=Network(), networks=networks))
    assert experiment_of(["runs/x"]).networks == networks
    assert "the config's `networks` names one for each" in told(
        experiment_of, ["runs/x", "--members", "3"]
    )


# -- a student -------------------------------------------------------------------------------------

KD_OF = ["--objective", "kd", "--kd.teacher"]


def test_a_student_is_its_teachers_experiment(elsewhere):
    """All of it but transfer, members and what the teacher's own teacher was."""
    network = Network(name="resnet_micro", head="linear", pool="avg", frozen="stage3")
    data = Data(source="folder:birds", resize=40, crop=32, cache="kept", views=4, view_seed=3)
    own = Experiment(
        workdir="runs/x",
        members=4,
        epochs=4,
        batch_size=6,
        seed=3,
        objective="kd",
        kd=KD(teacher="runs/older", temperature=9.0),
        data=dataclasses.replace(data, view_sharing="own"),
        network=network,
        transfer=Transfer(alpha=0.25, maps="online"),
        optimizer=Optimizer(name="adamw", learning_rate=0.001),
    )
    begun("runs/x", own)
    expected = dataclasses.replace(
        own,
        workdir="runs/x_student",
        members=1,
        data=dataclasses.replace(data, views=0, view_seed=-1),
        transfer=Transfer(name="none"),
        kd=KD(teacher="runs/x"),
    )
    assert experiment_of([*KD_OF, "runs/x"]) == expected
    changed = experiment_of([*KD_OF, "runs/x", "--epochs", "6", "--workdir", "s", "--members=2"])
    assert changed == dataclasses.replace(expected, epochs=6, workdir="s", members=2)
    assert experiment_of([*KD_OF, "runs/x", "--network.head", "kt"]).network.pool == "auto"


@pytest.mark.parametrize("teacher", ["runs/x", "runs/x/", "./runs/x", "runs/../runs/x"])
def test_a_students_workdir_is_beside_its_teachers(elsewhere, teacher):
    begun("runs/x")
    assert experiment_of([*KD_OF, teacher]).workdir == "runs/x_student"


def test_a_student_goes_on_with_what_it_is(elsewhere):
    """Also once it is there, and where it was begun otherwise than its teacher."""
    begun("runs/x")
    first = experiment_of([*KD_OF, "runs/x", "--epochs", "3", "--workdir", "runs/s"])
    begun("runs/s", first)
    again = experiment_of(["--workdir", "runs/s"])
    assert Workdir("runs/s").continued(again) == first
    assert experiment_of([*KD_OF, "runs/x", "--workdir", "runs/s"]) == again


def test_a_students_network_is_said_where_its_teachers_have_several(elsewhere):
    wide = Network(name="resnet_micro", head_width=32)
    networks = (wide, Network(name="vit_micro", head="linear"))
    begun("runs/x", tiny("runs/x", network=Network(), networks=networks))
    refused = told(experiment_of, [*KD_OF, "runs/x"])
    assert "--network.name resnet_micro or --network.name vit_micro or --config" in refused
    found = experiment_of([*KD_OF, "runs/x", "--network.name", "resnet_micro"])
    assert (found.network, found.networks) == (wide, ())
    begun("runs/alike", tiny("runs/alike", network=Network(), networks=(wide, wide)))
    assert experiment_of([*KD_OF, "runs/alike"]).network == wide


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        ("hf:org/birds", ["export on a hub", "name the one that it was made of"]),
        ("runs/brids", ["'runs/brids' is no workdir", "did you mean 'runs/birds'?"]),
        ("", ["--kd.teacher is empty"]),
        (".", ["add --workdir"]),
    ],
)
def test_a_teacher_that_cannot_be_says_the_way_out(elsewhere, teacher, words):
    begun("runs/birds")
    begun(".")
    refused = told(experiment_of, [*KD_OF, teacher])
    assert all(word in refused for word in words), refused


def test_a_student_is_not_trained_in_an_export(elsewhere):
    (elsewhere / "x").mkdir()
    (elsewhere / "x/config.json").write_text('{"fgvc_jax": {}}')
    assert "'x' is an export" in told(experiment_of, [*KD_OF, "x"])
    assert "'x' is an export" in told(experiment_of, ["x"])


# -- words of train --------------------------------------------------------------------------------


def read(*words):
    where = [each for each in words if each.startswith("-")]
    at = words.index(where[0]) if where else len(words)
    return named.of_training(words[:at], list(words[at:]))


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (["kt:cub,resnet50"], ["--config", "kt:cub,resnet50"]),
        (["tiny"], ["--config", "tiny"]),
        (["folder:birds"], ["--config", "folder:birds"]),
        (["my birds/"], ["--config", "folder:my birds/"]),
        (["list.csv"], ["--config", "folder:csv:list.csv"]),
        (["csv:list.csv"], ["--config", "folder:csv:list.csv"]),
        (["mine.py:a,b"], ["--config", "mine.py:a,b"]),
        (["run"], ["--workdir", "run"]),
        (["gs://bucket/run"], ["--workdir", "gs://bucket/run"]),
        (["sketchbirds"], ["--data.source", "sketchbirds"]),
        (["ce:cub,resnet50", "cub:/x"], ["--config", "ce:cub,resnet50", "--data.source", "cub:/x"]),
        (["cub:/x", "ce:cub,resnet50"], ["--config", "ce:cub,resnet50", "--data.source", "cub:/x"]),
        (["kt_quick", "my birds"], ["--config", "kt_quick", "--data.source", "folder:my birds"]),
        (["folder:b", "run"], ["--workdir", "run", "--data.source", "folder:b"]),
        (["my birds", "run"], ["--workdir", "run", "--data.source", "folder:my birds"]),
        (["folder:b", "--workdir", "run"], ["--config", "folder:b"]),
        (["folder:b", "--config", "tiny"], ["--data.source", "folder:b"]),
        (["cub:/x", "--workdir", "run"], ["--data.source", "cub:/x"]),
        (["cub:/x", "--objective=kd", "--kd.teacher=run"], ["--data.source", "cub:/x"]),
        (["tiny", "--config", "tiny"], ["--config", "tiny"]),
        ([], []),
    ],
)
def test_a_word_of_train_is_an_option(elsewhere, words, given):
    begun("run")
    photographs(elsewhere / "my birds")
    (elsewhere / "list.csv").touch()
    assert read(*words) == given


@pytest.mark.parametrize(
    ("words", "told_"),
    [
        (["tinny"], "there is no 'tinny' (did you mean 'tiny'?)"),
        (["ktt:cub,resnet50"], "did you mean 'kt:cub,resnet50'?"),
        (["birdz"], "did you mean 'birds'?"),
        (["runs/now"], "did you mean 'runs/new'?"),
        (["a.jpg"], "neither a config (.py) nor a list (.csv)"),
        (["my bees"], "there is no 'my bees': train takes"),
        (["nothing like it"], "a new one is named by --workdir"),
        (["cub:/x y"], "name a config, too, as in train kt:cub,resnet50 'cub:/x y'"),
        (["kt:cub,resnet50", "tiny"], "'tiny' is a second config beside 'kt:cub,resnet50'"),
        (["tiny", "--config", "kt_quick"], "second config beside 'kt_quick'"),
        (["run", "--workdir", "other"], "second workdir beside 'other'"),
        (["kt"], "'kt' could be two things: write ./kt or --config kt"),
        (["folder:b b"], "write './folder:b b' or --config 'folder:b b'"),
        (["sketchbirds"], "write ./sketchbirds or --data.source sketchbirds"),
        (["both"], "write --workdir both or --config folder:both"),
    ],
)
def test_a_word_of_train_that_is_nothing_or_two_things(elsewhere, words, told_):
    begun("run")
    begun("both")
    photographs(elsewhere / "both")
    for name in ("birds", "runs/new", "kt", "folder:b b", "sketchbirds"):
        (elsewhere / name).mkdir(parents=True)
    (elsewhere / "a.jpg").touch()
    assert told_ in told(read, *words)


@pytest.mark.parametrize("word", ["./kt", "./folder:b b", "./sketchbirds"])
def test_the_spellings_that_are_told_are_understood(elsewhere, word):
    (elsewhere / word).mkdir()
    assert read(word) == ["--config", f"folder:{word}"]


@pytest.fixture
def bucket_in_memory(monkeypatch, elsewhere):
    """All gs:// URLs are in it."""
    made = Memory()
    monkeypatch.setattr(bucket, "connect", lambda name: made)
    monkeypatch.setattr(mirror, "_mirrors", {})
    monkeypatch.setattr(mirror, "_held", [])
    monkeypatch.setenv(mirror.PLACE, str(elsewhere / "mirrors"))


def test_a_workdir_in_a_bucket_is_what_it_is(bucket_in_memory):
    url = "gs://bucket/x"
    refused = told(experiment_of, [url])
    assert f"a new one is named by --workdir {url}" in refused
    assert experiment_of(["--workdir", url]).workdir == url  # of the default experiment
    begun(url, tiny(url, seed=7))
    assert experiment_of([url]) == experiment_of(["--workdir", url]) == tiny(url, seed=7)
    found = experiment_of([*KD_OF, url])
    assert (found.workdir, found.seed, found.members) == ("gs://bucket/x_student", 7, 1)
    begun("gs://bucket")
    assert "add --workdir" in told(experiment_of, [*KD_OF, "gs://bucket"])


@pytest.mark.parametrize("words", [["hf:org/birds"], ["--workdir", "hf:org/birds"]])
def test_a_hubs_export_is_not_trained_on(words):
    assert "is not trained on" in told(experiment_of, words)


def test_no_line_says_two_members_where_one_is_asked_for(elsewhere, caplog):
    """The config `folder` told of the 2 members and the epochs that it takes by itself."""
    photographs(elsewhere / "birds")
    with caplog.at_level("INFO"):
        found = experiment_of(["birds", "--members", "1", "--epochs=5"])
    assert (found.members, found.epochs, found.workdir) == (1, 5, "runs/birds")
    assert "1 member of 5 epochs" in caplog.text and "2 member" not in caplog.text
    assert "--members" in told(experiment_of, ["birds", "--members", "many"])


# -- commands that ask a run -----------------------------------------------------------------------


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


# -- a source --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "source"),
    [
        ("cub:/x", "cub:/x"),
        ("folder:my birds", "folder:my birds"),
        ("my birds", "folder:my birds"),
        ("list.CSV", "csv:list.CSV"),
        ("sketchbirds", "sketchbirds"),
        ("/nowhere", "there is no '/nowhere'"),
        ("my bird", "there is no 'my bird' (did you mean 'my birds'?)"),
        ("cab:/x", "did you mean 'cub:/x'?"),
        ("run", "'run' is a workdir, and a source is"),
        ("two:", "there is no 'two:'"),
    ],
)
def test_a_word_names_a_source(elsewhere, word, source):
    photographs(elsewhere / "my birds")
    (elsewhere / "list.CSV").touch()
    begun("run")
    if " is " in source or "mean" in source:
        assert source in told(named.source_of, word)
    else:
        assert named.source_of(word) == source


def test_inspect_takes_a_source(elsewhere, capsys):
    photographs(elsewhere / "birds")
    inspect.main(["birds"])
    assert "a: 2 to train on" in capsys.readouterr().out
    assert "one of two sources" in told(inspect.main, ["birds", "other"])
    assert "one of two sources" in told(inspect.main, ["birds", "--data.source", "sketchbirds"])
    (elsewhere / "sketchbirds").mkdir()
    assert "write --data.source sketchbirds or ./sketchbirds" in told(inspect.main, ["sketchbirds"])


def test_a_config_is_misspelt():
    assert "did you mean kt:cub,resnet50?" in told(config.load_config, "kt_:cub,resnet50")
