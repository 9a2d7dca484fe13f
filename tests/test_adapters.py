"""KT, kd and one network alone as adapters on a shared trunk, from training to a hub's folder."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from conftest import command, finish, tiny
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file

import fgvc_jax
from fgvc_jax.config import KD, Network, Transfer, check
from fgvc_jax.inference.export import hub
from fgvc_jax.inference.export.trained import Trained
from fgvc_jax.networks import lora
from fgvc_jax.training import loop
from fgvc_jax.training.members import train
from fgvc_jax.training.run import Run
from fgvc_jax.utils import devices
from fgvc_jax.utils.errors import Interrupted, UserError

VIT = Network(name="vit_micro", head="linear", lora_rank=2)
OPTIONS = ["--config", "configs/tiny.py", "--network.name", "vit_micro", "--network.head", "linear",
           "--network.lora-rank", "2", "--log-every", "1"]  # fmt: skip


def experiment(workdir, **changes):
    return tiny(workdir, **{"network": VIT, "log_every": 1} | changes)


def ignored(_line, /, **_numbers):
    pass


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": Network(lora_rank=4)}, "--network.lora-rank 4: resnet_small has no adapters"),
        ({"network": dataclasses.replace(VIT, frozen="stage3")}, "--network.frozen stage3 asks"),
        ({"networks": (VIT, VIT), "network": Network()}, "--network.lora-rank: networks of single"),
        ({"objective": "linear", "members": 1}, "--network.lora-rank 2: --objective linear is"),
    ],
)
def test_what_adapters_do_not_go_with_is_refused_in_one_line(changes, words):
    if changes.get("objective"):
        changes = changes | {"transfer": Transfer(name="none"), "epochs": 1}
    with pytest.raises(UserError, match=words) as error:
        check(experiment("unused", **changes))
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_step_takes_the_trunk_of_all_and_moves_what_a_member_has_of_its_own():
    """Traced, not compiled: what a step is handed, and what it gives back."""
    run = Run(experiment("unused", transfer=Transfer(name="none"), members=1))
    state = run.state(1, [])
    batch = devices.shard_batch(run.mesh, next(run.train_batches(1, 0)))
    after, metrics = jax.eval_shape(run.plan(1).train_step, state, batch, None, *run.shared)
    own, trunk = flatten_dict(after.params), flatten_dict(run.trunk.variables["params"])
    assert own.keys() == flatten_dict(state.params).keys() and not own.keys() & trunk.keys()
    assert any(lora.of_adapter(("params", *place)) for place in own) and "loss" in metrics
    with pytest.raises(Exception, match="trunk|missing|argument|param"):
        jax.eval_shape(run.plan(1).train_step, state, batch, None)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_member_learns_its_adapters_and_head_and_has_the_trunk_of_all():
    run = Run(experiment("unused"))
    own = [flatten_dict(run.start.variables(n)["params"]) for n in (1, 2)]
    assert all(p[0] == "heads" or lora.of_adapter(p) for p in own[0])
    assert all(lora.of_adapter(("params", *p)) for p in own[0] if p[0] == "backbone")
    down = next(p for p in own[0] if p[-1] == "down")
    assert not np.array_equal(own[0][down], own[1][down])
    one, two = (flatten_dict(run.member(n, run.start.variables(n)).variables) for n in (1, 2))
    shared = flatten_dict(run.trunk.on_devices)
    assert len(shared) + len(own[0]) == len(one)
    assert all(one[place] is two[place] is leaf for place, leaf in shared.items())
    assert run.features is None and run.cache.train.fetch is not None


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two members of KT with maps that are computed once, and what was told."""
    workdir, told = tmp_path_factory.mktemp("adapters") / "run", []
    results = train(experiment(workdir), report=lambda line, /, **_: told.append(line))
    return workdir, results, told


def variables_of(workdir, number):
    model = fgvc_jax.load(workdir)
    return {p: np.asarray(leaf) for p, leaf in
            flatten_dict(model.members[number - 1].variables).items()}  # fmt: skip


@pytest.mark.slow
def test_what_is_stored_of_a_member_is_small_and_what_it_costs_is_said(finished):
    workdir, results, told = finished
    sizes = {
        name: sum(file.stat().st_size for file in (workdir / name).rglob("*") if file.is_file())
        for name in ("trunk", "members/01/final", "members/02/final")
    }
    # Of 14,000 parameters of the trunk and 1,000 of a member; a file has a frame of its own.
    assert max(sizes["members/01/final"], sizes["members/02/final"]) < 0.7 * sizes["trunk"]
    assert any("adapters of rank 2: no features are kept" in line for line in told)
    assert any("M more frozen for all" in line for line in told)
    assert results["attention_overlap"][0][1] is not None
    assert json.loads((workdir / "config.json").read_text())["digests"]["trunk"]
    first, second = variables_of(workdir, 1), variables_of(workdir, 2)
    assert all(np.array_equal(leaf, second[p]) for p, leaf in first.items()
               if p[1] == "backbone" and not lora.of_adapter(p))  # fmt: skip
    assert any(np.abs(leaf).max() > 0 for p, leaf in second.items() if p[-1] == "up")


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_bit_for_bit_as_one_that_was_not(
    finished, tmp_path, monkeypatch
):
    _, results, _ = finished
    stops = iter([0, 0, 15, 0, 0, 0, 0, 0, 15])  # in the first member, and in the second
    monkeypatch.setattr(loop, "_agreed", lambda asked, step: next(stops, 0))
    for _ in range(2):
        with pytest.raises(Interrupted):
            train(experiment(tmp_path / "run"), report=ignored)
    again = train(experiment(tmp_path / "run"), report=ignored)
    assert again["digests"]["members"] == results["digests"]["members"]
    assert again["members"] == results["members"]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_maps_of_teachers_in_the_step_are_those_that_are_computed_once(finished, tmp_path):
    workdir, *_ = finished
    online = experiment(
        tmp_path / "run",
        transfer=dataclasses.replace(tiny().transfer, maps="online"),
        data=dataclasses.replace(tiny().data, view_sharing="shared"),
    )
    train(online, report=ignored)
    expected = variables_of(workdir, 2)
    for place, leaf in variables_of(tmp_path / "run", 2).items():
        np.testing.assert_allclose(leaf, expected[place], atol=2e-3, err_msg=str(place))


@pytest.mark.exhaustive
@pytest.mark.slow
def test_two_devices_train_the_members_that_one_does(finished, tmp_path):
    workdir, *_ = finished
    words = [*OPTIONS, "--workdir", tmp_path / "run"]
    code, _, error = finish(command("train", *words, devices=2))
    assert code == 0, error
    for number in (1, 2):
        expected = variables_of(workdir, number)
        for place, leaf in variables_of(tmp_path / "run", number).items():
            np.testing.assert_allclose(leaf, expected[place], atol=2e-3, err_msg=str(place))


@pytest.mark.exhaustive
@pytest.mark.slow
def test_an_export_is_merged_and_comes_back_from_a_hubs_folder(finished, tmp_path):
    workdir, *_ = finished
    of = Trained.of(workdir, which="final", members=0)
    of.drift.check()
    hub.write(of, tmp_path)
    assert not any("lora" in name for name in load_file(tmp_path / "model.safetensors"))
    model, loaded = fgvc_jax.load(workdir), fgvc_jax.load(tmp_path)
    images = [*of.drawn[:3]]
    np.testing.assert_allclose(loaded.predict(images), model.predict(images), atol=1e-4)
    assert np.abs(model.attention(images)[0] - model.attention(images)[1]).max() > 0
    # A first member as weights is merged as well, and adapters of another rank begin on it.
    network = dataclasses.replace(VIT, weights=str(workdir), lora_rank=3)
    start = flatten_dict(Run(experiment("unused", network=network)).start.trunk())
    expected = flatten_dict(lora.merged(model.members[0].variables))
    assert all(np.array_equal(leaf, expected[place]) for place, leaf in start.items())


@pytest.mark.exhaustive
@pytest.mark.slow
def test_members_with_adapters_teach_and_learn_by_kd_and_go_on(finished, tmp_path):
    workdir, *_ = finished
    student = dataclasses.replace(
        experiment(tmp_path / "student", members=1, epochs=1, transfer=Transfer(name="none")),
        objective="kd",
        kd=KD(teacher=str(workdir)),
    )
    assert len(train(student, report=ignored)["members"]) == 1
    more = experiment(tmp_path / "more", network=dataclasses.replace(VIT, start=str(workdir)))
    start = flatten_dict(Run(more).start.variables(2))
    before = variables_of(workdir, 2)
    assert all(np.array_equal(leaf, before[place]) for place, leaf in start.items())


@pytest.mark.exhaustive
@pytest.mark.slow
def test_another_trunk_than_the_members_is_refused(finished, tmp_path):
    workdir, *_ = finished
    shutil.copytree(workdir, tmp_path / "run")
    other = dataclasses.replace(experiment(tmp_path / "other", members=1, epochs=1), seed=7)
    train(other, report=ignored)
    shutil.rmtree(tmp_path / "run" / "trunk")
    shutil.copytree(tmp_path / "other" / "trunk", tmp_path / "run" / "trunk")
    with pytest.raises(UserError, match="is not the frozen trunk that the members were trained"):
        fgvc_jax.load(tmp_path / "run")
