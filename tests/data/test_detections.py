"""MegaDetector's output: which boxes of which photographs are asked for."""

import json
import os

import pytest
from datasets import write

from fgvc_jax.data import detections
from fgvc_jax.utils.errors import UserError


def content(images, **more):
    kinds = {"1": "animal", "2": "person", "3": "vehicle"}
    return json.dumps({"images": images, "detection_categories": kinds, "info": {}} | more)


def found(conf=0.9, bbox=(0.1, 0.2, 0.3, 0.4), category="1"):
    return {"category": category, "conf": conf, "bbox": list(bbox)}


IMAGES = [
    {"file": "a/one.jpg", "detections": [found(), found(0.5, (0.5, 0.5, 0.25, 0.25))]},
    {"file": "a/two.jpg", "detections": [found(0.1), found(0.9, category="2")]},
    {"file": "three.jpg", "detections": None, "failure": "Failure image access"},
]


def asked(file, words=(), confidence=0.2, whole=False):
    listed = detections.read(file, confidence=confidence)
    return list(detections.boxes(detections.photographs(file, listed, words), whole=whole))


@pytest.fixture
def root(tmp_path):
    names = "a/one.jpg", "a/two.jpg", "three.jpg", "unlisted.jpg"
    return write(tmp_path / "photos", {"found.json": content(IMAGES), **dict.fromkeys(names, b"")})


def test_a_row_for_each_animal_that_is_sure_enough(root, caplog):
    one, other, failed = asked(root / "found.json")
    assert one.path == other.path == str(root / "a/one.jpg") and not one.problem
    assert one.box[:4] == (0.1, 0.2, 0.3, 0.4) and other.box.of == (1, 1)
    assert (one.confidence, other.confidence) == (0.9, 0.5)
    assert failed.problem == "the detector failed: Failure image access" and failed.box is None
    assert "a photograph is without a box, such as" in caplog.text and "two.jpg" in caplog.text
    assert len(asked(root / "found.json", confidence=0.6)) == 2
    assert len(asked(root / "found.json", confidence=0.1)) == 4


def test_a_photograph_that_is_listed_twice_says_one_thing(root):
    """Of two files that were joined the later boxes won, and the others had no answer."""
    write(root, {"found.json": content([*IMAGES, IMAGES[0]])})
    assert len(asked(root / "found.json")) == 3
    write(root, {"found.json": content([*IMAGES, {"file": "a/one.jpg", "detections": [found()]}])})
    with pytest.raises(UserError, match="image 4: 'a/one.jpg' is already listed, with other boxes"):
        asked(root / "found.json")


def test_photographs_without_a_box_are_answered_whole_on_demand(root, caplog):
    files = asked(root / "found.json", whole=True)
    assert [(os.path.basename(file.path), file.box is None) for file in files] == [
        ("one.jpg", False), ("one.jpg", False), ("two.jpg", True), ("three.jpg", True),
    ]  # fmt: skip
    assert not caplog.text


def test_without_categories_all_boxes_count(root):
    write(root, {"found.json": content(IMAGES, detection_categories=None)})
    assert len(asked(root / "found.json")) == 4


@pytest.mark.parametrize(("category", "count"), [(1, 1), ("1", 1), ([1], 0), (None, 0), (2, 0)])
def test_a_category_of_another_type_is_no_accident(root, category, count):
    images = [{"file": "a/one.jpg", "detections": [found(category=category)]}]
    write(root, {"found.json": content(images)})
    assert len(asked(root / "found.json")) == count


@pytest.mark.parametrize("relative", [True, False])
def test_photographs_are_found_from_the_folder_that_is_named(root, tmp_path, monkeypatch, relative):
    """Wherever the file is, and however the folder is written."""
    monkeypatch.chdir(tmp_path)
    (root / "found.json").rename(tmp_path / "elsewhere.json")
    folder = "./photos/" if relative else str(root)
    files = asked(tmp_path / "elsewhere.json", [folder], whole=True)
    boxed = [os.path.basename(file.path) for file in files if file.box]
    assert boxed == ["one.jpg", "one.jpg"] and len(files) == 5


def test_photographs_that_the_file_does_not_list_are_told_apart(root, tmp_path, caplog):
    """As when another folder was named than the detector had."""
    (root / "found.json").rename(tmp_path / "elsewhere.json")
    assert asked(tmp_path / "elsewhere.json", [str(root / "a")]) == []
    assert "2 photographs are not in the file of boxes, such as" in caplog.text


def test_absolute_paths_are_what_they_say(root, tmp_path):
    images = [{"file": str(root / "a/one.jpg"), "detections": [found()]}]
    write(tmp_path, {"absolute.json": content(images)})
    for words in ((), [str(root / "a/one.jpg")], [str(root)]):
        files = asked(tmp_path / "absolute.json", words)
        assert [file.path for file in files] == [str(root / "a/one.jpg")]


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([{"detections": []}], "number 1 of 'images' has no file"),
        ([{"file": "a", "detections": 3}], "image 1: its detections are no list"),
        ([{"file": "a", "detections": [found(conf=2)]}], "image 1: the confidence 2 is not in"),
        ([{"file": "a", "detections": [found(bbox=(1, 2, 3))]}], "the box .* is not four numbers"),
        ([{"file": "a", "detections": [found(bbox=(1.5, 0, 0.1, 0.1))]}], "is outside of its"),
        ([{"file": "a", "detections": [found(bbox=(0, 0, 0, 0.1))]}], "is empty"),
        ([{"file": "a", "detections": [found(bbox=(0, 0, float("nan"), 0.1))]}], "finite numbers"),
    ],
)
def test_what_is_wrong_is_one_line(root, images, words):
    write(root, {"found.json": content(images)})
    with pytest.raises(UserError, match=words) as error:
        detections.read(root / "found.json", confidence=0.2)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("words", [(), ("photos",)])
def test_a_detector_may_have_run_on_another_system(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    images = [{"file": "a\\cafe\u0301.jpg", "detections": [found()]}]
    root = write(tmp_path / "photos", {"found.json": content(images), "a/caf\u00e9.jpg": b""})
    (one,) = asked(root / "found.json", words)
    assert os.path.abspath(one.path) == str(root / "a/caf\u00e9.jpg") and one.box


def test_photographs_of_two_folders_do_not_share_the_boxes_of_one(root, tmp_path):
    other = write(tmp_path / "other", {"a/one.jpg": b""})
    words = [str(root), str(other)]
    with pytest.raises(UserError, match="'a/one.jpg' may be .*photos.* or .*other.*: ask for one"):
        asked(root / "found.json", words)
    assert len(asked(root / "found.json", [str(root), str(root)])) == 2 * len(
        asked(root / "found.json", [str(root)])
    )
