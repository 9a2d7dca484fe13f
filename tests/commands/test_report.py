"""The report: from what a run kept, after its dataset is gone; whatever its classes are called."""

import base64
import csv
import dataclasses
import hashlib
import io
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import command, finish, tiny
from pages import Elements
from PIL import Image
from report_numbers import problems
from reports import NAMES, written

from fgvc_jax import ensemble
from fgvc_jax.commands import evaluate, report
from fgvc_jax.commands.evaluate import Evaluation
from fgvc_jax.commands.report import Report
from fgvc_jax.figures.numbers import Calibration, Numbers, Seeds
from fgvc_jax.figures.pictures import Pictures
from fgvc_jax.figures.report import report_page
from fgvc_jax.training import members
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import predictions, remembered
from fgvc_jax.workdir.finished import FinishedRun, seeds
from fgvc_jax.workdir.folder import Workdir

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs on the same images, and one on others; then there are no images."""
    root = tmp_path_factory.mktemp("report")
    sources = {
        "birds": written(root / "birds", {"train": 8, "test": 6}),
        "more": written(root / "more", {"train": 8, "test": 7}),
    }
    with open(root / "levels.csv", "w", newline="", encoding="utf-8") as file:
        rows = zip(NAMES, ("<i>left", "<i>left", "right", "right"), strict=True)
        csv.writer(file).writerows([("class", "side"), *rows])
    with open(sources["more"] / "list.csv", "w", newline="", encoding="utf-8") as file:
        rows = [("path", "label", "split", "site", "date")]
        for n, path in enumerate(sorted(sources["more"].rglob("*.png"))):
            part, name, _ = path.relative_to(sources["more"]).parts
            rows.append((path.relative_to(sources["more"]), name, part, "<b>rth" * (n % 2), n % 3))
        csv.writer(file).writerows(rows)
    for name, source, changes in (
        ("one", "birds", {"taxonomy": str(root / "levels.csv")}),
        ("two", "birds", {"seed": 1, "validation": 0.25}),
        ("other", "more", {"members": 1}),
    ):
        data = dataclasses.replace(
            tiny().data,
            source=f"csv:{sources[source]}/list.csv"
            if source == "more"
            else f"folder:{sources[source]}",
            classes=0,
            images_per_class=0,
            validation=changes.pop("validation", 0.0),
            taxonomy=changes.pop("taxonomy", ""),
        )
        members.train(tiny(root / name, data=data, **changes))
    evaluate.evaluate(Evaluation(str(root / "two"), which="selected"))
    for source in sources.values():
        shutil.rmtree(source)
    (root / "levels.csv").unlink()
    return root


@pytest.fixture(scope="module")
def made(runs):
    """The page's text and report.json of a run against another one."""
    output = runs / "page.html"
    report.main(["--workdir", str(runs / "one"), "--output", str(output),
                 "--against", str(runs / "two")])  # fmt: skip
    return output.read_text(encoding="utf-8"), json.loads((runs / "page.json").read_text())


def fused(workdir):
    """The test part of a run and its ensemble's log-probabilities."""
    results = json.loads((workdir / "results.json").read_text())
    part = predictions.read(workdir / "predictions" / results["predictions"]["test"])
    members = [part.log_probabilities(member) for member in results["digests"]["members"]]
    *_, values = ensemble.growing(members, "probabilities")
    return part, values, results


def test_the_page_is_whole_and_harmless(made):
    text, numbers = made
    parsed = Elements(text)
    assert parsed.tags.count("script") == 1 and "b" in parsed.tags
    assert not {"http", "link", "iframe"} & set(parsed.tags)
    assert not [value for key, value in parsed.attributes if key in ("href", "src")
                and not value.startswith(("#", "data:image/jpeg;base64,"))]  # fmt: skip
    assert not [key for key, _ in parsed.attributes if key.startswith("on")]
    script = re.search(r"<script>(.*)</script>\n", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text and "\u202e" not in text
    images = parsed.tags.count("img")
    assert images > 24 and len([k for k, v in parsed.attributes if k == "alt" and v]) == images
    assert "<svg" in text and text.count("<svg") == text.count('role="img" aria-label="')
    assert set(numbers["class_names"]) == set(NAMES)
    targets = {value for key, value in parsed.attributes if key == "id"}
    links = {value[1:] for key, value in parsed.attributes if key == "href"}
    assert links <= targets and {"trained", "pairs", "errors", "against1", "classes"} <= links


def test_the_numbers_are_those_of_the_results(runs, made):
    part, values, results = fused(runs / "one")
    numbers = made[1]
    assert problems({key: numbers[key] for key in numbers if key != "report"}, Numbers) == []
    for key in ("metrics", "attention_overlap", "published_protocol", "images"):
        assert numbers[key] == results[key], key
    wrong = values.argmax(-1) != part.labels
    assert {e["image"] for e in numbers["errors"]} == set(np.flatnonzero(wrong).tolist())
    for entry in numbers["errors"]:
        i = entry["image"]
        assert entry["name"] == part.names[i] and entry["label"] == part.labels[i]
        assert entry["predicted"] == values[i].argmax()
        assert entry["confidence"] == pytest.approx(np.exp(values[i].max()), abs=2e-3)
    for entry in numbers["classes"]:
        inside = part.labels == entry["label"]
        assert (entry["images"], entry["right"]) == (inside.sum(), (inside & ~wrong).sum())
    accuracies = [entry["accuracy"] for entry in numbers["classes"]]
    assert accuracies == sorted(accuracies)
    assert [len(epochs) for epochs in numbers["learning"]] == [2, 2]
    assert "test_accuracy" in numbers["learning"][0][0]


def test_errors_have_their_nearest_training_photographs(runs, made, tmp_path):
    text, numbers = made
    part = remembered.find(runs / "one", Workdir(runs / "one").record())
    assert len(part.labels) == 32 and numbers["errors"]
    for entry in numbers["errors"][: remembered.ERRORS]:
        assert len(entry["nearest"]) == remembered.NEAREST
        values = [each["similarity"] for each in entry["nearest"]]
        assert values == sorted(values, reverse=True)
        for each in entry["nearest"]:
            row = each["row"]
            assert (each["name"], each["label"]) == (part.names[row], part.labels[row])
    assert text.count('class="near"') == len(numbers["errors"][: remembered.ERRORS])
    report.report(Report(str(runs / "one"), str(tmp_path / "a.html"), members=1))  # of whom not
    assert 'class="near"' not in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_errors_are_told_at_the_levels_of_the_taxonomy(runs, made):
    part, values, results = fused(runs / "one")
    text, numbers = made
    found, tree = numbers["families"], numbers["families"]["tree"]
    assert found == results["families"] | {"tree": tree} and found["coarsened"] is None
    sides = {name: "<i>left" if name in NAMES[:2] else "right" for name in NAMES}
    side = np.array([sides[name] for name in part.classes])
    wrong, said = values.argmax(-1) != part.labels, values.argmax(-1)
    same = side[said] == side[part.labels]
    assert found["errors"] == [int((wrong & same).sum()), int((~same).sum())]
    for group in tree:
        own = side[part.labels] == group["name"]
        assert (group["inside"], group["out"]) == ((wrong & same)[own].sum(), (~same)[own].sum())
        below = {each["name"] for each in group["below"]}
        assert below == {name for name in NAMES if sides[name] == group["name"]}
    assert 'id="families"' in text and "&lt;i&gt;left" in text and "<i>left" not in text
    pictures = Pictures(lambda _: b"", lambda *_: np.ones((2, 2)), share=1, budget=0)
    assert 'id="families"' not in report_page(numbers | {"families": None}, pictures)
    of_study = numbers | {"workdir": "runs/mine/kt/0"}
    assert "<title>Report of kt/0<" in report_page(of_study, pictures)


def test_places_are_told_after_the_list_has_gone(runs, tmp_path, capsys):
    part, values, results = fused(runs / "other")
    assert [by["column"] for by in results["by"]] == ["site", "date"]
    (site,) = results["by"][0]["places"]  # of every other image nothing is told
    assert site["name"] == "<b>rth" and 0 < site["images"] < len(part.labels)
    right = values.argmax(-1) == part.labels
    days = results["by"][1]
    assert sum(place["images"] for place in days["places"]) == len(right)
    assert days["accuracy"]["value"] == pytest.approx(right.mean())
    report.report(Report(str(runs / "other"), str(tmp_path / "a.html")))
    assert json.loads((tmp_path / "a.json").read_text())["by"] == results["by"]
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert 'id="places"' in text and "By site and date" in text and "&lt;b&gt;rth" in text
    found = evaluate.evaluate(Evaluation(str(runs / "other")))
    assert found["by"] == results["by"]
    evaluate.main([str(runs / "other"), "--by", "date"])
    said = capsys.readouterr().out
    assert "the network by date, the worst first" in said and "by site" not in said


def test_the_confusion_matrix_has_every_image(runs, made):
    part, values, _ = fused(runs / "one")
    with (runs / "page.confusion.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header[1:] == [row[0] for row in rows] == list(part.classes)
    matrix = np.zeros((4, 4), int)
    np.add.at(matrix, (part.labels, values.argmax(-1)), 1)
    assert [[int(cell) for cell in row[1:]] for row in rows] == matrix.tolist()


def test_another_run_is_compared_image_by_image(runs, made):
    (found,) = made[1]["against"]
    labels = fused(runs / "one")[0].labels
    ours, theirs = (fused(runs / name)[1].argmax(-1) for name in ("one", "two"))
    fixed = np.flatnonzero((ours == labels) & (theirs != labels))
    broken = np.flatnonzero((ours != labels) & (theirs == labels))
    assert (found["gained"], found["lost"]) == (len(fixed), len(broken))
    assert {e["image"]: e["predicted"] for e in found["fixed"]} == {i: theirs[i] for i in fixed}
    assert {e["image"]: e["predicted"] for e in found["broken"]} == {i: ours[i] for i in broken}
    for entry in found["classes"]:
        inside = labels == entry["class"]
        gained = (ours == labels)[inside].sum() - (theirs == labels)[inside].sum()
        assert entry["gained"] == gained
        assert entry["difference"] == pytest.approx(gained / inside.sum())


def test_the_members_at_the_epoch_best_on_validation(runs, tmp_path):
    options = Report(str(runs / "two"), str(tmp_path / "a.html"), which="selected")
    report.report(options)
    numbers = json.loads((tmp_path / "a.json").read_text())
    kept = json.loads((runs / "two/results.json").read_text())
    assert problems(numbers["calibration"], Calibration) == []
    alone = [each["accuracy"]["value"] for each in numbers["metrics"]["members"]]
    assert alone == [member["selected"] for member in kept["members"]]
    assert numbers["digests"]["member 1"] != kept["digests"]["members"][0]
    right = sum(entry["right"] for entry in numbers["classes"])
    found = numbers["metrics"]["ensemble"][-1]["accuracy"]["value"]
    assert found == pytest.approx(right / numbers["images"]["test"])
    text = (tmp_path / "a.html").read_text()
    assert "each at the epoch that was best on validation" in text and "last epoch</th>" in text


def copied(run, path, **changes):
    """A run in another folder, as if it were of another config."""
    shutil.copytree(run, path)
    saved = json.loads((path / "config.json").read_text())
    saved["data"]["validation"] = 0.0
    (path / "config.json").write_text(json.dumps(saved | changes))
    return path


def test_rows_of_a_study_are_paired_by_seed(runs, tmp_path):
    """Two rows of two seeds: the runs one and two, and the same the other way round."""
    for row, names in {"a": ("one", "two"), "b": ("two", "one")}.items():
        for seed, name in enumerate(names):
            changes = {"seed": seed, "label_smoothing": 0.1 if row == "b" else 0.0}
            copied(runs / name, tmp_path / row / str(seed), **changes)
    options = Report(
        str(tmp_path / "a/1"), str(tmp_path / "a.html"), against=(str(tmp_path / "b/0"),)
    )
    report.report(options)
    (found,) = json.loads((tmp_path / "a.json").read_text())["against"]
    parts = (fused(runs / name) for name in ("one", "two"))
    accuracies = [np.mean(values.argmax(-1) == part.labels) for part, values, _ in parts]
    seeds = found["seeds"]
    assert seeds["seeds"] == [0, 1] and problems(seeds, Seeds) == []
    assert seeds["ours"] == pytest.approx(accuracies)
    assert seeds["theirs"] == pytest.approx(accuracies[::-1])
    assert seeds["paired"]["n"] == 2 and seeds["paired"]["mean"] == pytest.approx(0)
    assert "Over 2 seeds" in (tmp_path / "a.html").read_text()
    shutil.rmtree(tmp_path / "b/1")
    report.report(options)
    assert json.loads((tmp_path / "a.json").read_text())["against"][0]["seeds"] is None


def test_what_is_the_same_run_with_another_seed(runs, tmp_path):
    row = tmp_path / "row"
    kept = FinishedRun.of(str(copied(runs / "one", row / "0")))
    copied(runs / "one", row / "3", seed=3)
    copied(runs / "one", row / "4", seed=5)  # in the folder of another seed
    copied(runs / "one", row / "6", seed=6, batch_size=4)  # another experiment
    copied(runs / "other", row / "7", seed=7, members=2)  # judged on other images
    copied(runs / "one", row / "8", seed=8)
    (row / "8/results.json").unlink()  # not finished
    (row / "9").mkdir()  # not begun
    assert list(seeds(kept)) == [0, 3]
    assert list(seeds(FinishedRun.of(str(copied(runs / "one", row / "copy"))))) == [0]


def test_the_first_members_alone(runs, tmp_path):
    report.report(Report(str(runs / "one"), str(tmp_path / "a.html"), members=1))
    numbers = json.loads((tmp_path / "a.json").read_text())
    results = fused(runs / "one")[2]
    assert numbers["members"] == 1 and len(numbers["metrics"]["ensemble"]) == 1
    accuracy = np.mean([entry["right"] / 6 for entry in numbers["classes"]])
    assert accuracy == pytest.approx(results["ensemble"][0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"against": ("other",)}, "other test images.*28 images of 4 classes, here 24 of 4"),
        ({"against": ("nowhere",)}, "nowhere.*no config.json"),
        ({"members": 3}, "--members is 3: .* has results of 2"),
        ({"which": "selected"}, "has no validation part, so no epoch was selected"),
        ({"output": "page.txt"}, "end it in .html"),
        ({"output": "one/results.html"}, "would replace .*results.json"),
        ({"output": "one/config.html"}, "would replace .*config.json"),
    ],
)
def test_mistakes_are_told_in_one_line(runs, monkeypatch, changes, words):
    monkeypatch.chdir(runs)
    before = (runs / "one/results.json").read_bytes()
    with pytest.raises(UserError, match=words) as error:
        report.report(Report(**{"workdir": "one", "output": "x.html"} | changes))
    assert "\n" not in str(error.value) and (runs / "one/results.json").read_bytes() == before
    assert not (runs / "x.html").exists()


def test_what_is_missing_of_a_run_is_told(runs, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(runs / "one", copy)
    options = Report(str(copy), str(tmp_path / "a.html"))
    for path in copy.rglob("thumbnails.npy"):
        path.unlink()
    report.report(options)  # without pictures
    assert "<img" not in (tmp_path / "a.html").read_text()
    next(copy.rglob("*.attention.npy")).unlink()
    with pytest.raises(UserError, match="does not keep.*fgvc_jax.evaluate keeps"):
        report.report(options)
    (copy / "results.json").unlink()
    with pytest.raises(UserError, match="has no results yet"):
        report.report(options)


def test_the_page_of_a_set_as_large_as_cub_is_small(made):
    """200 classes and 5,794 images, all of them errors and doubted; photographs of noise."""
    rng = np.random.default_rng(0)
    file = io.BytesIO()
    Image.fromarray(rng.integers(256, size=(160, 160, 3), dtype=np.uint8)).save(file, "PNG")
    numbers, images = dict(made[1]), 5794
    for key in ("errors", "doubted_labels"):
        numbers[key] = [made[1]["errors"][0] | {"suggested": 1, "probability": 0.5}] * images
    numbers["classes"] = [made[1]["classes"][0] | {"label": label} for label in range(200)]
    numbers["confused_pairs"] = made[1]["confused_pairs"][:1] * report.PAIRS
    pictures = Pictures(
        lambda _: file.getvalue(), lambda *_: np.ones((14, 14)), share=1, budget=report.PICTURES
    )
    assert 4e6 < len(report_page(numbers, pictures).encode()) < 8e6


def test_started_as_a_command(runs, tmp_path):
    code, out, err = finish(
        command("report", "--workdir", runs / "one", "--output", tmp_path / "a.html")
    )
    assert code == 0 and out.startswith("written: ") and "a.confusion.csv" in out
    # Its families are judged, and without a validation part nothing can promise coarser answers.
    assert [line.partition(":")[0] for line in err.splitlines()] == [
        "not answered at coarser levels"
    ]


def test_selected_members_are_never_taken_for_final_ones(runs):
    with pytest.raises(ValueError, match="select must tell"):
        FinishedRun.of(str(runs / "one"), which="selected")


def test_chosen_members_are_reported_by_their_numbers(runs):
    output = runs / "second.html"
    report.main(["--workdir", str(runs / "one"), "--output", str(output), "--members", "2..2"])
    made, results = json.loads((runs / "second.json").read_text()), fused(runs / "one")[2]
    assert (
        made["numbers"] == [2] and made["digests"]["member 2"] == results["digests"]["members"][1]
    )
    assert made["single"] == results["members"][1:] and made["published_protocol"] is None
    assert made["metrics"]["members"] == results["metrics"]["members"][1:]


@pytest.mark.parametrize("safe", [False, True])
def test_the_matrix_of_many_classes_has_the_pairs_that_occur(tmp_path, monkeypatch, safe):
    monkeypatch.setattr(report, "MATRIX", 3)
    answers = SimpleNamespace(labels=np.array([0, 0, 2, 3]), predicted=np.array([0, 1, 1, 3]))
    report._write_confusion(tmp_path / "a.csv", answers, ["a", "=b", "c,", "d"], safe=safe)
    b = "'=b" if safe else "=b"
    assert (tmp_path / "a.csv").read_text().splitlines() == [
        "true class,named,images", "a,a,1", f"a,{b},1", f'"c,",{b},1', "d,d,1",
    ]  # fmt: skip
