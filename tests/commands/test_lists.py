"""Paths of a list to fill in lie below its folder; test_predict.py asks for whole lists."""

import os

import pytest

from fgvc_jax.commands import lists
from fgvc_jax.commands.asked import Prediction
from fgvc_jax.data.inputs import InputFile
from fgvc_jax.inference.stream import Answered
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import no_formula


def test_paths_are_relative_to_the_list(elsewhere):
    output = elsewhere / "next.csv"
    found = [InputFile("a/b.png"), InputFile(str(elsewhere / "c.png"))]
    assert list(lists._below(found, output)) == found
    assert [lists._relative(each.path, output) for each in found] == ["a/b.png", "c.png"]
    with pytest.raises(UserError, match="is not below its folder"):
        list(lists._below([InputFile("/other/c.png")], output))


def test_a_name_that_no_list_in_utf8_can_hold_spoils_no_list(elsewhere):
    odd = os.fsdecode(b"a/b\xff.png")
    fine, left = lists._below([InputFile("a/caf\u00e9.png"), InputFile(odd)], elsewhere / "n.csv")
    assert fine.problem == "" and left.path == odd
    assert left.problem == f"the name of image {odd!r} is not UTF-8, as a list is: rename it"


def test_a_path_that_begins_like_a_formula_is_still_one_where_no_spreadsheet_computes_it(elsewhere):
    path = lists._relative("=a.png", elsewhere / "next.csv")
    assert path == no_formula(path) and (elsewhere / path) == elsewhere / "=a.png"
    assert lists._relative("a/=b.png", elsewhere / "next.csv") == "a/=b.png"


def test_what_has_no_row_of_its_own_is_named(monkeypatch, caplog):
    some = Answered(["a.jpg", "b.jpg"], ["", "image 'b.jpg' is empty"], [])
    monkeypatch.setattr(lists.stream, "answer", lambda *_, **__: iter([some, some]))
    seen = []
    counts = lists._answered(None, Prediction(), [], seen.append)
    assert counts == {"files": 4, "problems": 2} and seen == [some, some]
    assert "2 of 4 images cannot be used: image 'b.jpg' is empty; " in caplog.text
