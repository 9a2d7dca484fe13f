"""Members that go on from those of a finished run: what they take, what is drawn, what is told."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import tiny
from flax.traverse_util import flatten_dict

from fgvc_jax import config
from fgvc_jax.config import Data, Network, Transfer
from fgvc_jax.training import experiments, members, warm_start
from fgvc_jax.training.run import Run
from fgvc_jax.training.warm_start import Rows, WarmStart
from fgvc_jax.utils import devices
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir.checkpoint import load_final
from fgvc_jax.workdir.folder import Workdir
from fgvc_jax.workdir.record import Record


def birds(classes, **changes) -> Data:
    return dataclasses.replace(tiny().data, classes=classes, **changes)


def of_four(workdir, **changes):
    given = {"members": 2, "epochs": 1, "transfer": Transfer(name="none")}
    return tiny(workdir, data=birds(4), **given | changes)


def next_of(trained, workdir="unused", **changes):
    """A run that goes on from a trained one."""
    network = dataclasses.replace(trained.network, start=trained.workdir, weights="")
    return dataclasses.replace(trained, workdir=str(workdir), network=network, **changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    experiment = of_four(tmp_path_factory.mktemp("trained") / "run")
    members.train(experiment)
    return experiment


def final(experiment, number):
    run = Run(experiment)
    workdir = Workdir(experiment.workdir)
    like = run.plan(number).architecture.variables
    return flatten_dict(jax.device_get(load_final(workdir.final(number), like, run.mesh)))


def test_rows_are_put_where_their_classes_are():
    drawn = np.zeros((2, 4), np.float32)
    rows = Rows(1, np.array([3, 1]), np.array([[1, 2], [3, 4]], np.float32))
    np.testing.assert_array_equal(rows.put_into(drawn), [[0, 2, 0, 1], [0, 4, 0, 3]])
    assert not drawn.any()


@pytest.mark.parametrize("objective", ["ce", "hsd"])
def test_what_has_a_part_for_each_class_is_known_by_its_shape(objective):
    """The last layer of every head, and nothing else."""
    experiment = tiny(objective=objective, members=1, data=birds(4))
    (axes,) = warm_start.class_axes(Run(experiment).experiment, 4, devices.own())
    assert {place[-1]: axis for place, axis in axes.items()} == {"kernel": 1, "bias": 0}
    assert all(place[:2] == ("params", "heads") for place in axes)
    assert len(axes) == 2 * len({place[2] for place in axes})


def test_each_member_begins_as_its_own(trained):
    run = Run(next_of(trained))
    for number in (1, 2):
        start = flatten_dict(run.start.variables(number))
        before = final(trained, number)
        assert start.keys() == before.keys()
        for place in before:
            np.testing.assert_array_equal(start[place], before[place])


@pytest.mark.slow
def test_new_classes_have_new_rows_and_old_ones_their_own(trained):
    """Of six species the first four are the same."""
    more = next_of(trained, data=birds(6))
    start, before = flatten_dict(Run(more).start.variables(2)), final(trained, 2)
    apart = Run(dataclasses.replace(more, network=trained.network))
    random = flatten_dict(apart.start.variables(2))
    grown = [place for place in before if before[place].shape != start[place].shape]
    assert len(grown) == 2
    for place in grown:
        np.testing.assert_array_equal(start[place][..., :4], before[place])
        np.testing.assert_array_equal(start[place][..., 4:], random[place][..., 4:])
    for place in before.keys() - {*grown}:
        np.testing.assert_array_equal(start[place], before[place])


def test_classes_are_known_by_their_names(trained):
    """In another order, and two of four."""
    run = Run(next_of(trained))
    architecture = run.plan(1).architecture
    (axes, _) = warm_start.class_axes(run.experiment, 4, run.mesh)
    before, names = final(trained, 1), run.splits.classes
    member = warm_start.Predecessor(trained.workdir, 1)
    turned = WarmStart(member, names[::-1], axes, True).load(architecture.whole)
    for place, leaf in flatten_dict(turned).items():
        expected = np.flip(before[place], axes[place]) if place in axes else before[place]
        np.testing.assert_array_equal(leaf, expected)
    assert member.digest != warm_start.Predecessor(trained.workdir, 2).digest


def test_classes_are_known_in_either_form_of_accents():
    """A folder that was on macOS has them in the other one."""

    class Known:
        workdir, number = "run", 1
        known = (
            ("Ani", "H\u00e9ron", "Wren"),
            {("params", "heads", "logits", "bias"): np.arange(3.0)},
        )

    drawn = {"params": {"heads": {"logits": {"bias": np.zeros(3)}}}}
    start = WarmStart(
        Known, ("He\u0301ron", "Ibis", "Ani"), {("params", "heads", "logits", "bias"): 0}, True
    )
    found = start.load(drawn)["params"]["heads"]["logits"]["bias"]
    assert (found.rows.tolist(), found.values.tolist()) == ([0, 2], [1.0, 0.0])


@pytest.mark.slow
def test_it_is_trained_recorded_and_continued_as_every_run(trained, tmp_path, capsys):
    more = next_of(trained, tmp_path / "more", data=birds(6))
    results = members.train(more)
    digests = results["digests"]["weights"]
    assert len(set(digests)) == 2
    other = members.train(
        dataclasses.replace(more, workdir=str(tmp_path / "other"), network=trained.network)
    )
    assert set(other["digests"]["training"]).isdisjoint(results["digests"]["training"])
    capsys.readouterr()
    assert members.train(more) == results
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(UserError, match="has 2 finished members, and member 3 .*: --members 2"):
        members.train(dataclasses.replace(more, members=3))


@pytest.mark.slow
def test_a_trunk_that_is_shared_goes_on_and_one_that_is_not_is_refused(trained, tmp_path):
    frozen = dataclasses.replace(trained.network, frozen="stage3")
    first = of_four(tmp_path / "first", network=frozen)
    members.train(first)
    run = Run(next_of(first))
    run.start.check()
    trunk = flatten_dict(run.start.trunk())
    for place, leaf in flatten_dict(Run(first).start.trunk()).items():
        np.testing.assert_array_equal(trunk[place], leaf)
    whole = next_of(trained)
    apart = dataclasses.replace(whole.network, frozen="stage3")
    with pytest.raises(UserError, match="no trunk in common: leave --network.frozen and"):
        Run(dataclasses.replace(whole, network=apart)).start.check()
    Run(dataclasses.replace(whole, network=apart, members=1)).start.check()


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"name": "vgg_micro"}, "member 1: it has no .*/backbone/.*: its network or head"),
        ({"head": "linear"}, "member 1: it has no params/heads/logits/.*without --config a run"),
        ({"head_width": 8}, "its .*/heads/logits/.* is .*, and here .*: its network or head"),
    ],
)
def test_another_network_is_refused(trained, network, words):
    given = next_of(trained)
    given = dataclasses.replace(given, network=dataclasses.replace(given.network, **network))
    with pytest.raises(UserError, match=words):
        Run(given).start.check()


def test_other_classes_and_other_folders_are_refused(trained, tmp_path):
    (axes, _) = warm_start.class_axes(Run(next_of(trained)).experiment, 4, devices.own())
    member = warm_start.Predecessor(trained.workdir, 1)
    with pytest.raises(UserError, match="knows none of these classes .* by --network.weights"):
        WarmStart(member, ["a", "b"], axes, True).load({})
    for name, words in (("", "no finished member"), ("nowhere", "no finished member")):
        network = Network(name="resnet_micro", start=str(tmp_path / name))
        with pytest.raises(UserError, match=f"--network.start .*{words}"):
            Run(tiny(network=network))


def test_what_is_solved_takes_the_network_and_solves_its_head(trained):
    spec = experiments.config.solved(next_of(trained), "linear")
    spec = dataclasses.replace(
        spec, network=dataclasses.replace(spec.network, start=trained.workdir, weights="")
    )
    start, before = flatten_dict(Run(spec).start.variables(1)), final(trained, 1)
    backbone = [place for place in before if place[1] == "backbone"]
    for place in backbone:
        np.testing.assert_array_equal(start[place], before[place])


# -- the command line ------------------------------------------------------------------------------


def test_without_a_config_it_is_the_runs_experiment(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = experiments.experiment_of(["--network.start", trained.workdir, "--epochs", "3"])
    assert made.workdir.endswith("run_next") and made.epochs == 3
    assert (made.network.start, made.network.weights) == (trained.workdir, "")
    assert (made.network.name, made.members) == (trained.network.name, 2)
    (tmp_path / "more/a").mkdir(parents=True)
    for words in (["more"], ["--data.source", "folder:more"]):
        made = experiments.experiment_of([*words, "--network.start", trained.workdir])
        assert made.data.source == "folder:more" and made.data.crop == trained.data.crop


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("hf:org/name", "--network.start 'hf:org/name' is an export on a hub"),
        (
            "nowhere",
            "--network.start 'nowhere' is no workdir of a run: name that of a finished run",
        ),
    ],
)
def test_what_is_no_run_is_told(start, words):
    with pytest.raises(UserError, match=words):
        experiments.experiment_of(["--network.start", start])


def test_a_solved_head_is_not_gone_on_from(tmp_path):
    spec = config.solved(tiny(tmp_path / "one"), "linear")
    Workdir(spec.workdir).claim(Record(spec, ("a", "b"), {}, False))
    words = ["--network.start", str(tmp_path / "one"), "--data.source", "sketchbirds"]
    with pytest.raises(UserError, match="solved at once .*; train again on the old and the new"):
        experiments.experiment_of(words)
