"""Site and date of test images are those that the run's list told, also after it has gone."""

import numpy as np
import pytest

from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import columns

NAMES = ("a/1.jpg", "a/2.jpg#xywh=0,0,1,1", "a/3.jpg", "b/4.jpg")
RIGHT = np.array([True, False, True, True])
LIST = """path,label,split,Site,date,group
./a/1.jpg,a,test,north,May,burst
a\\2.jpg,a,test, south ,May,
a/3.jpg,a,test,,,
b/4.jpg,b,test,north,June,burst
a/5.jpg,a,train,west,July,
"""


@pytest.fixture
def listed(tmp_path):
    (tmp_path / "birds.csv").write_text(LIST)
    return tmp_path / "birds.csv"


def told(column):
    """{place: (images, groups, share right)}."""
    found = column.judge(NAMES, RIGHT)
    assert found["column"] == column.name
    return {p["name"]: (p["images"], p["groups"], p["accuracy"]["value"]) for p in found["places"]}


def test_a_column_is_read_by_the_names_of_images(listed, caplog):
    site = columns.read(listed, "site", NAMES)
    assert told(site) == {"south": (1, 1, 0.0), "north": (2, 1, 1.0)}
    assert "1 of 4 test images is not told" in caplog.text
    with pytest.raises(UserError, match="the site of none of the test images, as 'z.jpg'"):
        columns.read(listed, "site", ("z.jpg",))
    with pytest.raises(UserError, match="0 columns 'height'"):
        columns.read(listed, "height", NAMES)


@pytest.mark.parametrize(
    "text, day",
    [
        ("2024-05-01 12:30:11", "2024-05-01"), ("2024-05-01T12:30:11Z", "2024-05-01"),
        ("2024:05:01 7:05", "2024:05:01"), ("1.5.2024 12:30", "1.5.2024"), ("May 1st", "May 1st"),
        ("2024-05-01", "2024-05-01"), ("12:30:11", "12:30:11"), ("2024-05-01 north", None),
    ],
)  # fmt: skip
def test_a_time_behind_a_date_is_left_out(tmp_path, text, day):
    """Or each photograph would have a date of its own."""
    (tmp_path / "birds.csv").write_text(f"path,Date,site\na/1.jpg,{text},{text}\n")
    found = columns.read(tmp_path / "birds.csv", "date", ("a/1.jpg",))
    assert found.values == (day or text,)
    assert columns.read(tmp_path / "birds.csv", "site", ("a/1.jpg",)).values == (text,)


def test_absolute_paths_inside_are_understood(tmp_path):
    (tmp_path / "birds.csv").write_text(f"path,site\n{tmp_path}/a/1.jpg,north\n")
    assert columns.read(tmp_path / "birds.csv", "site", ("a/1.jpg",)).values == ("north",)
    (tmp_path / "birds.csv").write_text("path,site\n/elsewhere/1.jpg,north\n")
    with pytest.raises(UserError, match="line 2: '/elsewhere/1.jpg' is an absolute path"):
        columns.read(tmp_path / "birds.csv", "site", NAMES)


def test_what_a_workdir_keeps_serves_when_the_list_has_gone(listed, tmp_path):
    columns.keep(tmp_path, f"csv:{listed}", NAMES)
    there = [columns.read(listed, name, NAMES) for name in ("site", "date")]
    assert columns.kept(tmp_path, NAMES) == there
    assert columns.kept(tmp_path, NAMES[::-1])[0].values == there[0].values[::-1]
    assert columns.kept(tmp_path, ("other.jpg",)) == []
    listed.write_text(LIST.replace("north", "far north"))
    asked = columns.asked("site", f"csv:{listed}", tmp_path, NAMES)
    assert asked.values[0] == "far north"  # while there is a list, that is asked
    listed.unlink()
    assert columns.asked("site", f"csv:{listed}", tmp_path, NAMES) == there[0]
    assert columns.asked("SITE", f"csv:{listed}", tmp_path, NAMES) == there[0]  # as of a list
    assert columns.asked("site", f"csv:{listed}", tmp_path, ()).name == "site"
    with pytest.raises(UserError, match="does not exist|cannot read"):
        columns.asked("height", f"csv:{listed}", tmp_path, NAMES)


@pytest.mark.parametrize("source", ["folder:birds", "csv:plain.csv", "csv:empty.csv"])
def test_nothing_is_kept_where_nothing_is_told(tmp_path, monkeypatch, source, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.csv").write_text("path,label\na/1.jpg,a\n")
    (tmp_path / "empty.csv").write_text("path,label,site\na/1.jpg,a,\n")
    columns.keep(tmp_path, source, ("a/1.jpg",))
    assert not (tmp_path / columns.FILE).exists() and columns.kept(tmp_path, NAMES) == []
    assert not caplog.text


def test_a_column_that_is_there_twice_ends_no_training(tmp_path, caplog):
    (tmp_path / "twice.csv").write_text("path,label,site,site\na/1.jpg,a,x,y\n")
    columns.keep(tmp_path, f"csv:{tmp_path}/twice.csv", ("a/1.jpg",))
    assert "by site and date will not be told" in caplog.text and "2 columns" in caplog.text
    assert not (tmp_path / columns.FILE).exists()


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", '{"images": ["a/1.jpg"], "columns": {"site": [], "group": [""]}}',
     '{"images": ["a/1.jpg"], "columns": {"site": ["x"]}}'],
)  # fmt: skip
def test_what_is_damaged_is_one_line(tmp_path, text):
    (tmp_path / columns.FILE).write_text(text)
    with pytest.raises(UserError, match="columns.json' is damaged .*: remove it"):
        columns.kept(tmp_path, NAMES)


def test_a_column_of_another_list_and_of_none(tmp_path):
    (tmp_path / "sites.csv").write_text("path,site\na/1.jpg,north\n")
    found = columns.asked(f"{tmp_path}/sites.csv:site", "folder:x", tmp_path, NAMES[:1])
    assert found == columns.Column("site", ("north",), ("",))
    with pytest.raises(UserError, match="'folder:x' is no csv: list with columns"):
        columns.asked("site", "folder:x", tmp_path, NAMES)
