"""What is left out of somebody's own images, and when they are refused."""

import dataclasses
import shutil

import numpy as np
import pytest
from datasets import write

from fgvc_jax.data import left_out, sources
from fgvc_jax.data.left_out import LeftOut
from fgvc_jax.data.sources import open_source
from fgvc_jax.utils import digests
from fgvc_jax.utils.errors import UserError


def folder(root, counts, *, test=0):
    """class -> images; the first `test` of each are a test part, where there are any."""
    files = {}
    for name, count in counts.items():
        for i in range(count):
            part = "" if not test else "test/" if i < test else "train/"
            files[f"{part}{name}/{i:03}.png"] = f"{name} {i}"
    return open_source(f"folder:{write(root, files)}")


def broken(splits, *names):
    of = {name: part for part, source in splits.parts.items() for name in source.names}
    return [LeftOut(of[name], name, f"image {name!r} is empty: fetch it again") for name in names]


def check(splits, *names, strict=""):
    left_out.check(splits, broken(splits, *names), strict=strict)


def refused(splits, *names, words, **how):
    with pytest.raises(UserError, match=words) as caught:
        check(splits, *names, **how)
    assert "\n" not in str(caught.value)


def test_one_image_of_few_and_a_hundredth_of_many(tmp_path):
    few = folder(tmp_path / "few", {"a": 10, "b": 12})
    check(few)
    check(few, "a/000.png")
    refused(few, "a/000.png", "b/000.png", words="2 of 22 images .*a/000.*b/000.*; of 22 images at "
            "most 1 is left out .*--clean")  # fmt: skip
    many = folder(tmp_path / "many", {name: 20 for name in "abcdefghijk"})
    check(many, "a/000.png", "b/000.png")
    refused(many, "a/000.png", "b/000.png", "c/000.png", words="at most 2 are")


def test_a_class_keeps_nine_tenths_of_its_images(tmp_path):
    splits = folder(tmp_path, {"a": 9, "b": 500})
    refused(
        splits, "a/000.png", words="class 'a' would lose 1 of its 9 images, and at most a tenth"
    )
    check(splits, *(f"b/{i:03}.png" for i in range(5)))


def test_strict_and_published_sets_are_refused_as_ever(tmp_path):
    splits = folder(tmp_path, {"a": 20, "b": 20})
    words = "^image 'a/000.png' is empty.*since --data.strict is given"
    refused(splits, "a/000.png", words=words, strict=left_out.STRICT)
    published = dataclasses.replace(splits, own=False)
    refused(published, "a/000.png", words="^image 'a/000.png' is empty: fetch it again$")
    assert not open_source("sketchbirds").own


def test_no_part_and_no_training_class_is_emptied(tmp_path):
    splits = folder(tmp_path / "a", {"a": 11, "b": 11}, test=10)
    refused(splits, "train/a/010.png", words="class 'a' has no training image")
    (first, *others) = range(len(splits.test))
    alone = dataclasses.replace(splits, test=sources.Subset(splits.test, [first]))
    more = dataclasses.replace(alone, validation=sources.Subset(splits.test, others))
    refused(more, more.test.names[0], words="the test part is empty")


def test_boxes_of_one_photograph_are_one_image(tmp_path):
    rows = ["path,label,x,y,width,height"]
    rows += [f"0.png,{'ab'[i % 2]},{i},0,5,5" for i in range(4)]
    rows += [f"{n}.png,{'ab'[n % 2]},,,," for n in range(1, 90)]
    files = {f"{n}.png": f"{n}" for n in range(90)}
    splits = open_source(f"csv:{write(tmp_path, files | {'l.csv': chr(10).join(rows)})}/l.csv")
    boxes = [name for name in splits.names if name.startswith("0.png")]
    assert len(boxes) == 4
    check(splits, *boxes)
    refused(splits, *boxes, "1.png", words="of 90 images at most 1 is left out")


def test_the_digests_are_those_of_the_set_without_them(tmp_path):
    splits = folder(tmp_path / "all", {"a": 12, "b": 12}, test=4)
    gone = ["train/a/007.png", "test/b/001.png"]
    shutil.copytree(tmp_path / "all", tmp_path / "fewer")
    for name in gone:
        (tmp_path / "fewer" / name).unlink()
    fewer = open_source(f"folder:{tmp_path / 'fewer'}")
    assert digests.of_data(left_out.without(splits, gone), {}) == digests.of_data(fewer, {})
    how = dict(classes=2, images_per_class=6, validation=0.2, seed=1)
    restricted = sources.restrict(splits, **how)
    assert left_out.without(restricted, ["test/b/001.png"]).test.ids.tolist() == [
        *range(16, 21), *range(21, 23)
    ]  # fmt: skip
    assert left_out.without(splits, ["nowhere"]) is splits


def test_no_image_moves_to_another_part(tmp_path):
    splits = folder(tmp_path, {"a": 30, "b": 30})
    splits = sources.restrict(splits, classes=0, images_per_class=0, validation=0.2, seed=0)
    for name in splits.names:
        fewer = left_out.without(splits, [name])
        assert fewer.names == splits.names - {name}
        for part, source in fewer.parts.items():
            assert set(source.names) <= set(splits.parts[part].names)
            assert len(np.unique(source.ids)) == len(source)
    ids = np.concatenate([part.ids for part in fewer.parts.values()])
    assert sorted(ids) == list(range(59))


def test_a_line_names_the_first_and_what_to_do(tmp_path):
    splits = folder(tmp_path, {"a": 9})
    line = left_out.told(broken(splits, *(f"a/{i:03}.png" for i in range(5))), 900)
    assert line.startswith("left out 5 images of 900, which cannot be used: image 'a/000.png' is")
    assert "a/002.png" in line and "a/003.png" not in line and "and 2 more" in line
    assert "left out 1 image of 9" in left_out.told(broken(splits, "a/000.png"), 9)
