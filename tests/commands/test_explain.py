"""python -m fgvc_jax.explain: pictures of any files, and scores on a dataset that knows."""

import csv
import dataclasses
import json
import os
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import command, finish, tiny
from datasets import hostile
from patchworks import linear, model_of, patchwork, picture
from PIL import Image

from fgvc_jax.commands import explain
from fgvc_jax.evaluation.calibration import Calibration
from fgvc_jax.inference.export import hub
from fgvc_jax.training import members
from fgvc_jax.utils.errors import UserError

NAMES = ("b 'quoted', comma", "c <script>\n", "d\u202eright" + 200 * "x")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with photographs, where a model of three colours answers."""
    monkeypatch.chdir(tmp_path)
    asked = model_of(
        patchwork(), [linear(4 * jnp.eye(3)), linear(2 * jnp.eye(3))], classes=NAMES
    )  # fmt: skip
    monkeypatch.setattr(explain.fgvc_jax, "load", lambda *_, **__: asked)
    (tmp_path / "photos/sub").mkdir(parents=True)
    for n, names in enumerate(("red", "green", "blue", "red", "red")):
        Image.fromarray(picture(**{names: 255, "green": 255 - n})).save(f"photos/{n}.png")
    shutil.copy("photos/0.png", 'photos/sub/it\'s "q",\n\u202e\u4e2d.png')
    return tmp_path


def run(*words):
    explain.main([*words, "--workdir", "run"])


def table(folder):
    with open(folder / "pictures.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_image_has_a_picture_of_its_own(here, capsys):
    run("photos", "photos/0.png", "--output", "out")
    rows = table(here / "out")
    paths = [f"photos/{n}.png" for n in range(5)]
    paths += ['photos/sub/it\'s "q",\n\u202e\u4e2d.png', "photos/0.png"]
    assert [row["path"] for row in rows] == paths
    assert [row["picture"] for row in rows][:2] == ["0001-0.png", "0002-1.png"]
    assert rows[5]["picture"] == "0006-it-s-q.png" and rows[6]["picture"] == "0007-0.png"
    assert set(os.listdir("out")) == {row["picture"] for row in rows} | {
        "pictures.csv",
        "index.html",
    }
    for row in rows:
        with Image.open(here / "out" / row["picture"]) as drawn:
            assert drawn.format == "PNG" and drawn.width > 800
        assert row["error"] == "" and row["class"] in NAMES
        assert float(row["probability"]) >= float(row["probability_against"]) > 0
    assert [row["class"] for row in rows[1:3]] == [NAMES[1], NAMES[2]]
    assert capsys.readouterr().out == "written: 7 pictures in out\n"


def test_a_page_shows_the_pictures_and_takes_the_place_of_no_other(here):
    run("photos/0.png", "photos/3.png", "--output", "out")
    page = (here / "out/index.html").read_text()
    assert 'href="0001-0.png"' in page and page.count("data:image/jpeg") == 2
    (here / "out/pictures.csv").unlink()
    with pytest.raises(UserError, match="out/index.html' is no page of this command"):
        run("photos/0.png", "--output", "out")
    assert (here / "out/index.html").read_text() == page


def test_pictures_of_an_earlier_run_make_way(here, capsys):
    run("photos", "--output", "out")
    (here / "out/0002-mine.png").write_text("somebody's")
    with open(here / "out/pictures.csv", "a") as file:  # names that no picture of ours has
        file.write("x,../photos/0.png,,,,,\nx,mine.txt,,,,,\n")
    (here / "out/mine.txt").write_text("somebody's")
    run("photos/0.png", "photos/3.png", "--output", "out")  # the first as it was called before
    assert [row["picture"] for row in table(here / "out")] == ["0001-0.png", "0002-3.png"]
    assert set(os.listdir("out")) == {
        "0001-0.png", "0002-3.png", "0002-mine.png", "mine.txt", "pictures.csv", "index.html"
    }  # fmt: skip
    assert (here / "photos/0.png").exists()
    assert capsys.readouterr().out.endswith(
        "written: 2 pictures in out, in place of 6 of an earlier run\n"
    )


@pytest.mark.slow
def test_a_misspelt_path_costs_no_earlier_pictures(here, capsys):
    run("photos/0.png", "--output", "out")
    with pytest.raises(UserError, match="1 of 1 images could not be read"):
        run("photo/0.png", "--output", "out")
    assert (here / "out/0001-0.png").exists()
    assert capsys.readouterr().out.endswith("written: 0 pictures in out\n")


@pytest.mark.parametrize("text", ["name,price\na,1\n", "", "\0"])
def test_somebody_elses_table_is_not_replaced(here, text):
    (here / "out").mkdir()
    (here / "out/pictures.csv").write_text(text)
    with pytest.raises(UserError, match="out/pictures.csv' (is no table of|cannot be read)"):
        run("photos", "--output", "out")
    assert os.listdir("out") == ["pictures.csv"]
    assert (here / "out/pictures.csv").read_text() == text


def test_a_folder_in_the_tables_place_is_told_before_the_work(here):
    (here / "out/pictures.csv").mkdir(parents=True)
    with pytest.raises(UserError, match="out/pictures.csv' cannot be read .*: move it away"):
        run("photos", "--output", "out")
    assert os.listdir("out") == ["pictures.csv"]


def test_a_pipe_in_the_tables_place_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pictures.csv")
    with pytest.raises(UserError, match="cannot be read .*no regular file"):
        explain._earlier(tmp_path)


@pytest.mark.slow
def test_pictures_of_an_earlier_run_are_no_photographs(here):
    for _ in range(2):
        run(".", "--output", "photos/out")
        assert len(table(here / "photos/out")) == 6


def test_photographs_below_or_in_the_folder_of_the_pictures(here):
    run("photos/sub", "--output", ".")
    assert len(table(here)) == 1
    with pytest.raises(UserError, match="--output 'photos/sub' itself.*name another folder"):
        run("photos/sub", "--output", "photos/sub")


def test_an_export_on_a_hub_is_asked_like_a_run(monkeypatch):
    opened = []
    monkeypatch.setattr(hub, "open_hub", lambda path, **_: opened.append(path) or "members")
    assert explain._open(explain.Explanation(workdir="hf:museum/birds")) == "members"
    assert opened == ["hf:museum/birds"]


def test_against_a_class_by_name(here):
    run("photos/0.png", "--against", NAMES[2], "--output", "out")
    (row,) = table(here / "out")
    assert row["against"] == NAMES[2]
    with pytest.raises(UserError, match="none of the 3 classes: did you mean 'c <script>"):
        run("photos/0.png", "--against", "c script", "--output", "out")


def test_hostile_files_are_told_and_the_others_drawn(here, caplog):
    hostile(here / "hostile", here / "photos/0.png")
    with pytest.raises(UserError, match="^5 of 7 images could not be read: a line above"):
        run("hostile", "gone\n.jpg", "--output", "out")
    rows = {os.path.basename(row["path"]): row for row in table(here / "out")}
    for name, words in (("huge.png", "10000 x 10000 pixels"), ("text.jpg", "is none of"),
                        ("loop.jpg", "symbolic links"), ("pipe.jpg", "no regular file"),
                        ("gone\n.jpg", "No such file")):  # fmt: skip
        assert words in rows[name]["error"] and rows[name]["picture"] == "", name
        assert words in caplog.text
    drawn = {row["picture"] for row in rows.values()} - {""}
    assert len(drawn) == 2 and set(os.listdir("out")) == drawn | {"pictures.csv", "index.html"}
    assert all("\n" not in record.getMessage() for record in caplog.records)


def test_nothing_readable_is_a_table_of_errors(here):
    with pytest.raises(UserError, match="^1 of 1 images could not be read"):
        run("gone.jpg", "--output", "out")
    assert [row["path"] for row in table(here / "out")] == ["gone.jpg"]


def test_a_link_in_the_folder_is_replaced_not_followed(here):
    (here / "out").mkdir()
    (here / "precious").write_text("mine")
    (here / "out/0001-0.png").symlink_to(here / "precious")
    run("photos/0.png", "--output", "out")
    assert (here / "precious").read_text() == "mine"
    assert not (here / "out/0001-0.png").is_symlink()


def test_what_few_validation_images_cannot_tell_is_said(here, caplog, monkeypatch):
    asked = explain.fgvc_jax.load()
    few = Calibration(0.6, 0.9, 0.5, images=8, low=0.3, high=1.2)
    monkeypatch.setitem(asked.__dict__, "calibration", few)
    run("photos/0.png", "--output", "out")
    assert "validation images" not in caplog.text
    run("photos/0.png", "--calibrated", "--output", "out")
    assert "warning: 8 validation images do not tell the temperature from 1" in caplog.text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--output", "out"], "no image is named"),
        (["photos"], "name a folder for the pictures"),
        (["photos", "--output", "none/out"], "there is no folder 'none'"),
        (["photos", "--output", "photos/0.png"], "is no folder to write to"),
        (["empty", "--output", "out"], "no image was found in 'empty'"),
        (["photos", "--score", "3"], "leave the others out"),
        (["photos", "--figure", "--output", "out"], "--figure needs --independent"),
        (["photos", "--independent", "b", "--output", "out"], "add --figure"),
        (["--source", "sketchbirds", "--output", "out"], "add --score"),
        (["--score", "3", "--figure"], "two things"),
        (["--score", "3", "--against", "b"], "--against is for pictures"),
        (["photos", "--agianst", "b", "--output", "out"], "did you mean --against"),
        (["photos", "--score", "-1"], "--score is -1: it must be at least 0"),
        (["photos", "--calibrated", "--output", "out"], "of no workdir"),
    ],
)
def test_mistakes_are_told_in_one_line(here, words, told):
    (here / "empty").mkdir()
    with pytest.raises(UserError, match=told) as error:
        run(*words)
    assert "\n" not in str(error.value)


def test_the_figure_of_the_publication(here, capsys):
    words = "--figure", "--independent", "runs/other", "--output", "out"
    with pytest.raises(UserError, match="^1 of 3 images"):
        run("photos/0.png", "photos/1.png", "gone.jpg", *words)
    assert os.listdir("out") == ["figure.png"]
    assert "out/figure.png" in capsys.readouterr().out
    run("photos/0.png", *words, "--map", "grad-cam")
    with pytest.raises(UserError, match="of 25 images: choose 24"):
        run(*["photos/0.png"] * 25, *words)


def test_a_figure_needs_a_student_and_the_same_classes(here, monkeypatch):
    words = ["photos/0.png", "--figure", "--independent", "runs/other", "--output", "out"]
    one = model_of(patchwork(), [linear(jnp.eye(3))])
    monkeypatch.setattr(explain.fgvc_jax, "load", lambda *_, **__: one)
    with pytest.raises(UserError, match="has one member, and no student"):
        run(*words)
    one.numbers = (2,)
    with pytest.raises(UserError, match="its first student: leave --members out"):
        run(*words)
    two = model_of(patchwork(), [linear(jnp.eye(3))] * 2, classes=("x", "y", "z"))
    models = iter([two, one])
    monkeypatch.setattr(explain.fgvc_jax, "load", lambda *_, **__: next(models))
    with pytest.raises(UserError, match="trained on other classes"):
        run(*words)


def test_names_of_pictures_are_safe_and_short():
    stems = {
        "a/b.c.jpg": "b-c", "..": "image", "\u4e2d.png": "image", "x" * 300: "x" * 60,
        "a\n\u202eb.png": "a-b", "-rf.png": "rf", "a/.hidden": "hidden",
    }  # fmt: skip
    assert {path: explain._stem(path) for path in stems} == stems


@pytest.mark.slow
def test_a_run_is_explained_as_a_command_and_scored(tmp_path, monkeypatch, capsys):
    """Also half a workdir, and one of another format."""
    monkeypatch.chdir(tmp_path)
    members.train(tiny(tmp_path / "run"))
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "a.png")
    words = ["--workdir", "run", "--output", "out"]
    code, out, err = finish(command("explain", "a.png", "gone.png", *words, cwd=tmp_path))
    assert (code, out) == (2, "written: 1 picture in out\n")
    assert err.splitlines()[-1].startswith("error: 1 of 2 images could not be read")
    capsys.readouterr()
    explain.main(["--score", "9", *words])
    out = capsys.readouterr().out
    found = json.loads((tmp_path / "out/score.json").read_text())
    assert found["images"] == 9 and found["source"] == "sketchbirds"
    for kind in ("attention of member 2", "Grad-CAM of ensemble", "Grad-CAM of random weights",
                 "noise", "centre", "parts: all visible parts of the bird, in 9 of 9"):  # fmt: skip
        assert kind in out
    shutil.rmtree(tmp_path / "run/members/02/final")
    options = explain.Explanation(
        images=(str(tmp_path / "a.png"),), workdir=str(tmp_path / "run"),
        output=str(tmp_path / "half"),
    )  # fmt: skip
    explain.write_pictures(options)
    assert len(os.listdir(tmp_path / "half")) == 3
    record = json.loads((tmp_path / "run/config.json").read_text())
    (tmp_path / "run/config.json").write_text(json.dumps(record | {"format": 99}))
    with pytest.raises(UserError, match="does not understand"):
        explain.write_pictures(options)
    with pytest.raises(UserError, match="no config.json"):
        explain.write_pictures(dataclasses.replace(options, workdir=str(tmp_path)))
