import shlex
from dataclasses import replace

import pytest
from conftest import ROOT, tiny

from fgvc_jax.training import experiments
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import Record, Workdir, storage

DATA = {name: {"names": name, "contents": None, "files": name, "count": 9} for name in ("train",)}
KNOWN = {**DATA, "test": {"names": "t", "contents": None, "files": "t", "count": 5}, "data": "d"}
KNOWN |= {"weights": None, "trunk": None}


def record(experiment=None, classes=("a", "b"), **known):
    return Record(experiment or tiny(), classes, KNOWN | known, False)


@pytest.fixture
def workdir(tmp_path):
    made = Workdir(tmp_path / "run")
    made.claim(record())
    return made


def test_members_count_from_the_first_to_where_one_is_missing(workdir):
    for number in (1, 3):
        workdir.final(number).mkdir(parents=True)
    assert workdir.trained() == 1 and workdir.member(12).name == "12"
    assert workdir.chosen("1,3", 3) == (1, 3)
    with pytest.raises(UserError, match=r"member 2 is missing .* do without by --members 1,3"):
        workdir.chosen(0, 3)


def test_without_a_member_none_is_chosen(workdir):
    with pytest.raises(UserError, match="no trained member yet"):
        workdir.chosen(0, 2)


def test_results_that_are_torn_or_of_fewer_members_are_not_finished(workdir):
    assert workdir.read_results() is None and workdir.finished(1) is None
    workdir.results.write_text('{"members": [')
    assert workdir.read_results() is None and workdir.finished(1) is None
    storage.write_json(workdir.results, {"members": [1]})
    assert workdir.finished(1) is None  # its member is not frozen
    workdir.final(1).mkdir(parents=True)
    assert workdir.finished(1) == {"members": [1]} and workdir.finished(2) is None


def test_more_members_continue_an_experiment_and_another_rate_is_another(workdir):
    more = tiny(members=tiny().members + 1)
    assert workdir.continued(more).members == more.members
    with pytest.raises(UserError, match="another experiment .*--seed .*name another") as error:
        workdir.continued(tiny(seed=7))
    *_, advice = str(error.value).partition("what it has: ")
    words = shlex.split(advice)  # which holds when it is followed
    saved = experiments.parse(["--config", str(ROOT / "configs/tiny.py"), "--seed=7", *words])
    assert workdir.continued(replace(saved, workdir=str(workdir.path)))


def test_other_images_or_classes_are_refused_by_name(workdir):
    assert workdir.check(record()).digests["data"]
    with pytest.raises(UserError, match="was begun with other classes .*missing: 'b'.*new: 'c'"):
        workdir.check(record(classes=("a", "c")))
    other = DATA["train"] | {"names": "others", "files": "others", "count": 8}
    with pytest.raises(UserError, match=r"other train images \(9, now 8\): give those again"):
        workdir.check(record(train=other))


def test_one_test_image_that_broke_may_be_gone(workdir, caplog):
    gone = KNOWN["test"] | {"names": "fewer", "files": "fewer", "count": 4}
    with pytest.raises(UserError, match="other test images"):
        workdir.check(record(test=gone))
    storage.write_json(workdir.broken, {"images": ["x"]})
    assert workdir.check(record(test=gone)).digests["test"] == gone
    assert "judged on those that are there now" in caplog.text
    workdir.claim(record(test=gone))
    assert not workdir.broken.exists()
