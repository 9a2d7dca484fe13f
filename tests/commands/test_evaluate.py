"""What evaluate does around the members: where answers are kept, what several processes share."""

import dataclasses
import json
import logging
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import tiny
from datasets import write
from photographs import encoded, photograph

from fgvc_jax.commands import evaluate
from fgvc_jax.commands.evaluate import Evaluation
from fgvc_jax.data.sources import open_source
from fgvc_jax.data.view import View
from fgvc_jax.training import members
from fgvc_jax.utils.errors import UserError

RESULTS = {
    "images": {"test": 4}, "members": [{"final": 0.5}], "ensemble": [0.5],
    "attention_overlap": [[1.0]], "numbers": [1],
}  # fmt: skip


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_the_table_or_one_json_object_is_printed(monkeypatch, capsys, words):
    monkeypatch.setattr(evaluate, "evaluate", lambda options: RESULTS)
    evaluate.main(words)
    out = capsys.readouterr().out
    if words:
        assert json.loads(out) == RESULTS
    else:
        assert "test accuracy (%) on 4 images" in out and "50.00" in out


def test_processes_after_the_first_print_nothing(monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "evaluate", lambda options: {})
    evaluate.main([])
    assert capsys.readouterr().out == ""


def test_answers_go_elsewhere_for_the_moment_where_nothing_can_be_written(
    tmp_path, monkeypatch, caplog
):
    workdir = SimpleNamespace(path=tmp_path)
    with evaluate._folder(workdir) as folder:
        assert folder == tmp_path
    monkeypatch.setattr(evaluate.storage, "writable", lambda path: False)
    with caplog.at_level(logging.WARNING), evaluate._folder(workdir) as folder:
        assert folder != tmp_path and folder.is_dir()
    assert not folder.exists() and "nothing is kept of this evaluation" in caplog.text


@pytest.fixture
def kept(monkeypatch):
    """Names of the parts that are kept here, and what the first process says."""
    here, first = {}, {}
    monkeypatch.setattr(evaluate, "_kept", lambda folder, asked, record, name: here.get(name))
    monkeypatch.setattr(
        evaluate.processes, "of_first", lambda there: np.array([*first.values()] or there)
    )
    return here, first


OPENED = None, None, "digest of the images"


def parts(tmp_path, options=Evaluation(), names=("test", "validation"), opened=dict):  # noqa: B008
    asked = SimpleNamespace(
        tta="", classes=("a",), calibration_store=SimpleNamespace(workdir=tmp_path)
    )
    return evaluate._parts(asked, None, options, tmp_path, names, opened)


def test_nothing_is_opened_where_all_answers_are_kept(tmp_path, kept):
    here, _ = kept
    here |= {"test": "the test part", "validation": "the validation part"}
    assert parts(tmp_path) == here
    assert parts(tmp_path, names=["test"]) == {"test": "the test part"}


def test_a_folder_that_only_the_first_process_sees_is_one_line(tmp_path, kept):
    here, first = kept
    here["test"], first["test"], first["validation"] = "the test part", True, True
    with pytest.raises(UserError, match="is not the same folder for all processes"):
        parts(tmp_path)


def test_what_is_missing_is_asked_for_and_the_rest_is_not(tmp_path, kept, monkeypatch):
    here, _ = kept
    here["validation"] = "the validation part"
    asked = []
    monkeypatch.setattr(
        evaluate.predictions, "part_of", lambda _, name, *__, **___: f"a new {name}"
    )
    keep = lambda *words, **_: asked.append(words[1])  # noqa: E731
    monkeypatch.setattr(evaluate.answers, "keep_answers", keep)
    found = parts(tmp_path, opened=lambda: dict.fromkeys(("test", "validation"), OPENED))
    assert found == {"validation": "the validation part", "test": "a new test"}
    assert asked == ["a new test"]


def test_another_source_is_judged_on_its_own_images(tmp_path, kept, monkeypatch):
    monkeypatch.setattr(evaluate.predictions, "part_of", lambda *_, images, **__: images)
    monkeypatch.setattr(evaluate.answers, "keep_answers", lambda *_, **__: None)
    kept[0]["test"] = "the run's own, which is not meant"
    asked = Evaluation(source="folder:mine")
    found = parts(tmp_path, asked, ["test"], lambda: {"test": (None, None, "theirs")})
    assert found == {"test": "theirs"}


def test_a_few_broken_images_of_another_source_are_left_out_and_named(tmp_path, caplog):
    picture = encoded(photograph(0))
    files = {f"{name}/{i}.png": picture for name in "ab" for i in range(10)} | {"a/x.png": b""}
    splits = open_source(f"folder:{write(tmp_path, files)}", to_train=False)
    view = View(orientation="exif", decode="exact")
    asked = SimpleNamespace(mesh=None)
    (left,) = evaluate._broken(splits, view, asked, strict=False)
    assert left.name == "a/x.png" and "--strict refuses" in caplog.text
    with pytest.raises(UserError, match="x.png' is empty .*since --strict is given"):
        evaluate._broken(splits, view, asked, strict=True)
    write(tmp_path, {"b/0.png": b""})
    with pytest.raises(UserError, match="^2 of 21 images cannot be used"):
        evaluate._broken(splits, view, asked, strict=False)


@pytest.mark.slow
def test_a_run_of_an_older_version_gets_its_training_photographs(tmp_path, caplog):
    """To the bit what training would have kept; members of it, or without its dataset, get none."""
    workdir = tmp_path / "run"
    members.train(tiny(workdir, members=1, epochs=1))
    (folder,) = (workdir / "predictions").glob("neighbours-*")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    evaluate.evaluate(Evaluation(str(workdir), source="sketchbirds"))
    assert not folder.exists()
    evaluate.evaluate(Evaluation(str(workdir)))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    shutil.rmtree(folder)
    gone = json.loads((workdir / "config.json").read_text())
    gone["data"]["source"] = "folder:/nowhere"
    (workdir / "config.json").write_text(json.dumps(gone))
    assert evaluate.evaluate(Evaluation(str(workdir)))["images"] == {"test": 100}
    assert not folder.exists() and "no training photographs are kept" in caplog.text


@pytest.mark.slow
def test_other_classes_are_told_from_the_test_images_and_known_ones_are_left_out(
    tmp_path, capsys, caplog
):
    workdir = tmp_path / "run"
    data = dataclasses.replace(tiny().data, validation=0.25)
    members.train(tiny(workdir, members=1, epochs=1, data=data))
    known = json.loads((workdir / "results.json").read_text())["class_names"][0]
    files = {f"{name}/{i}.png": encoded(photograph(i)) for name in ("noise", known) for i in (1, 2)}
    others = f"folder:{write(tmp_path / 'others', files)}"
    found = evaluate.evaluate(Evaluation(str(workdir), unknown=others))["unknown"]
    assert found["images"] == {"known": 100, "unknown": 2} and "2 of 4 images" in caplog.text
    assert found["score"] == "max_logit" and found["at"] is None  # of 8 validation images
    assert set(found["scores"]) == {"energy", "max_logit", "distance"}
    assert json.loads((workdir / "unknown.json").read_text())["source"] == others
    evaluate.main([str(workdir), "--unknown", others.removeprefix("folder:")])
    assert "2 images of other classes against 100 known" in capsys.readouterr().out
    with pytest.raises(UserError, match="leave out --source"):
        evaluate.evaluate(Evaluation(str(workdir), unknown=others, source=others))
    with pytest.raises(UserError, match="all its images are of known classes"):
        shutil.rmtree(tmp_path / "others/noise")
        evaluate.evaluate(Evaluation(str(workdir), unknown=others))


def test_a_wrong_column_is_told_before_members_are_read(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(evaluate.Workdir, "record", lambda self: SimpleNamespace(
        experiment=SimpleNamespace(data=SimpleNamespace(source="folder:x"))))  # fmt: skip
    with pytest.raises(UserError, match="is no csv: list with columns"):
        evaluate.evaluate(Evaluation(str(tmp_path / "run"), by="site"))
    (tmp_path / "sites.csv").write_text("path,site\na.jpg,north\n")
    with pytest.raises(UserError, match="0 columns 'date'"):
        evaluate.evaluate(Evaluation(str(tmp_path / "run"), by=f"{tmp_path}/sites.csv:date"))


def test_a_banner_of_another_source_is_asked_for_or_told(tmp_path, caplog):
    """Of a model whose training images lost 20 rows, as Aircraft's do."""
    asked = SimpleNamespace(cut=20, view=View(orientation="stored", banner=20))
    splits = SimpleNamespace(orientation="exif")

    def banner(spec, **given):
        caplog.clear()
        view = evaluate._view(asked, splits, Evaluation("run", **given), spec)
        assert view.orientation == "exif"
        return view.banner, "20 rows were cut" in caplog.text

    assert banner("folder:planes") == (-1, True)
    assert banner("aircraft:PATH") == (-1, False)  # which says it by itself
    assert banner("folder:planes", banner=20) == (20, False)
    assert banner("folder:planes", banner=0) == (0, False)
    asked.cut = 0
    assert banner("folder:planes") == (-1, False)
