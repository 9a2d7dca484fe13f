"""The folder of an export: whole or not there, never over somebody's files."""

import codecs
import json

import numpy as np
import pytest
from exports import CLASSES, selftest, trained

from fgvc_jax.inference.export import writing
from fgvc_jax.utils.errors import UserError


def script(_trained):
    return writing.script([], ['answered = kept["probabilities"]'])


def write(of, path):
    (path / "model").write_text("weights")
    return "# README\n"


GOOD = writing.Format(write, script, lambda trained: "numpy")


@pytest.fixture(scope="module")
def of():
    return trained(members=1)


def test_what_is_in_it(of, tmp_path):
    path = tmp_path / "deep" / "out"
    tried, drift = writing.write(of, path, "onnx", GOOD).splitlines()
    assert tried.endswith("0.0e+00") and drift.startswith("largest difference from the workdir's")
    assert [each.name for each in path.parent.iterdir()] == ["out"]
    assert json.loads((path / "labels.json").read_text()) == list(CLASSES)
    kept = np.load(path / "selftest.npz")
    assert kept["images"].shape == (1, 36, 36, 3) and kept["probabilities"].shape == (1, 6)
    np.testing.assert_allclose(kept["probabilities"], of.inference(kept["images"]), atol=1e-6)
    assert "largest difference" in selftest(path)


def test_a_class_is_a_line_and_can_be_read_back(of, tmp_path):
    writing._write_labels(tmp_path, CLASSES)
    lines = (tmp_path / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert lines[:5] == ["plain", "a\\nline", "back\\\\slash", "d\u202eright", "<script>"]
    for line, name in zip(lines, CLASSES, strict=True):
        plain = line.isascii()
        assert (codecs.decode(line, "unicode_escape") if plain else line) == name


def test_every_kind_of_line_break_is_written_out():
    for code in range(0x3000):
        name = f"a{chr(code)}b"
        assert writing.one_line(name).splitlines() == [writing.one_line(name)]


def test_an_earlier_export_is_replaced(of, tmp_path):
    path = tmp_path / "out"
    writing.write(of, path, "onnx", GOOD)
    (path / "model").write_text("older")
    (tmp_path / "out.old").mkdir()  # somebody's
    assert writing.target(str(path)) == path
    writing.write(of, path, "onnx", GOOD)
    assert (path / "model").read_text() == "weights"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out", "out.old"]


def test_what_somebody_put_beside_an_export_is_not_replaced(of, tmp_path):
    writing.write(of, tmp_path / "out", "onnx", GOOD)
    (tmp_path / "out" / ".git").mkdir()
    with pytest.raises(UserError, match="no earlier export"):
        writing.target(str(tmp_path / "out"))


def test_an_edited_readme_is_not_replaced(of, tmp_path):
    writing.write(of, tmp_path / "out", "onnx", GOOD)
    assert writing.target(str(tmp_path / "out")) == tmp_path / "out"
    (tmp_path / "out" / "README.md").write_text("license: mine")
    with pytest.raises(UserError, match="README.md was edited"):
        writing.target(str(tmp_path / "out"))


def test_a_failure_leaves_nothing(of, tmp_path):
    path = tmp_path / "out"
    writing.write(of, path, "onnx", GOOD)
    before = sorted(each.name for each in path.iterdir())

    def fail(trained, path):
        (path / "half").write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writing.write(of, path, "onnx", GOOD._replace(write=fail))
    wrong = GOOD._replace(
        script=lambda _: writing.script([], ['answered = 1 + kept["probabilities"]'])
    )
    with pytest.raises(UserError, match="does not answer as the members do.*answers otherwise"):
        writing.write(of, path, "onnx", wrong)
    assert [each.name for each in tmp_path.iterdir()] == ["out"]
    assert sorted(each.name for each in path.iterdir()) == before


def test_without_the_runtime_it_says_so(of, tmp_path):
    format = GOOD._replace(runtime=lambda trained: "no_such_runtime")
    assert "no_such_runtime is not installed" in writing.write(of, tmp_path / "a", "x", format)


def test_a_selftest_that_does_not_end_is_stopped_and_told(of, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "LONGEST_TEST", 1)
    format = GOOD._replace(script=lambda _: "import time\ntime.sleep(600)\n")
    said = writing.write(of, tmp_path / "out", "onnx", format)
    assert said.startswith("not known to answer as the members do") and "after 1 s" in said
    assert (tmp_path / "out" / writing.README).exists()


def test_somebody_elses_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for text, words in (
        (str(tmp_path), "no earlier export"),
        (str(tmp_path / "file"), "is a file"),
        (str(tmp_path / "file" / "below"), "cannot be written"),
        ("", "empty"),
        (str(tmp_path / "loop"), "cannot be used"),
    ):
        with pytest.raises(UserError, match=words):
            writing.target(text)
    assert writing.target(str(tmp_path / "empty")) == tmp_path / "empty"
    assert writing.target(str(tmp_path / "new" / "deep")) == tmp_path / "new" / "deep"
    (tmp_path / writing.MARK).write_text("[]")
    with pytest.raises(UserError, match="no earlier export"):
        writing.target(str(tmp_path))
