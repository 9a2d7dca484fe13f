import dataclasses
import json

import pytest
from conftest import tiny

import fgvc_jax
from fgvc_jax.config import Transfer
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir.record import FORMAT, Record, another, says_elsewhere

KNOWN = {"weights": "w", "data": "d", "trunk": None}


def record(**changes):
    return Record(tiny(**changes), ("b", "a"), KNOWN, True)


def test_what_is_written_is_read(tmp_path):
    record().write(tmp_path / "config.json")
    assert Record.read(tmp_path / "config.json") == record()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 1}, "has format 1, and this program reads format"),
        ({"format": FORMAT + 1}, f"was written by {fgvc_jax.__version__} of fgvc_jax"),
        ({"format": FORMAT + 1, "program": ""}, "a newer version .format"),
        ({"colour": 1}, "cannot be read: unknown field 'colour'"),
        ({"colour": 1, "program": "99.0"}, "was written by 99.0 of fgvc_jax.*use that version"),
        ({"fgvc_jax": 1, "format": 1}, "is an export, which predict and fgvc_jax.load read"),
    ],
)
def test_what_is_not_ours_is_refused_in_a_line(tmp_path, changes, message):
    file = tmp_path / "config.json"
    record().write(file)
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(UserError, match=message):
        Record.read(file)


@pytest.mark.parametrize("text", ["[]", "1", "null"])
def test_json_that_is_no_record_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match="has format None"):
        Record.read(tmp_path / "config.json")


def test_without_a_file_people_are_told_to_train_first(tmp_path):
    with pytest.raises(UserError, match="is no workdir of a run .*: train first"):
        Record.read(tmp_path / "config.json")


def test_the_training_of_a_member_is_told_by_what_changes_its_numbers_alone():
    plain = record(transfer=Transfer(name="none")).training(1, [])
    same = {"members": 9, "workdir": "elsewhere", "fusion": "logits"}
    assert record(transfer=Transfer(name="none"), **same).training(1, ["x"]) == plain
    others = [
        record(transfer=Transfer(name="none"), seed=5).training(1, []),
        record(transfer=Transfer(name="none")).training(2, []),
        dataclasses.replace(
            record(transfer=Transfer(name="none")), digests=KNOWN | {"data": "e"}
        ).training(1, []),
    ]
    assert len({plain, *others}) == 4
    taught = record(transfer=Transfer(name="orthogonal"))
    assert taught.training(2, ["x"]) != taught.training(2, ["y"])


def test_what_lies_elsewhere_is_not_another_experiment():
    there = dataclasses.replace(tiny(), data=dataclasses.replace(tiny().data, source="folder:b"))
    assert another(tiny(), there) == [] and says_elsewhere(tiny(), there)
    assert not says_elsewhere(tiny(), tiny(seed=3)) and another(tiny(), tiny(seed=3))
    fewer = tiny(members=tiny().members - 1 or 1)
    more = dataclasses.replace(fewer, members=fewer.members + 1)
    assert another(fewer, more) == [] and another(more, fewer)


def test_classes_in_another_order_are_not_the_same():
    known = KNOWN | {"test": {"names": "t", "contents": None}}
    one, other = (Record(tiny(), names, known, True) for names in (("a", "b"), ("b", "a")))
    assert one.others(other) == "the same classes in another order" and one.others(one) == ""


def test_classes_in_another_form_of_their_accents_are_told():
    known = KNOWN | {"test": {"names": "t", "contents": None}}
    one, other = (
        Record(tiny(), names, known, True) for names in (("a", "\u00e9"), ("a", "e\u0301"))
    )
    assert "accents in another form" in one.others(other)
    assert one.others(Record(tiny(), ("a", "b"), known, True)).startswith("other classes")


def test_images_in_another_form_of_their_accents_are_told():
    """As of a dataset that was copied from a Mac: it was said to have other training images."""

    def known(train, spelt):
        part = {"names": train, "contents": None, "files": train, "count": 2}
        test = {"names": "t", "contents": None}
        return {**KNOWN, "train": part, "test": test, "spelt": spelt}

    one, other, third = (
        Record(tiny(), ("a", "b"), known(*each), True)
        for each in (("composed", "s"), ("apart", "s"), ("others", "o"))
    )
    assert "same images, whose names have their accents in another form" in one.others(other)
    assert one.others(third) == "other train images" and one.others(one) == ""
