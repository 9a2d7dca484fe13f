"""Black bars are cut off, black birds are not."""

import runpy
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from fgvc_jax.data.images import read
from fgvc_jax.data.sources import open_source
from fgvc_jax.utils.errors import UserError

CUT = SimpleNamespace(**runpy.run_path(str(ROOT / "scripts/cut_bars.py")))


def test_only_what_is_black_at_the_edges_is_cut():
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[4:16] = 90
    pixels[7:9, 10:20] = 0  # a black bird
    pixels[2] = 20  # what JPEG makes of the bar
    np.testing.assert_array_equal(CUT.inside(pixels), pixels[4:16])
    turned = pixels.swapaxes(0, 1)
    np.testing.assert_array_equal(CUT.inside(turned), turned[:, 4:16])
    night = np.zeros((5, 6, 3), np.uint8)
    assert CUT.inside(night).shape == night.shape


def test_sets_have_disjoint_classes_and_all_images(tmp_path):
    letterboxed = np.zeros((20, 20, 3), np.uint8)
    letterboxed[4:16] = 90
    for part, count in (("train", 3), ("test", 2)):
        for name in "abcde":
            folder = tmp_path / "birds" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                letterboxed[5, 5] = number, ord(name), count
                Image.fromarray(letterboxed).save(folder / f"{number}.png")
    CUT.main(["--source", f"folder:{tmp_path / 'birds'}", "--output", str(tmp_path / "cut"),
              "--sets", "2"])  # fmt: skip
    sets = [open_source(f"folder:{tmp_path / 'cut' / str(n)}") for n in (1, 2)]
    assert [each.classes for each in sets] == [("a", "c", "e"), ("b", "d")]
    assert [(len(each.train), len(each.test)) for each in sets] == [(9, 6), (6, 4)]
    assert read(sets[0].train[0], orientation="stored").size == (20, 12)
    with pytest.raises(UserError, match="is there already"):
        CUT.main(["--output", str(tmp_path / "cut")])
