"""Folders of class folders: split, counted, and what is wrong is named."""

import numpy as np
import pytest
from datasets import contents, placeholders, refused, write

from fgvc_jax.data import folders
from fgvc_jax.data.folders import open_folder
from fgvc_jax.data.sources import open_source
from fgvc_jax.data.taxonomy import of_folders
from fgvc_jax.utils.errors import UserError


def test_folder_with_parts(tmp_path):
    files = placeholders(
        "train/b/2.png", "train/b/1.JPG", "train/a/1.jpg", "test/b/1.webp", "test/a/9.bmp"
    )
    ignored = placeholders("train/b/notes.txt", "train/b/.hidden.jpg", "train/.c/1.jpg", "README")
    write(tmp_path, {**files, **ignored})
    splits = open_source(f"folder:{tmp_path}")
    assert splits.classes == ("a", "b") and splits.validation is None
    assert contents(splits.train) == [
        ("train/a/1.jpg", 0, 0),
        ("train/b/1.JPG", 1, 1),
        ("train/b/2.png", 1, 2),
    ]
    assert contents(splits.test) == [("test/a/9.bmp", 0, 3), ("test/b/1.webp", 1, 4)]
    assert splits.train.labels.dtype == splits.train.ids.dtype == np.int32
    assert splits.train[0]["name"] == f"{tmp_path}/train/a/1.jpg"
    with pytest.raises(IndexError):
        splits.train[3]


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_folder_other_names_of_the_test_part(tmp_path, name):
    write(tmp_path, placeholders("train/a/1.jpg", f"{name}/a/2.jpg"))
    splits = open_source(f"folder:{tmp_path}")
    assert len(splits.test) == 1 and splits.validation is None


def test_folder_with_three_parts(tmp_path):
    write(tmp_path, placeholders("train/a/1.jpg", "test/a/2.jpg", "val/a/3.jpg"))
    splits = open_source(f"folder:{tmp_path}")
    assert contents(splits.test) == [("test/a/2.jpg", 0, 1)]
    assert contents(splits.validation) == [("val/a/3.jpg", 0, 2)]


def test_folder_that_is_split(tmp_path):
    names = [f"{name}/{i}.jpg" for name, n in {"a": 2, "b": 10, "c": 11}.items() for i in range(n)]
    write(tmp_path, placeholders(*names))
    splits = open_source(f"folder:{tmp_path}")
    assert splits.classes == ("a", "b", "c")
    assert np.bincount(splits.test.labels).tolist() == [1, 2, 2]
    parts = [contents(splits.train), contents(splits.test)]
    assert sorted(name for part in parts for name, _, _ in part) == sorted(names)
    assert sorted(number for part in parts for _, _, number in part) == list(range(len(names)))
    again = open_source(f"folder:{tmp_path}")
    assert contents(again.test) == parts[1]
    assert contents(open_folder(str(tmp_path), seed=1).test) != parts[1]


def test_folders_in_folders_of_coarser_levels(tmp_path):
    """Innermost folders are the classes, sorted by name; the parts may be above all."""
    crows = "Corvidae/Pica/magpie", "Corvidae/Corvus/raven", "Corvidae/Corvus/crow"
    own = *crows, "Paridae/Parus/tit"
    write(tmp_path / "whole", placeholders(*[f"{path}/{i}.jpg" for path in own for i in range(2)]))
    write(tmp_path / "parts", placeholders(*[f"{p}/{own[i]}/1.jpg" for p, i in (
        ("train", 0), ("train", 3), ("train", 1), ("test", 3))]))  # fmt: skip
    splits = open_source(f"folder:{tmp_path / 'whole'},nested")
    assert splits.classes == ("crow", "magpie", "raven", "tit") and len(splits.train) == 4
    assert splits.lineages[0] == ("crow", "Corvus", "Corvidae")
    assert {name.rsplit("/", 1)[0] for name in splits.names} == set(own)
    splits = open_source(f"folder:{tmp_path / 'parts'},nested")
    assert splits.classes == ("magpie", "raven", "tit") and splits.test.labels.tolist() == [2]
    found = of_folders(splits.lineages)
    assert found.levels == ("class", "group 1", "group 2")
    assert found.names[1:] == (("Pica", "Corvus", "Parus"), ("Corvidae", "Paridae"))


@pytest.mark.parametrize(
    "paths, said",
    [
        (["A/x/1.jpg", "B/x/1.jpg"], "has the class 'x' in 'A' and in 'B'"),
        (["A/x/1.jpg", "B/y/z/1.jpg"], "'A/x' and 'B/y/z' are not equally deep"),
        (["x/1.jpg", "y/1.jpg"], "has no folders in its folders: leave ',nested' out"),
    ],
)
def test_folders_in_folders_that_are_no_levels(tmp_path, paths, said):
    write(tmp_path, placeholders(*paths))
    with pytest.raises(UserError) as error:
        open_source(f"folder:{tmp_path},nested")
    assert said in str(error.value)


def test_folder_mistakes(tmp_path):
    cases = {
        "no_test": (["train/a/1.jpg"], ["has train/ but none of test, val", "/train to have it"]),
        "no_train": (["test/a/1.jpg"], ["has test/ but no train/"]),
        "empty": (["train/a/1.jpg", "train/b/x.txt", "test/a/1.jpg"], ["class 'b' has no train"]),
        "unknown": (["train/a/1.jpg", "test/z/1.jpg"], ["/test/z' has no counterpart in train/"]),
        "no_classes": (["train/1.jpg", "test/a/1.jpg"], ["/train' has no class folders"]),
        "nothing_tested": (["train/a/1.jpg", "test/a/x.txt"], ["no image in its test part"]),
        "nested": (["a/b/1.jpg", "a/b/2.jpg"], ["/a/b' is a folder in a class folder"]),
        "single": (["a/1.jpg", "b/1.jpg", "b/2.jpg"], ["/a' has 1 image", "at least 2"]),
        "unclear": (["train/a/1.jpg", "val/a/2.jpg", "valid/a/2.jpg"], ["has val, valid"]),
    }
    for case, (names, words) in cases.items():
        refused(f"folder:{write(tmp_path / case, placeholders(*names))}", str(tmp_path), *words)


def warned(caplog, spec):
    """The warnings of opening a dataset."""
    caplog.clear()
    splits = open_source(spec)
    return splits, [record.getMessage() for record in caplog.records]


def test_ignored_files_are_counted_and_told(tmp_path, caplog):
    names = ["a/1.jpg", "a/2.jpg", "a/notes.txt", "a/.hidden.jpg", "a/x.RAW", "a/y.raw", "a/z"]
    write(tmp_path, placeholders(*names))
    _, (line,) = warned(caplog, f"folder:{tmp_path}")
    assert f"ignored 4 files of '{tmp_path}'" in line
    assert "2 '.raw', 1 '.txt', 1 'no suffix'" in line and "'a/notes.txt'" in line
    assert "\n" not in line and "hidden" not in line
    for odd in "bcdefgh":
        (tmp_path / f"a/{odd}.{odd}\n<b>").touch()
    _, (line,) = warned(caplog, f"folder:{tmp_path}")
    assert "ignored 11 files" in line and "and 5 other kinds" in line and "\n" not in line


def test_ignored_files_explain_a_class_without_images(tmp_path, caplog):
    write(tmp_path, placeholders("train/a/1.jpg", "train/b/1.raw", "test/a/2.jpg"))
    refused(f"folder:{tmp_path}", "class 'b' has no training image")
    assert "ignored a file" in caplog.text and ".raw" in caplog.text


def test_nothing_ignored_nothing_told(tmp_path, caplog):
    write(tmp_path, placeholders("a/1.jfif", "a/2.PPM", "a/3.jpe", "b/1.pnm", "b/2.jp2"))
    splits, lines = warned(caplog, f"folder:{tmp_path}")
    assert not lines and len(splits.train) + len(splits.test) == 5
    assert (splits.orientation, splits.decode) == ("exif", "scaled")


def test_a_validation_part_without_images(tmp_path):
    write(tmp_path, placeholders("train/a/1.jpg", "test/a/2.jpg", "val/a/3.raw"))
    refused(f"folder:{tmp_path}", "has no image in its validation part")


@pytest.mark.parametrize(
    "names",
    [("Train", "Test"), ("TRAIN", "tesT", "Validation"), ("train", "Val"), ("train", "VALID")],
)
def test_parts_are_known_in_any_case(tmp_path, names):
    """train/ val/ Test/ was judged on val/, without a word."""
    write(tmp_path, placeholders(*(f"{name}/a/{i}.jpg" for i, name in enumerate(names))))
    splits = open_source(f"folder:{tmp_path}")
    assert [part.names for part in splits.parts.values() if part is not splits.validation] == [
        (f"{names[0]}/a/0.jpg",), (f"{names[1]}/a/1.jpg",)
    ]  # fmt: skip
    assert (splits.validation is not None) == (len(names) == 3)


def test_what_a_validation_part_stands_in_for_is_told(tmp_path, caplog):
    write(tmp_path, placeholders("train/a/1.jpg", "val/a/2.jpg"))
    with caplog.at_level("INFO"):
        open_source(f"folder:{tmp_path}")
    assert "val/ is the test part, since there is no test/" in caplog.text


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("train", "testing"), "'testing' (1 image) may be it: rename it to test"),
        (("train", "eval"), "'eval' (1 image) may be it: rename it to validation"),
        (
            ("train", "val", "testing"),
            "val/ would be the test part, while 'testing' (1 image) may",
        ),
        (("train", "val", "test2"), "val/ would be the test part, while 'test2' (1 image) may"),
        (("training", "test"), "no train/ with class folders, while 'training' (1 image) may be"),
        (("training", "testing"), "testing' holds class folders: if it is the test part, name it"),
        (("train", "test", "Test"), "has Test, test, and both would be the test part"),
    ],
)
def test_names_near_a_missing_parts_are_offered(tmp_path, names, words):
    write(tmp_path, placeholders(*(f"{name}/a/{i}.jpg" for i, name in enumerate(names))))
    refused(f"folder:{tmp_path}", words)


def test_folders_and_images_that_are_not_used_are_counted(tmp_path, caplog):
    used = ["train/a/1.jpg", "test/a/2.jpg"]
    unused = [
        "vali/a/3.jpg",
        "vali/a/4.jpg",
        "test_2/a/8.jpg",
        "more/5.jpg",
        "6.jpg",
        "train/7.jpg",
    ]
    clutter = ["__MACOSX/train/a/._1.jpg", "train/__MACOSX/a/._1.jpg"]
    write(tmp_path, placeholders(*used, *unused, *clutter))
    splits, lines = warned(caplog, f"folder:{tmp_path}")
    assert splits.classes == ("a",) and len(splits.train) == len(splits.test) == 1
    assert len(lines) == 4
    assert "folder 'more/' of" in lines[0] and lines[0].endswith("with 1 image is not used")
    assert "folder 'test_2/' of" in lines[1] and lines[1].endswith("with 1 image is not used")
    offered = "with 2 images is not used: if it is the validation part, name it validation/"
    assert lines[2].endswith(offered)
    assert "2 images of" in lines[3] and "not used, such as '6.jpg'" in lines[3]
    write(tmp_path / "flat", placeholders("a/1.jpg", "a/2.jpg", "x.jpg", "__MACOSX/._1.jpg"))
    splits, (line,) = warned(caplog, f"folder:{tmp_path / 'flat'}")
    assert splits.classes == ("a",) and "beside the class folders is not used" in line


def test_a_class_may_have_the_name_of_a_part(tmp_path):
    """Trains beside cars: contents decide."""
    write(
        tmp_path / "flat", placeholders(*(f"{c}/{i}.jpg" for c in ("car", "train") for i in "12"))
    )
    assert open_source(f"folder:{tmp_path / 'flat'}").classes == ("car", "train")
    names = [f"{part}/{c}/{part}.jpg" for part in ("train", "test") for c in ("car", "test")]
    write(tmp_path / "parts", placeholders(*names))
    splits = open_source(f"folder:{tmp_path / 'parts'}")
    assert splits.classes == ("car", "test") and len(splits.test) == 2


def test_all_that_is_there_is_judged(tmp_path):
    """A fifth of it was: 6 of 30."""
    write(tmp_path / "new", placeholders(*(f"{c}/{i}.jpg" for c in "ab" for i in range(15))))
    splits = open_source(f"folder:{tmp_path / 'new'}", to_train=False)
    assert len(splits.test) == 30 and not len(splits.train)
    write(tmp_path / "alone", placeholders("test/a/1.jpg", "test/b/2.jpg"))
    splits = open_source(f"folder:{tmp_path / 'alone'}", to_train=False)
    assert splits.classes == ("a", "b") and len(splits.test) == 2
    refused(f"folder:{tmp_path / 'alone'}", "has test/ but no train/")
    write(tmp_path / "one", placeholders("a/1.jpg"))
    assert len(open_source(f"folder:{tmp_path / 'one'}", to_train=False).test) == 1


def test_accents_in_another_form_are_the_same_class(tmp_path):
    one, apart = "caf\u00e9", "cafe\u0301"
    write(tmp_path, placeholders(f"train/{one}/1.jpg", f"test/{apart}/2.jpg"))
    splits = open_source(f"folder:{tmp_path}")
    assert splits.classes == (one,) and contents(splits.test)[0][1] == 0
    write(tmp_path, placeholders(f"train/{apart}/3.jpg"))
    assert len(open_source(f"folder:{tmp_path}").classes) == 2  # whoever has both has two
    write(tmp_path, placeholders("test/cafe/2.jpg"))
    refused(f"folder:{tmp_path}", "/cafe' has no counterpart in train/: did you mean 'caf")


def test_one_folder_too_high_is_told(tmp_path):
    write(tmp_path, placeholders(*(f"birds/{c}/{i}.jpg" for c in "ab" for i in "12")))
    refused(f"folder:{tmp_path}", f"give folder:{tmp_path}/birds")


def test_counting_what_is_not_used_ends(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(folders, "COUNTED", 2)
    more = placeholders("train/a/1.jpg", "test/a/2.jpg", *(f"more/{i}.jpg" for i in range(3)))
    write(tmp_path, more)
    _, (line,) = warned(caplog, f"folder:{tmp_path}")
    assert "'more/'" in line and "with more than 2 images is not used" in line


TWO = "1.png", "2.png"  # of a class, as little as can be split


def test_classes_that_may_be_one_are_told(tmp_path, caplog):
    """Two names that look alike, or differ by a space, were two classes without a word."""

    def told(*names):
        root = tmp_path / str(len(names))
        open_source(
            f"folder:{write(root, placeholders(*(f'{n}/{i}' for n in names for i in TWO)))}"
        )
        return caplog.text

    assert "several names" not in told("wren", "robin", "robins")
    found = told("e\u0301", "\u00e9", "wren", "wren ")
    assert "the classes 'wren' and 'wren ' of 'folder:" in found
    assert "may be one under several names (and 1 more such): keep one name" in found
    assert "the classes 'e\u0301' and '\u00e9' of 'folder:" in told("e\u0301", "\u00e9")
