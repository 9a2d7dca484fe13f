"""python -m fgvc_jax.predict: tables of answers, from a workdir whose dataset is gone."""

import csv
import dataclasses
import json
import logging
import math
import os
import re
import shutil
import socket
from pathlib import Path

import datasets
import numpy as np
import pytest
from conftest import ODD, command, finish, tiny
from PIL import Image

import fgvc_jax
from fgvc_jax.commands import predict
from fgvc_jax.data.sources import open_source
from fgvc_jax.evaluation import calibration
from fgvc_jax.inference.predictor import collect
from fgvc_jax.inference.rows import sure_from
from fgvc_jax.training import members
from fgvc_jax.utils import options
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import predictions
from fgvc_jax.workdir.folder import Workdir

NAMES = ("b 'quoted', comma", "c <script>", "d\u202eright", "a plain")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two members trained on a folder with difficult names, with a validation part."""
    root = tmp_path_factory.mktemp("predict")
    birds = open_source("sketchbirds")
    for part, count in (("train", 8), ("test", 3)):
        for label, name in enumerate(NAMES):
            folder = root / "birds" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                record = birds.train[int(np.flatnonzero(birds.train.labels == label)[i])]
                Image.fromarray(record["image"]).save(folder / f"{i}.png")
    data = dataclasses.replace(
        tiny().data, source=f"folder:{root / 'birds'}", classes=0, images_per_class=0,
        validation=0.25,
    )  # fmt: skip
    members.train(tiny(root / "run", data=data))
    (root / "photos/sub").mkdir(parents=True)
    for i, file in enumerate(sorted((root / "birds/test").rglob("*.png"))):
        shutil.copy(file, root / f"photos/{i:02d}.png")
    shutil.copy(root / "photos/03.png", root / "photos/sub" / ODD)
    shutil.rmtree(root / "birds")
    return root


def run(*words):
    predict.main(["--workdir", "run", "--batch-size", "4", *words])


def table(path):
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def objects(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_table_has_the_numbers_that_python_users_get(here, tmp_path, model):
    run("photos", "--output", str(tmp_path / "a.csv"))
    rows = table(tmp_path / "a.csv")
    paths = [f"photos/{i:02d}.png" for i in range(12)] + [f"photos/sub/{ODD}"]
    assert [row["path"] for row in rows] == paths
    expected = model.predict(paths)
    for row, probabilities in zip(rows, expected, strict=True):
        order = np.argsort(-probabilities, kind="stable")
        assert [row[f"class{n}"] for n in range(1, 5)] == [model.classes[c] for c in order]
        found = [float(row[f"probability{n}"]) for n in range(1, 5)]
        np.testing.assert_allclose(found, probabilities[order], rtol=1e-5)
        assert row["agreement"] in ("0.5", "1.0") and row["error"] == ""
    assert list(rows[0]) == [
        "path", "class1", "probability1", "class2", "probability2", "class3", "probability3",
        "class4", "probability4", "agreement", "unsure", "error",
    ]  # fmt: skip


@pytest.mark.slow
def test_it_says_what_it_wrote(here, tmp_path, capsys):
    run("photos", "--output", str(tmp_path / "answers.csv"))
    assert capsys.readouterr().out == f"written: {tmp_path / 'answers.csv'}\n"


def test_members_in_one_program_say_the_same_up_to_rounding(here, tmp_path):
    for number in ("1", "2"):
        run("photos", "--members-at-once", number, "--output", str(tmp_path / f"{number}.jsonl"))
    for alone, beside in zip(*(objects(tmp_path / f"{n}.jsonl") for n in (1, 2)), strict=True):
        assert alone["path"] == beside["path"]
        found = [[row[f"probability{n}"] for n in range(1, 5)] for row in (alone, beside)]
        np.testing.assert_allclose(*found, atol=1e-5)


def test_json_lines_have_the_same_keys_and_values(here, tmp_path):
    words = "photos", "--top", "2", "--sets"
    run(*words, "--output", str(tmp_path / "a.csv"))
    run(*words, "--output", str(tmp_path / "a.jsonl"))
    for text, row in zip(table(tmp_path / "a.csv"), objects(tmp_path / "a.jsonl"), strict=True):
        assert list(text) == list(row)
        assert json.loads(text["set"]) == row["set"]
        assert text["unsure"] == ("" if row["unsure"] is None else json.dumps(row["unsure"]))
        assert float(text["probability1"]) == row["probability1"]
        assert text["path"] == row["path"] and row["error"] is None


def test_agreement_is_the_share_of_members_that_say_the_first_class(here, tmp_path, model):
    run("photos", "--output", str(tmp_path / "a.jsonl"))
    rows = objects(tmp_path / "a.jsonl")
    for row in rows:
        squares = model.square(row["path"])[None].repeat(2, axis=0)
        said = [each["log_probabilities"][0].argmax() for each in collect(model.ask(squares), 1)]
        assert row["agreement"] == np.mean([model.classes[c] == row["class1"] for c in said])
    assert {row["agreement"] for row in rows} == {0.5, 1.0}


def test_photographs_are_turned_and_cut_as_asked(here, tmp_path, model):
    picture = np.asarray(Image.open("photos/03.png"))
    exif = Image.Exif()
    exif[0x0112] = 3  # to be turned upside down
    strip = np.zeros((20, picture.shape[1], 3), np.uint8)
    Image.fromarray(np.concatenate([picture, strip])).save(tmp_path / "a.png", exif=exif)
    for flags, rows in {
        (): np.concatenate([picture, strip])[::-1, ::-1],
        ("--orientation", "stored", "--banner", "20"): picture,
    }.items():
        run(str(tmp_path / "a.png"), *flags, "--output", str(tmp_path / "a.jsonl"))
        (row,) = objects(tmp_path / "a.jsonl")
        expected = model.predict(np.ascontiguousarray(rows)).max()
        assert row["probability1"] == pytest.approx(expected, rel=1e-5)


def test_calibrated_probabilities_and_fewer_members(here, tmp_path, model):
    run("photos/00.png", "--calibrated", "--output", str(tmp_path / "a.jsonl"))
    run("photos/00.png", "--members", "1", "--output", str(tmp_path / "b.jsonl"))
    (both,), (one,) = objects(tmp_path / "a.jsonl"), objects(tmp_path / "b.jsonl")
    expected = model.predict("photos/00.png", calibrated=True).max()
    assert both["probability1"] == pytest.approx(expected, rel=1e-5)
    alone = fgvc_jax.load("run", members=1).predict("photos/00.png").max()
    assert one["probability1"] == pytest.approx(alone, rel=1e-5)
    assert one["agreement"] == 1


@pytest.mark.slow
def test_several_views_of_a_photograph_are_answered(here, tmp_path, model, caplog):
    with caplog.at_level(logging.INFO):
        run("photos", "--tta", "flip", "--output", str(tmp_path / "a.jsonl"))
    rows = objects(tmp_path / "a.jsonl")
    expected = model.with_tta("flip").predict([row["path"] for row in rows]).max(-1)
    np.testing.assert_allclose([row["probability1"] for row in rows], expected, rtol=1e-5)
    assert {row["unsure"] for row in rows} == {None} and "evaluate --tta flip keeps" in caplog.text
    with pytest.raises(UserError, match="python -m fgvc_jax.evaluate --tta flip keeps them"):
        run("photos", "--tta", "flip", "--calibrated")


def test_unsure_is_below_the_threshold_and_sets_are_the_calibrations(
    here, tmp_path, model, monkeypatch
):
    sure = np.sort(model.predict([f"photos/{i:02d}.png" for i in range(12)], calibrated=True), -1)
    middle = float(np.median(sure[:, -1]))
    monkeypatch.setattr("fgvc_jax.workdir.calibration.accept_from", lambda *_: middle)
    monkeypatch.setitem(
        model.__dict__, "calibration", dataclasses.replace(model.calibration, threshold=0.4)
    )
    monkeypatch.setattr(predict.fgvc_jax, "load", lambda *_, **__: model)
    run(
        *(f"photos/{i:02d}.png" for i in range(12)), "--sets", "--output", str(tmp_path / "a.jsonl")
    )
    rows = objects(tmp_path / "a.jsonl")
    assert [row["unsure"] for row in rows] == (sure[:, -1] < middle).tolist()
    assert 0 < sum(row["unsure"] for row in rows) < 12
    for row in rows:
        values = model.predict(row["path"], calibrated=True)
        (inside,) = calibration.mass_above(np.log(values)) <= 0.4
        assert set(row["set"]) == {model.classes[c] for c in np.flatnonzero(inside)}
        assert row["set"][0] == row["class1"]


def test_too_few_validation_images_promise_nothing(here, tmp_path, caplog):
    run("photos/00.png", "--output", str(tmp_path / "a.jsonl"))
    assert objects(tmp_path / "a.jsonl")[0]["unsure"] is None
    assert "no answer is called sure or unsure: 8 validation images are too few" in caplog.text
    assert re.search(r"wrong(; [\d.]+ % they can \(--risk [\d.]+\))?$", caplog.text)
    assert "promise anything of sets" not in caplog.text
    run("photos/00.png", "--sets", "--output", str(tmp_path / "a.jsonl"))
    assert "8 validation images are too few to promise anything of sets" in caplog.text
    assert len(objects(tmp_path / "a.jsonl")[0]["set"]) == 4


def test_without_a_validation_part_unsure_is_empty_and_sets_are_refused(
    here, tmp_path, monkeypatch
):
    shutil.copytree("run", tmp_path / "run")
    record = json.loads((tmp_path / "run/config.json").read_text())
    del record["digests"]["validation"]
    record["selects"] = False
    (tmp_path / "run/config.json").write_text(json.dumps(record))
    words = ["photos/00.png", "--workdir", str(tmp_path / "run")]
    predict.main([*words, "--output", str(tmp_path / "a.jsonl")])
    assert objects(tmp_path / "a.jsonl")[0]["unsure"] is None
    for flag in ("--sets", "--calibrated"):
        with pytest.raises(UserError, match="no validation part.*--data.validation 0.1"):
            predict.main([*words, flag])
    with pytest.raises(UserError, match="no epoch was selected"):
        predict.main([*words, "--which", "selected"])


@pytest.fixture
def hostile(tmp_path, trained):
    return datasets.hostile(tmp_path / "hostile", trained / "photos/00.png")


def test_broken_images_are_rows_and_the_others_are_answered(here, tmp_path, hostile):
    with pytest.raises(UserError, match="^5 of 7 images could not be read: the column error"):
        run(str(hostile), "gone.jpg", "--output", str(tmp_path / "a.jsonl"))
    rows = {os.path.basename(row["path"]): row for row in objects(tmp_path / "a.jsonl")}
    for name, words in (("huge.png", "10000 x 10000 pixels"), ("text.jpg", "is none of"),
                        ("loop.jpg", "symbolic links"), ("pipe.jpg", "no regular file"),
                        ("gone.jpg", "No such file")):  # fmt: skip
        assert words in rows[name]["error"] and rows[name]["class1"] is None, name
    assert rows["00.png"]["class1"] and rows["one.png"]["class1"]


def test_a_table_for_people(here, hostile, capsys):
    with pytest.raises(UserError, match="6 of 9"):
        run("photos/sub", str(hostile / "text.jpg"), "gone\n.jpg", "--top", "1", str(hostile))
    out = capsys.readouterr().out
    header, first, *rest = out.splitlines()
    assert header.split() == ["path", "1", "agree", "unsure"]
    assert first.startswith('photos/sub/it\'s "q",\\n\\u202e.png') and "%" in first
    assert len(rest) == 8 and "\u202e" not in out


def test_columns_that_do_not_fit_are_left_out(here, capsys, monkeypatch):
    monkeypatch.setattr(predict.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "70")
    run("photos/00.png")
    header, line = capsys.readouterr().out.splitlines()
    assert header.split()[0:2] == ["path", "1"] and "4" not in header.split()
    assert len(header) <= 70 and len(line) <= 70


@pytest.mark.parametrize(("length", "ranks"), [(4, 5), (25, 2)])
def test_what_goes_to_a_file_has_100_characters_and_says_what_has_all(
    length, ranks, capsys, monkeypatch, caplog
):
    """However wide the terminal is: class, probability, agreement, verdict, runner-up."""
    monkeypatch.setenv("COLUMNS", "400")
    ranked = range(1, 6)
    names, numbers = [f"class{n}" for n in ranked], [f"probability{n}" for n in ranked]
    row = {"path": "photos/bird.jpg", "agreement": 1.0, "unsure": True, "error": ""}
    row |= dict.fromkeys(names, length * "x") | dict.fromkeys(numbers, 0.2)
    with caplog.at_level(logging.INFO):
        predict._Printed([*row], alone=False)([row])
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["path", *map(str, ranked[:ranks]), "agree", "unsure"]
    assert len(line) <= predict.WIDE and line.count("20.0%") == ranks and line.endswith("unsure")
    assert ("--output FILE.csv has all" in caplog.text) == (ranks < 5)


def test_images_may_stand_between_options():
    words = ["--workdir", "run", "a.jpg", "--sets", "b.jpg", "--calibrated", "False", "c.jpg",
             "--no-sets", "d.jpg", "--top=3", "e.jpg", "--which", "final"]  # fmt: skip
    images, others = options.positional(words, predict.Prediction())
    assert images == [f"{letter}.jpg" for letter in "abcde"]
    assert others == [word for word in words if not word.endswith(".jpg")]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "no image is named"),
        (["empty"], "no image was found in 'empty'"),
        (["texts"], "no image was found in 'texts'"),
        (["@none"], "list 'none' cannot be read"),
        (["photos", "--output", "a.txt"], "end it in .csv or .jsonl"),
        (["photos", "--output", "none/a.csv"], "there is no folder 'none'"),
        (["photos", "--output", "photos"], "cannot be written there"),
        (["photos", "--top", "0"], "--top is 0: it must be at least 1"),
        (["photos", "--risk", "1.5"], "--risk is 1.5"),
        (["photos", "--tops", "3"], "did you mean --top"),
        (["photos", "--members", "3"], "--members is 3: 2 are trained"),
        (["photos", "--distributed"], "--distributed needs --output"),
    ],
)
def test_mistakes_are_told_in_one_line(here, words, told):
    for name in ("empty", "texts"):
        os.makedirs(name, exist_ok=True)
    with open("texts/a.txt", "w") as file:
        file.write("hello")
    with pytest.raises(UserError, match=told) as error:
        run(*words)
    assert "\n" not in str(error.value)


def test_half_a_workdir_answers_and_another_format_is_told(here, tmp_path):
    """One of two members is trained, and nothing is judged yet."""
    shutil.copytree("run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run/members/02/final")
    shutil.rmtree(tmp_path / "run/predictions")
    for name in ("results.json", "calibration.json"):
        (tmp_path / "run" / name).unlink()
    words = ["photos/00.png", "--workdir", str(tmp_path / "run")]
    predict.main([*words, "--output", str(tmp_path / "a.jsonl")])
    (row,) = objects(tmp_path / "a.jsonl")
    assert row["agreement"] == 1 and row["unsure"] is None
    record = json.loads((tmp_path / "run/config.json").read_text())
    (tmp_path / "run/config.json").write_text(json.dumps(record | {"format": 99}))
    with pytest.raises(UserError, match="does not understand"):
        predict.main(words)
    with pytest.raises(UserError, match="no config.json"):
        predict.main(["photos/00.png", "--workdir", str(tmp_path)])


def test_what_fails_leaves_no_half_table(here, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise UserError("the members' answers are not finite")

    monkeypatch.setattr(predict.stream, "_answered", fail)
    with pytest.raises(UserError, match="finite"):
        run("photos", "--output", str(tmp_path / "a.csv"))
    assert list(tmp_path.iterdir()) == []


def test_file_names_that_are_no_text_are_data(here, tmp_path):
    name = os.fsdecode(b"\xff.png")
    shutil.copy("photos/00.png", tmp_path / name)
    run(str(tmp_path / name), "--output", str(tmp_path / "a.csv"))
    assert b"\xff.png," in (tmp_path / "a.csv").read_bytes()
    run(str(tmp_path / name), "--output", str(tmp_path / "a.jsonl"))
    assert objects(tmp_path / "a.jsonl")[0]["path"] == str(tmp_path / name)


@pytest.mark.slow
def test_as_a_command_a_broken_image_is_exit_code_2(here, tmp_path):
    words = ["photos/00.png", "gone.jpg", "--workdir", "run", "--output", tmp_path / "a.csv"]
    code, out, err = finish(command("predict", *words, cwd=here))
    assert (code, out) == (2, f"written: {tmp_path / 'a.csv'}\n")
    assert err.splitlines()[-1] == (
        "error: 1 of 2 images could not be read: the column error says why"
    )
    assert err.splitlines()[0].startswith("warning: no answer is called sure or unsure")
    assert len(table(tmp_path / "a.csv")) == 2


@pytest.mark.slow
def test_two_processes_share_the_files(here, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    cluster = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    words = ["photos", "--workdir", "run", "--distributed", "--output", tmp_path / "a.csv"]
    started = [
        command("predict", *words, cwd=here, env=cluster | {"JAX_PROCESS_ID": str(n)})
        for n in range(2)
    ]
    for process in started:
        code, _, err = finish(process)
        assert code == 0, err
    run("photos", "--output", str(tmp_path / "all.csv"))
    parts = [table(tmp_path / f"a-{n}-of-2.csv") for n in (1, 2)]
    assert [len(part) for part in parts] == [7, 6]
    whole = table(tmp_path / "all.csv")
    for start, part in enumerate(parts):
        for one, other in zip(part, whole[start::2], strict=True):
            assert one["path"] == other["path"] and one["class1"] == other["class1"]


def test_the_threshold_is_found_from_what_is_kept(model):
    part = model.calibration_store.fitted_to
    assert isinstance(part, predictions.Part) and len(part.labels) == 8
    assert model.accept_from(0.05) == math.inf and sure_from(model, 0.05) is None


def test_names_are_no_formulas_where_a_spreadsheet_reads_them(here, tmp_path, monkeypatch):
    shutil.copy("photos/00.png", tmp_path / "=1+1.png")
    monkeypatch.chdir(tmp_path)
    for words, name in ([], "=1+1.png"), (["--csv-safe", "True"], "'=1+1.png"):
        run("=1+1.png", "--workdir", str(here / "run"), "--output", "a.csv", *words)
        assert [row["path"] for row in table("a.csv")] == [name]


def test_boxes_of_a_detector_are_answered_one_row_each(trained, monkeypatch, tmp_path, caplog):
    """Each as its cut-out alone is, with the run's margin; a photograph without one is told."""
    monkeypatch.chdir(trained)
    images = [
        {"file": "00.png", "detections": [
            {"category": "1", "conf": 0.9, "bbox": [0.25, 0.25, 0.5, 0.5]},
            {"category": "1", "conf": 0.4, "bbox": [0, 0, 1, 1]},
        ]},
        {"file": "01.png", "detections": []},
    ]  # fmt: skip
    file = tmp_path / "found.json"
    file.write_text(json.dumps({"images": images, "detection_categories": {"1": "animal"}}))
    run("photos/00.png", "photos/01.png", "photos", "--boxes", str(file), "--output",
        str(tmp_path / "a.csv"))  # fmt: skip
    rows = table(tmp_path / "a.csv")
    boxed = [row for row in rows if row["path"].endswith("00.png")]
    assert [json.loads(row["box"]) for row in boxed[:2]] == [[0.25, 0.25, 0.5, 0.5], [0, 0, 1, 1]]
    assert [row["confidence"] for row in boxed[:2]] == ["0.9", "0.4"]
    assert "01.png" in caplog.text and "without a box" in caplog.text
    with Image.open("photos/00.png") as image:
        side = image.width
        cut = image.crop(
            (round(0.2 * side), round(0.2 * side), round(0.8 * side), round(0.8 * side))
        )
    model = fgvc_jax.load("run")
    (whole,) = model.top(["photos/00.png"], 1)
    assert boxed[1]["class1"] == whole[0][0]
    assert float(boxed[1]["probability1"]) == pytest.approx(whole[0][1], rel=1e-5)
    (alone,) = model.top([cut], 1)
    assert float(boxed[0]["probability1"]) == pytest.approx(alone[0][1], rel=0.2)


def test_without_any_box_whole_is_the_way_out(trained, monkeypatch, tmp_path):
    monkeypatch.chdir(trained)
    file = tmp_path / "found.json"
    file.write_text(json.dumps({"images": [{"file": "photos/00.png", "detections": []}]}))
    with pytest.raises(UserError, match="no photograph has a box of --confidence 0.2: --whole"):
        run("photos/00.png", "--boxes", str(file))
    run("photos/00.png", "--boxes", str(file), "--whole", "--output", str(tmp_path / "a.jsonl"))
    (row,) = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert row["box"] is None and row["class1"]


# -- among some classes, and at coarser levels -----------------------------------------------------


def listing(folder, *names):
    (folder / "here.txt").write_text("\n".join(names), encoding="utf-8-sig")
    return str(folder / "here.txt")


def test_among_listed_classes_probabilities_are_shared_out_anew(here, tmp_path, model, caplog):
    file = listing(tmp_path, NAMES[3], "", NAMES[1], "b plain", NAMES[1])
    words = "photos", "--calibrated", "True", "--sets", "True", "--top", "9"
    run(*words, "--classes", file, "--output", str(tmp_path / "a.csv"))
    assert "'b plain' (did you mean 'a plain'?)" in caplog.text
    rows = table(tmp_path / "a.csv")
    paths = [row["path"] for row in rows]
    chosen = [model.classes.index(name) for name in (NAMES[3], NAMES[1])]
    whole = model.predict(paths, calibrated=True)
    ours = model.among([NAMES[3], NAMES[1]])
    assert ours.classes == (NAMES[3], NAMES[1]) and "class3" not in rows[0]
    anew = whole[:, chosen] / whole[:, chosen].sum(1, keepdims=True)
    np.testing.assert_allclose(ours.predict(paths, calibrated=True), anew, rtol=1e-4)
    np.testing.assert_allclose(
        ours.outside(paths, calibrated=True), 1 - whole[:, chosen].sum(1), rtol=1e-4, atol=1e-6
    )
    assert ours.calibration.temperature == model.calibration.temperature
    for row, probabilities in zip(rows, anew, strict=True):
        assert float(row["probability1"]) == pytest.approx(probabilities.max(), rel=1e-4)
        assert set(json.loads(row["set"])) <= {NAMES[3], NAMES[1]}
    outside = [float(row["outside"]) for row in rows]
    np.testing.assert_allclose(outside, 1 - whole[:, chosen].sum(1), rtol=1e-4, atol=1e-6)
    run(*words, "--exclude", listing(tmp_path, NAMES[0], NAMES[2]), "--output", "b.csv")
    assert table("b.csv") == rows
    other = ours.among(exclude=[]).among(classes=ours.classes)
    assert other.listed == ours.listed == tuple(chosen)
    with pytest.raises(UserError, match="ask the whole model"):
        ours.explain(paths[0])


def test_a_list_that_leaves_one_class_is_refused(here, tmp_path):
    with pytest.raises(UserError, match="nothing to tell apart"):
        run("photos", "--classes", listing(tmp_path, NAMES[0]))
    with pytest.raises(UserError, match="--exclude .* is empty"):
        run("photos", "--exclude", listing(tmp_path))


def test_without_a_taxonomy_nothing_is_coarser(here):
    with pytest.raises(UserError, match="run' has no taxonomy .* --data.taxonomy FILE.csv"):
        run("photos", "--coarsen", "0.2")


def test_a_finished_run_takes_a_taxonomy_and_answers_at_its_levels(
    here, tmp_path, monkeypatch, caplog, capsys
):
    """The dataset is gone, and so is the file of the taxonomy after a moment."""
    shutil.copytree("run", tmp_path / "run")
    photos = os.path.abspath("photos")
    monkeypatch.chdir(tmp_path)
    rows = [f'"{name}",{"left" if n % 2 else "right"}' for n, name in enumerate(NAMES)]
    (tmp_path / "levels.csv").write_text("\n".join(["species,side", *rows]))
    spec = Workdir("run").record().experiment
    spec = dataclasses.replace(spec, workdir="run")
    before = json.loads((tmp_path / "run/results.json").read_text())
    members.train(dataclasses.replace(spec, data=dataclasses.replace(
        spec.data, taxonomy="levels.csv")))  # fmt: skip
    assert "judged at the levels species, side" in capsys.readouterr().out
    found = json.loads((tmp_path / "run/results.json").read_text())
    families = found.pop("families")
    assert found == {k: v for k, v in before.items() if k != "families"}
    assert families["accuracy"][0]["value"] == before["ensemble"][-1]
    assert families["accuracy"][1]["value"] >= families["accuracy"][0]["value"]
    assert families["coarsened"] is None  # 7 images promise no 5 %
    (tmp_path / "levels.csv").unlink()

    with pytest.raises(UserError, match="smallest risk that 7 validation images .* is 0.125"):
        run(photos, "--coarsen", "0.124")
    caplog.set_level(logging.INFO)
    run(photos, "--coarsen", "0.3", "--output", "a.jsonl")
    told = objects(tmp_path / "a.jsonl")
    side = {"right": {NAMES[0], NAMES[2]}, "left": {NAMES[1], NAMES[3]}}
    for row in told:
        below = {"species": {row["answer"]}, "side": side.get(row["answer"]), "": NAMES}
        assert row["class1"] in below[row["level"]]
        assert (row["level"] == "") == (row["answer_probability"] == 1)
    assert "--coarsen 0.3: of these photographs are answered:" in caplog.text
    model = fgvc_jax.load("run")
    for said, row in zip(model.coarsen([row["path"] for row in told], risk=0.3), told, strict=True):
        assert said[:2] == (row["answer"], row["level"])
        assert said[2] == pytest.approx(row["answer_probability"], rel=1e-4)
    local = model.among(NAMES[:3])
    assert local.coarsening(0.3).images < 7
    capsys.readouterr()
    run(photos, "--coarsen", "0.3", "--classes", listing(tmp_path, *NAMES[:3]))
    assert "outside" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.slow
def test_neighbours_are_named_beside_the_same_answers(here, tmp_path, model, capsys):
    """Of a run whose dataset has gone; its 24 training images are all kept."""
    run("photos", "--neighbours", "3", "--output", str(tmp_path / "a.csv"))
    run("photos", "--neighbours", "3", "--output", str(tmp_path / "a.jsonl"))
    run("photos", "--output", str(tmp_path / "b.jsonl"))
    rows, plain = objects(tmp_path / "a.jsonl"), objects(tmp_path / "b.jsonl")
    seen = model.embed([row["path"] for row in rows], normalize=True)
    remembered = model.remembered
    assert remembered.count() == 24
    for text, row, without, vector in zip(
        table(tmp_path / "a.csv"), rows, plain, seen, strict=True
    ):
        more = [k for k in row if k not in without]
        assert more == [f"{k}{n}" for n in (1, 2, 3)
                        for k in ("neighbour", "neighbour_class", "similarity")]  # fmt: skip
        assert [row[f"class{n}"] for n in range(1, 5)] == [
            without[f"class{n}"] for n in range(1, 5)
        ]
        assert row["probability1"] == pytest.approx(without["probability1"], rel=1e-5)
        products = remembered.vectors @ vector
        best = np.argsort(-products, kind="stable")[:3]
        found = [row[f"similarity{n}"] for n in (1, 2, 3)]
        np.testing.assert_allclose(found, products[best], rtol=1e-4)
        assert row["neighbour_class1"] in NAMES and row["neighbour1"] in remembered.part.names
        assert text["neighbour1"] == row["neighbour1"]
        assert float(text["similarity3"]) == row["similarity3"] <= 1
    told = model.neighbours(rows[0]["path"], 3)[0]
    assert [each.name for each in told] == [rows[0][f"neighbour{n}"] for n in (1, 2, 3)]
    capsys.readouterr()
    run("photos/00.png", "--neighbours", "1", "--top", "1")
    header, line = capsys.readouterr().out.splitlines()
    assert header.split()[-2:] == ["near", "1"] and f"{rows[0]['similarity1']:.2f} (" in line


def test_neighbours_are_of_the_listed_classes_and_no_more_than_there_are(here, tmp_path, model):
    some = model.among([NAMES[0], NAMES[3]])
    (found,) = some.neighbours("photos/00.png", 99)
    assert len(found) == 12 and {each.of_class for each in found} == {NAMES[0], NAMES[3]}
    values = [each.similarity for each in found]
    assert values == sorted(values, reverse=True)
    (tmp_path / "here.txt").write_text(f"{NAMES[0]}\n{NAMES[3]}\n")
    words = "--neighbours", "50", "--classes", str(tmp_path / "here.txt")
    run("photos/00.png", *words, "--output", str(tmp_path / "a.jsonl"))
    (row,) = objects(tmp_path / "a.jsonl")
    assert row["neighbour12"] == found[-1].name and "neighbour13" not in row


def test_without_kept_photographs_neighbours_are_one_line(here, tmp_path, model):
    shutil.copytree("run", tmp_path / "run")
    shutil.rmtree(next((tmp_path / "run/predictions").glob("neighbours-*")))
    with pytest.raises(UserError, match="python -m fgvc_jax.evaluate keeps them"):
        predict.main([str(tmp_path / "run"), "photos", "--neighbours", "2"])
    predict.main([str(tmp_path / "run"), "photos/00.png"])
    with pytest.raises(UserError, match="of no workdir"):
        dataclasses.replace(model, calibration_store=None).neighbours("photos/00.png")
    with pytest.raises(UserError, match="at least 1"):
        model.neighbours("photos/00.png", 0)


@pytest.mark.slow
def test_unknown_is_told_with_its_rate_and_beside_the_same_answers(
    here, tmp_path, model, capsys, caplog
):
    """Of 8 validation images, which promise no fewer than one false alarm in 9."""
    with caplog.at_level(logging.INFO):
        run("photos", "--unknown-rate", "0.25", "--output", str(tmp_path / "a.jsonl"))
    run("photos", "--output", str(tmp_path / "b.jsonl"))
    assert "25 % of photographs of known classes are called unknown" in caplog.text
    rows, plain = objects(tmp_path / "a.jsonl"), objects(tmp_path / "b.jsonl")
    typical = model.typicality([row["path"] for row in rows])
    for row, without, value in zip(rows, plain, typical, strict=True):
        assert [k for k in row if k not in without] == ["unknown", "typicality"]
        assert row["typicality"] == pytest.approx(value, abs=0.12)  # one of nine, where scores tie
        assert row["unknown"] == (row["typicality"] <= 0.25)
        assert row["probability1"] == pytest.approx(without["probability1"], rel=1e-5)
    known = model.novelty
    assert known.score == "max_logit" and len(known.known) == 8 and not known.chosen
    kept = predictions.read(next(Path("run/predictions").glob("validation-*")))
    each = [kept.novelty(member) for member in model.identities]
    assert known.known.tolist() == np.mean(each, axis=0)[:, 1].tolist()
    with pytest.raises(UserError, match="--unknown-rate 0.05: the smallest .* is 0.1112"):
        run("photos", "--unknown-rate", "0.05")
    run("photos/00.png", "--unknown-rate", "0.99", "--top", "1")
    header, line = capsys.readouterr().out.splitlines()[-2:]
    assert header.split()[-1] == "unknown" and line.split()[-1] == "unknown"


def test_where_it_is_not_kept_how_strange_known_images_are_it_is_one_line(here, tmp_path, model):
    shutil.copytree("run", tmp_path / "run")
    next((tmp_path / "run/predictions").glob("validation-*/*.novelty.npy")).unlink()
    with pytest.raises(UserError, match="how strange known images .*evaluate keeps them"):
        predict.main([str(tmp_path / "run"), "photos", "--unknown-rate", "0.2"])
    with pytest.raises(UserError, match="nothing is fitted"):
        dataclasses.replace(model, calibration_store=None).typicality("photos/00.png")


def test_photographs_to_label_are_a_source_once_that_is_filled_in(here, capsys, caplog):
    with caplog.at_level(logging.INFO):
        run("photos", "--label-next", "4", "--output", "next.csv")
    assert "4 photographs to label" in caplog.text
    Path("broken.png").write_bytes(b"")
    with pytest.raises(UserError, match="^1 of 2 images could not be read: they are named above"):
        run("photos/00.png", "broken.png", "--label-next", "1", "--output", "one.csv")
    assert "'broken.png' is empty" in caplog.text
    rows = table(Path("next.csv"))
    assert list(rows[0]) == ["path", "label", "suggestion", "probability", "uncertainty"]
    assert len({row["path"] for row in rows}) == 4
    assert all(row["suggestion"] in NAMES and not row["label"] for row in rows)
    filled = Path("next.csv").read_text().splitlines()
    labelled = [filled[0], *(line.replace(",", f",{'ab'[n % 2]},", 1).replace(",,", ",", 1)
                             for n, line in enumerate(filled[1:]))]  # fmt: skip
    Path("filled.csv").write_text("\n".join(labelled))
    source = open_source("csv:filled.csv", to_train=False).test
    assert sorted(source.names) == sorted(row["path"] for row in rows)
    with pytest.raises(UserError, match="labels that somebody filled in"):
        run("photos", "--label-next", "4", "--output", "filled.csv")
    assert Path("filled.csv").read_text() == "\n".join(labelled)
    run("photos", "--label-next", "3", "--output", "next.csv")  # in which nothing is filled in
    assert len(table(Path("next.csv"))) == 3


@pytest.mark.parametrize(
    ("words", "problem"),
    [(("--output", "a.jsonl"), "needs --output"), ((), "needs --output"),
     (("--output", "a.csv", "--neighbours", "2"), "--neighbours says nothing of --label-next"),
     (("--output", "photos/sub/a.csv"), "is not below its folder")],
)  # fmt: skip
def test_lists_that_cannot_be_filled_in_are_one_line(here, words, problem):
    with pytest.raises(UserError, match=problem):
        run("photos/00.png", "--label-next", "2", *words)


def test_an_event_has_one_answer(here, tmp_path, model, capsys):
    files = sorted(str(path) for path in Path("photos").glob("0[0-3].png"))
    lines = [f"{path},{event}" for path, event in zip(files, "xyxx", strict=True)]
    Path("list.csv").write_text("\n".join(["path,burst", *lines]))
    run("list.csv", "--group", "burst", "--output", str(tmp_path / "a.csv"))
    first, second = table(tmp_path / "a.csv")
    assert [first["event"], first["images"], second["images"]] == ["x", "3", "1"]
    mean = model.predict([files[n] for n in (0, 2, 3)], calibrated=True).mean(0)
    assert float(first["probability1"]) == pytest.approx(mean.max(), rel=1e-5)
    assert first["class1"] == model.classes[mean.argmax()]
    assert capsys.readouterr().out == f"written: {tmp_path / 'a.csv'}\n"
    run("list.csv", "--group", "burst")
    assert capsys.readouterr().out.splitlines()[0].split()[:3] == ["event", "images", "class"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [(("photos", "--group", "burst"), "takes one list"),
     (("list.csv", "--group", "burst", "--sets"), "--sets says nothing of --group"),
     (("list.csv", "--group", "b", "--output", "a.jsonl"), "end it in .csv"),
     (("list.csv", "--group", "b", "--label-next", "1"), "--group says nothing of --label-next")],
)  # fmt: skip
def test_events_that_are_not_listed_are_one_line(here, words, problem):
    with pytest.raises(UserError, match=problem):
        run(*words)


def test_a_list_without_the_column_is_told_before_a_model_is_opened(elsewhere):
    Path("list.csv").write_text("path,site\na.png,north\n")
    with pytest.raises(UserError, match="'path,site' has 0 columns 'burst': --group takes a list"):
        predict.main(["--workdir", "gone", "list.csv", "--group", "burst"])
