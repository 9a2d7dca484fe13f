"""A long tail of a dataset whose classes are alike."""

import runpy
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from fgvc_jax.data.sources import open_source
from fgvc_jax.utils.errors import UserError

CUT = SimpleNamespace(**runpy.run_path(str(ROOT / "scripts/cut_tail.py")))


def test_classes_fall_off_from_all_to_a_tenth():
    labels = np.repeat(np.arange(11), 100)
    rows = CUT.kept(labels, 10)
    counts = np.sort(np.bincount(labels[rows]))[::-1]
    np.testing.assert_array_equal(counts, np.round(100 * 10 ** -(np.arange(11) / 10)))
    assert len(set(rows)) == len(rows)
    np.testing.assert_array_equal(rows, CUT.kept(labels, 10))
    assert np.bincount(np.arange(3)[CUT.kept(np.arange(3), 1000)]).tolist() == [1, 1, 1]


def test_files_are_what_they_were_and_the_test_part_is_whole(tmp_path):
    for part, count in (("train", 8), ("test", 3)):
        for name in ("a", "b"):
            (tmp_path / "birds" / part / name).mkdir(parents=True)
            for i in range(count):
                picture = Image.new("RGB", (40, 40), (20 * i, 200 if name == "a" else 0, 9))
                picture.save(tmp_path / "birds" / part / name / f"{i}.png")
    words = ["--source", f"folder:{tmp_path / 'birds'}", "--output", str(tmp_path / "tail")]
    CUT.main([*words, "--factor", "4"])
    cut = open_source(f"folder:{tmp_path / 'tail'}")
    assert sorted(np.bincount(cut.train.labels)) == [2, 8] and len(cut.test) == 6
    before = {file.read_bytes() for file in (tmp_path / "birds").rglob("*.png")}
    assert {file.read_bytes() for file in (tmp_path / "tail").rglob("*.png")} <= before
    with pytest.raises(UserError, match="is there already: remove it, or name another"):
        CUT.main(words)
