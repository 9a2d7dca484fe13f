"""What surrounds the training of members; tests/test_train.py and test_continue.py train some."""

import dataclasses

import pytest
from conftest import tiny

from fgvc_jax.config import Network, Transfer
from fgvc_jax.data.images import Broken
from fgvc_jax.training import members
from fgvc_jax.training.run import Run
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import Workdir, storage

NETWORK = Network(name="vit_micro", head="linear")


@pytest.fixture
def begun(tmp_path):
    """(run, workdir) of a run that has claimed its folder."""
    run = Run(tiny(tmp_path / "run", network=NETWORK, transfer=Transfer(name="none")))
    workdir = Workdir(tmp_path / "run")
    workdir.claim(run.record)
    return run, workdir


def test_a_finished_run_is_read_and_not_trained(begun, capsys, monkeypatch):
    run, workdir = begun
    for number in range(1, run.experiment.members + 1):
        workdir.final(number).mkdir(parents=True)
    results = {"members": [{}] * run.experiment.members}
    storage.write_json(workdir.results, results)
    monkeypatch.setattr(members, "Run", lambda spec: pytest.fail("nothing is to be trained"))
    assert members.train(run.experiment) == results
    assert "nothing to do" in capsys.readouterr().out


def test_data_that_are_others_by_now_are_no_finished_run(begun):
    run, workdir = begun
    members.check_data(workdir, run.experiment)
    data = dataclasses.replace(run.experiment.data, images_per_class=1)
    with pytest.raises(UserError, match="is finished, and the data are no longer those: it had ot"):
        members.check_data(workdir, dataclasses.replace(run.experiment, data=data))
    gone = dataclasses.replace(run.experiment.data, source="folder:/nowhere/at/all")
    members.check_data(workdir, dataclasses.replace(run.experiment, data=gone))


@pytest.mark.parametrize(("part", "remembered"), [("test", True), ("train", False)])
def test_a_workdir_remembers_a_broken_test_image_alone(begun, part, remembered):
    run, workdir = begun
    name = run.splits.parts[part].names[0]
    with pytest.raises(Broken), members.remembering_broken(run, workdir):
        raise Broken("image is broken", [name])
    assert workdir.broken.exists() == remembered


def test_a_member_meets_those_before_it_where_their_maps_are_precomputed(begun):
    run, _ = begun
    assert members.attention_before(run, 2, []) is None
    for maps, precomputed in (("online", False), ("precomputed", True)):
        transfer = Transfer(name="orthogonal", maps=maps)
        run.experiment = dataclasses.replace(run.experiment, transfer=transfer)
        found = members.attention_before(run, 2, [("digest", "member")])
        assert bool(found) == precomputed
    assert found.members == (("digest", "member"),) and found.grids == [found.grid]
