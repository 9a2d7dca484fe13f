"""The experiment that a command line asks for: what a workdir is, a student, and the default."""

import dataclasses

import pytest
from begun_runs import begun, finish, photographs, told
from buckets import Memory
from conftest import tiny

from fgvc_jax import config
from fgvc_jax.config import Data, Experiment, Network, Optimizer, Transfer
from fgvc_jax.objectives import KD
from fgvc_jax.recipes import first_run
from fgvc_jax.training.experiments import experiment_of
from fgvc_jax.workdir import Workdir, bucket, mirror

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
    assert experiment_of([]) == first_run()
    assert experiment_of(["--members", "5"]) == dataclasses.replace(first_run(), members=5)
    assert experiment_of(["--workdir", "runs/new"]) == dataclasses.replace(
        first_run(), workdir="runs/new"
    )


@pytest.mark.parametrize(
    ("words", "told_"),
    [
        (
            "tiny --objective hsd --ce.class-weights balanced",
            "is of --objective ce, and this one",
        ),
        ("tiny --kd.teacher=runs/x", "--kd.teacher is of --objective kd, and this one is ce: add"),
        (
            "tiny --objective linear --ce.logit_adjustment 1",
            "--ce.logit-adjustment is of",
        ),
    ],
)
def test_an_option_of_another_objective_is_refused(elsewhere, words, told_):
    """It was ignored, so that a long tail was not balanced without a word."""
    assert told_ in told(experiment_of, words.split())
    assert experiment_of(["tiny", "--kd.temperature", str(KD().temperature)]).objective == "ce"


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


def test_a_solved_network_has_no_recipe_for_a_student(elsewhere):
    begun("x", config.solved(tiny("x"), "linear"))
    assert "solved and not trained by steps" in told(experiment_of, [*KD_OF, "x"])


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


def test_a_config_is_misspelt():
    assert "did you mean kt:cub,resnet50?" in told(config.load_config, "kt_:cub,resnet50")
