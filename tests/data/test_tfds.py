"""Datasets that TFDS prepared, read without TensorFlow."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_images import encoded, noise

from fgvc_jax.data import whole
from fgvc_jax.data.images import decode
from fgvc_jax.data.sources import Source, open_source
from fgvc_jax.utils.errors import UserError

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")


def png(red):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (red, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def prepare(directory, parts, *, name="tiny", version="1.0.0", labels="class", pair=True):
    """parts: split -> [(red, label)]. Images are given encoded: arrays would need TensorFlow."""
    kinds = {
        "class": tfds.features.ClassLabel(names=["auk", "wren"]),
        "number": tfds.features.Scalar(np.int64),
    }

    def info(self):
        features = {
            "photo": tfds.features.Image(),
            "mask": tfds.features.Image(),
            "kind": kinds[labels],
            "bbox": tfds.features.BBoxFeature(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("photo", "kind") if pair else None,
        )

    def examples(self, rows):
        for key, (red, label) in enumerate(rows):
            bbox = tfds.features.BBox(0.0, 0.0, 1.0, 1.0)
            yield key, {"photo": png(red), "mask": b"no image", "kind": label, "bbox": bbox}

    members = {
        "name": name,
        "VERSION": tfds.core.Version(version),
        "pkg_dir_path": Path(directory),
        "_info": info,
        "_split_generators": lambda self, _: {
            part: self._generate_examples(rows) for part, rows in parts.items()
        },
        "_generate_examples": examples,
    }
    with tfds.core.registered.skip_registration():
        builder = type("Tiny", (tfds.core.GeneratorBasedBuilder,), members)(data_dir=directory)
    builder.download_and_prepare(file_format="array_record")
    return directory / name / version


PARTS = {"train": [(10, 0), (20, 1), (30, 1)], "test": [(40, 1), (50, 0)]}


def contents(source):
    """Sorted (red, label): TFDS shuffles when it prepares."""
    records = (source[i] for i in range(len(source)))
    return sorted((int(decode(r, 4, orientation="stored")[0, 0, 0]), r["label"]) for r in records)


def refused(spec, *words):
    with pytest.raises(UserError) as caught:
        open_source(spec)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_prepared_dataset(tmp_path):
    prepare(tmp_path, PARTS)
    splits = open_source(f"tfds:tiny@{tmp_path}")
    assert splits.classes == ("auk", "wren")
    assert isinstance(splits.train, Source)
    assert splits.train.names[0] == "train/0" and splits.train.stat(0) is None
    assert contents(splits.train) == PARTS["train"]
    assert contents(splits.test) == sorted(PARTS["test"])
    assert [*splits.train.ids, *splits.test.ids] == [0, 1, 2, 3, 4]
    record = splits.test[1]
    assert record["image"][:4] == b"\x89PNG" and record["name"] == "tfds:tiny test[1]"
    assert record["label"] == splits.test.labels[1]
    with pytest.raises(IndexError):
        splits.test[2]


def test_directory_from_the_environment_and_versions(tmp_path, monkeypatch):
    prepare(tmp_path, PARTS, version="1.9.0")
    prepare(tmp_path, {**PARTS, "test": [(60, 0)]}, version="1.10.0")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert contents(open_source("tfds:tiny").test) == [(60, 0)]
    assert contents(open_source("tfds:tiny:1.9.0").test) == sorted(PARTS["test"])
    refused("tfds:tiny:2.0.0", "tfds:tiny:2.0.0 is not prepared in")


def test_validation_stands_in_for_test(tmp_path):
    prepare(tmp_path, {"train": PARTS["train"], "validation": [(70, 0)]})
    splits = open_source(f"tfds:tiny@{tmp_path}")
    assert contents(splits.test) == [(70, 0)] and splits.validation is None


def test_three_parts_are_three_and_others_are_told(tmp_path, caplog):
    """The validation part was dropped."""
    prepare(tmp_path, {**PARTS, "validation": [(70, 0)], "extra": [(80, 0), (90, 1)]})
    splits = open_source(f"tfds:tiny@{tmp_path}")
    assert contents(splits.validation) == [(70, 0)] and splits.validation.ids.tolist() == [5]
    assert contents(splits.test) == sorted(PARTS["test"]) and splits.test.ids.tolist() == [3, 4]
    assert "the split 'extra' of tfds:tiny@" not in caplog.text
    assert "the split 'extra' of tfds:tiny with 2 images is not used" in caplog.text


def test_a_test_part_alone_is_judged(tmp_path):
    prepare(tmp_path, {"test": PARTS["test"]})
    splits = open_source(f"tfds:tiny@{tmp_path}", to_train=False)
    assert contents(splits.test) == sorted(PARTS["test"]) and not len(splits.train)


def test_tensorflow_is_not_imported(tmp_path):
    prepare(tmp_path, PARTS)
    code = (
        "import sys; from fgvc_jax.data.sources import open_source;"
        "assert 'tensorflow_datasets' not in sys.modules;"
        f"assert len(open_source({f'tfds:tiny@{tmp_path}'!r}).train[2]['image']);"
        "assert 'tensorflow_datasets' in sys.modules;"
        "assert 'tensorflow' not in sys.modules"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_not_prepared_says_how(tmp_path):
    refused(
        f"tfds:caltech_birds2011@{tmp_path}",
        "not prepared in",
        "nothing is downloaded here",
        "tfds.builder('caltech_birds2011', data_dir=DIR).download_and_prepare(file_format=",
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../x", "a/../b", "a b", "/etc", "a/..", "x:1", "ns:x", ""])
def test_names_that_are_none(tmp_path, name):
    refused(f"tfds:{name}@{tmp_path}", "NAME[/CONFIG][:VERSION][@DIR]")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"parts": {"train": PARTS["train"]}}, ["has the splits train: it takes train, and one"]),
        ({"parts": {"test": PARTS["test"]}}, ["has the splits test: it takes train"]),
        ({"parts": {**PARTS, "train": [(1, 1)]}}, ["class 'auk' has no training image"]),
        ({"parts": {**PARTS, "test": [(1, -1)]}}, ["test[0]: label -1 is outside 0..1"]),
        ({"parts": PARTS, "labels": "number"}, ["no dataset of images with one class each"]),
        ({"parts": PARTS, "pair": False}, ["features are", "photo"]),
    ],
)
def test_datasets_of_another_kind(tmp_path, options, words):
    prepare(tmp_path, **options)
    refused(f"tfds:tiny@{tmp_path}", *words)


def test_record_that_breaks_later_is_named(tmp_path):
    prepare(tmp_path, PARTS)
    test = open_source(f"tfds:tiny@{tmp_path}").test
    test.records = [b"not an example"] * 2
    with pytest.raises(UserError, match=r"tfds:tiny test\[1\] cannot be read"):
        test[1]


def test_broken_images_are_told_before_training(tmp_path, monkeypatch):
    """What is kept in no files of its own was not looked at."""
    monkeypatch.setattr(sys.modules[__name__], "png", lambda red: PNG[:50] if red > 20 else PNG)
    PNG = encoded(Image.fromarray(noise(8, 6)))
    prepare(tmp_path, PARTS)
    parts = list(open_source(f"tfds:tiny@{tmp_path}").parts.values())
    how = {"threads": 2, "progress": lambda found, count: found}
    found = whole.look(parts, share=slice(None), **how)
    assert len(found) == 3
    assert all(str(error).startswith("image 'tfds:tiny t") for _, _, error in found)
    assert not whole.look(parts, share=slice(0), **how)


def test_broken_files(tmp_path):
    folder = prepare(tmp_path, PARTS)
    info = folder / "dataset_info.json"
    text = info.read_text()
    (records,) = folder.glob("tiny-train*")
    whole = records.read_bytes()

    info.write_text(json.dumps({**json.loads(text), "fileFormat": "tfrecord"}))
    refused(f"tfds:tiny@{tmp_path}", "is in the format tfrecord", "file_format='array_record'")
    info.write_text("{")
    refused(f"tfds:tiny@{tmp_path}", "/tiny/1.0.0' is not a readable dataset", "prepare it again")
    info.write_text(text)
    (folder / "features.json").rename(folder / "features")
    refused(f"tfds:tiny@{tmp_path}", "/tiny/1.0.0' is not a readable dataset")
    (folder / "features").rename(folder / "features.json")
    records.write_bytes(whole[: len(whole) // 2])
    refused(f"tfds:tiny@{tmp_path}", "tfds:tiny train cannot be read")
    records.unlink()
    refused(f"tfds:tiny@{tmp_path}", "tfds:tiny train cannot be read")
