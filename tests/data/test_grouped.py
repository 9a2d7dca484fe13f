"""A list says which photographs belong together; what is wrong with it is one line."""

import pytest
from datasets import write

from fgvc_jax.data import grouped
from fgvc_jax.utils.errors import UserError


def read(tmp_path, text, column="burst"):
    file = tmp_path / "photos.csv"
    file.write_text(text)
    return list(grouped.listed(file, column))


def test_photographs_have_the_event_that_the_column_names(tmp_path):
    found = read(tmp_path, 'path,note,burst\na.jpg,"x, y",1\n\n"b,c.jpg",,1\nd/e.jpg,, \n')
    assert [each.path for each in found] == [
        str(tmp_path / name) for name in ("a.jpg", "b,c.jpg", "d/e.jpg")
    ]
    assert [each.event for each in found] == ["1", "1", str(tmp_path / "d/e.jpg")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [("path,other\na,1\n", "0 columns 'burst'"), ("burst,burst,path\n", "2 columns 'burst'"),
     ("burst\n1\n", "0 columns 'path'"), ("path,burst\n", "has no row below its header"),
     ("", "has no row"), ("path,burst\na,1,2\n", "line 2 has 3 values for 2 columns"),
     ("path,burst\n ,1\n", "line 2 has no path"), ('path,burst\n"a,1\n', "not a row of a CSV")],
)  # fmt: skip
def test_what_is_no_list_of_events_is_one_line(tmp_path, text, problem):
    with pytest.raises(UserError, match=problem):
        read(tmp_path, text)


def test_values_are_by_paths_as_sources_name_images(tmp_path):
    file = tmp_path / "photos.csv"
    file.write_text("path,label,site\n./a/1.jpg,x,north\na\\2.jpg,x, south \n")
    assert grouped.values(file, "site") == {"a/1.jpg": "north", "a/2.jpg": "south"}
    assert grouped.has(file, "site") and not grouped.has(file, "group")
    file.write_text("\n,,\npath,group\na/1.jpg,x\n")
    assert grouped.has(file, "group") and grouped.values(file, "group") == {"a/1.jpg": "x"}


def test_a_photograph_of_which_rows_say_different_things_is_told(tmp_path):
    """As of two boxes: the last row's word was taken for all of them."""
    file = tmp_path / "photos.csv"
    file.write_text("path,site,sex\na.jpg,north,f\n./a.jpg,north,m\n")
    assert grouped.values(file, "site") == {"a.jpg": "north"}
    with pytest.raises(UserError, match="line 3: the sex of './a.jpg' is 'm' here and 'f' further"):
        grouped.values(file, "sex")


def test_paths_are_understood_as_those_of_a_source(tmp_path):
    for name in ("a/1.jpg", "a/caf\u00e9.jpg", " b.jpg"):
        write(tmp_path, {name: b""})
    found = read(tmp_path, "path,burst\na\\1.jpg,x\n a/1.jpg ,x\na/cafe\u0301.jpg,x\n b.jpg,x\n")
    names = "a/1.jpg", "a/1.jpg", "a/caf\u00e9.jpg", " b.jpg"
    assert [each.path for each in found] == [str(tmp_path / name) for name in names]
