"""Smaller exports: judged where images are, refused where they err more, whole or not there."""

import errno
import json
import logging

import pytest
from exports import images, selftest, trained
from photographs import Photographs

from fgvc_jax.inference.export import onnx, precision, writing
from fgvc_jax.inference.export.precision import Smaller
from fgvc_jax.utils.errors import UserError

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from fgvc_jax.inference.export import compared, small  # noqa: E402


@pytest.fixture(scope="module")
def of():
    made = trained(members=1, head="linear", view={"orientation": "exif", "decode": "exact"})
    _ = made.drift  # compiled once
    return made


def smaller(kind, tolerance=1.0):
    part = Photographs()
    return Smaller(kind, tolerance, part, "validation", part)


@pytest.mark.parametrize("kind", ["float16", "int8"])
def test_the_folder_tells_what_it_costs_and_tries_itself(of, tmp_path, caplog, kind):
    out = tmp_path / "out"
    with caplog.at_level(logging.INFO):
        writing.write(of, out, "onnx", onnx.format_of(smaller=smaller(kind)))
    readme = (out / "README.md").read_text()
    assert f"computes in {kind}" in readme and "## Precision" in readme
    assert "| float32 " in readme and "On 3 validation images" in readme
    assert f"{kind}: " in caplog.text
    assert json.loads((out / "export.json").read_text())["precision"] == kind
    assert f"difference < {precision.WITHIN[kind]}" in (out / "selftest.py").read_text()
    assert "largest difference" in selftest(out)
    assert {each.name for each in out.iterdir()} == {
        "README.md", "export.json", "labels.json", "labels.txt", "model.onnx", "selftest.npz",
        "selftest.py",
    }  # fmt: skip
    answered = precision.answers_of_graph(out, images(of, 2))
    assert answered.shape == (2, len(of.model.classes))


def test_what_errs_more_is_refused_and_leaves_nothing(of, tmp_path, monkeypatch):
    real = compared.Comparison.of.__func__

    def worse(cls, *arguments):
        found = real(cls, *arguments)
        return found._replace(plain=found.plain._replace(accuracy=found.small.accuracy + 0.02))

    monkeypatch.setattr(compared.Comparison, "of", classmethod(worse))
    with pytest.raises(UserError, match="--tolerance is 0.01; nothing was written") as told:
        writing.write(of, tmp_path / "out", "onnx", onnx.format_of(smaller=smaller("int8", 0.01)))
    assert "\n" not in str(told.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_an_interrupted_one_leaves_nothing(of, tmp_path, monkeypatch, error):
    def stopped(*_):
        raise error

    monkeypatch.setattr(small, "to_float16", stopped)
    with pytest.raises(type(error)):
        writing.write(of, tmp_path / "out", "onnx", onnx.format_of(smaller=smaller("float16")))
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_too_full_is_told_before(of, tmp_path, monkeypatch):
    monkeypatch.setattr("fgvc_jax.workdir.space.free_space", lambda _: 1000)
    with pytest.raises(UserError, match="no space left on the disk"):
        onnx.write(of, tmp_path, smaller=smaller("float16"))
    assert not list(tmp_path.iterdir())


def test_without_images_half_precision_is_not_judged(of, tmp_path, caplog):
    unjudged = Smaller("float16", 0.01, missing="no folder 'birds'")
    text = onnx.write(of, tmp_path, smaller=unjudged)
    assert "It was not judged" in text and "not judged: no folder 'birds'" in caplog.text


def test_more_than_a_file_holds_is_refused(of, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "LARGEST", 1000)
    with pytest.raises(UserError, match="--precision int8 is for members of at most 2 GiB"):
        onnx.write(of, tmp_path, smaller=smaller("int8"))


class Run:
    def record(self):
        return self

    selects = True


def test_integers_need_training_images(monkeypatch):
    def gone(_workdir, name):
        raise UserError("no folder 'birds'")

    monkeypatch.setattr(precision.own_images, "part", gone)
    with pytest.raises(UserError, match="does not keep .no folder 'birds'.: put them back"):
        Smaller.of(Run(), "int8", 0.01)
    assert Smaller.of(Run(), "float16", 0.01).missing == "no folder 'birds'"


@pytest.mark.parametrize(("selects", "part"), [(True, "validation"), (False, "test")])
def test_it_is_judged_on_the_validation_part_where_there_is_one(monkeypatch, selects, part):
    monkeypatch.setattr(Run, "selects", selects)
    monkeypatch.setattr(precision.own_images, "part", lambda _workdir, name: name)
    found = Smaller.of(Run(), "int8", 0.02)
    assert (found.training, found.part, found.judged, found.tolerance) == (
        "train", part, part, 0.02,
    )  # fmt: skip


def test_it_needs_onnxruntime(monkeypatch):
    monkeypatch.setattr(precision.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install onnxruntime"):
        Smaller.of(Run(), "float16", 0.01)
