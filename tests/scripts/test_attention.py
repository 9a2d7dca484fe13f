"""What members attend to, measured with the masks of drawn birds."""

import json
import os
import runpy
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, tiny

from fgvc_jax.data.sketchbirds import PARTS, SEED, open_sketchbirds
from fgvc_jax.utils.errors import UserError

pytestmark = pytest.mark.slow

attention = SimpleNamespace(**runpy.run_path(str(ROOT / "scripts/attention.py")))
TINY = ROOT / "configs/tiny.py"
IMAGES, SIZE = 20, 8


def parts_and_maps():
    """Two parts per image, one in each half; the attention of two members, one half each."""
    masks = np.zeros((IMAGES, 2, SIZE, SIZE), np.float32)
    masks[:, 0, :, :3] = 1
    masks[:, 1, :, 5:] = 1
    left = np.where(np.arange(SIZE) < 4, 1.0, -1.0) * np.ones((SIZE, SIZE))
    maps = np.stack([np.stack([left] * IMAGES), np.stack([-left] * IMAGES)]).astype(np.float32)
    return masks, maps


def test_members_that_look_at_different_parts_cover_them_together():
    masks, maps = parts_and_maps()
    wanted = np.ones((IMAGES, 2), bool)
    both = attention.part_shares(maps, masks, wanted)
    assert (both["parts_any"], both["parts_single"]) == (1.0, 0.5)
    same = attention.part_shares(maps[[0, 0]], masks, wanted)
    assert (same["parts_any"], same["parts_single"]) == (0.5, 0.5)


def test_only_wanted_parts_count_and_images_without_any_are_left_out():
    masks, maps = parts_and_maps()
    wanted = np.zeros((IMAGES, 2), bool)
    wanted[:5, 0] = True
    shares = attention.part_shares(maps[:1], masks, wanted)
    assert shares["parts_any"] == 1.0
    wanted[5:10, 1] = True
    assert attention.part_shares(maps[:1], masks, wanted)["parts_any"] == 0.5


def test_the_strong_share_needs_more_than_one_deviation():
    masks, maps = parts_and_maps()
    wanted = np.ones((IMAGES, 2), bool)
    assert attention.part_shares(maps, masks, wanted)["parts_any_strong"] == 0.0
    assert attention.part_shares(1.5 * maps, masks, wanted)["parts_any_strong"] == 1.0


def test_chance_pairs_maps_with_other_images():
    """Attention that follows the part from image to image is above chance, a fixed one is not."""
    masks, maps = parts_and_maps()
    odd = np.arange(IMAGES) % 2 == 1
    wanted = np.stack([~odd, odd], axis=1)
    following = maps[:1].copy()
    following[:, odd] *= -1
    shares = attention.part_shares(following, masks, wanted)
    assert (shares["parts_any"], shares["parts_any_chance"]) == (1.0, 0.5)
    fixed = attention.part_shares(maps[:1], masks, wanted)
    assert fixed["parts_any"] == fixed["parts_any_chance"] == 0.5
    assert set(shares) == set(attention.METRICS)


def test_the_masks_are_those_of_the_test_view():
    data = tiny().data
    masks, wanted = attention.defining_masks(data)
    birds = open_sketchbirds(seed=SEED).test
    kept = np.flatnonzero(birds.labels < data.classes)
    assert masks.shape == (len(kept), len(PARTS), data.crop, data.crop)
    assert wanted.shape == (len(kept), len(PARTS)) and wanted.any(axis=1).mean() > 0.9
    wing = PARTS.index("wing")
    for i in range(5):
        # Area shrinks with the square of the resize; the crop cuts off a rim.
        whole = birds.masks(int(kept[i]))["wing"].sum() * (data.resize / 96) ** 2
        assert 0.7 * whole < masks[i, wing].sum() <= 1.05 * whole
    assert not wanted[masks.sum(axis=(2, 3)) < attention.MIN_PIXELS].any()


def test_the_measures_refuse_what_has_no_parts():
    study = str(ROOT / "scripts/studies/kt_attention.py")
    with pytest.raises(UserError, match="only sketchbirds knows the parts"):
        attention.main([study, "--base.data.source", "folder:birds"])


@pytest.mark.exhaustive
def test_from_nothing_to_a_table(tmp_path):
    """scripts/attention.py trains the runs of a study, measures them and adds to the table."""
    study = tmp_path / "short.py"
    study.write_text(
        "from fgvc_jax.study import Study\n"
        f"from fgvc_jax.config import load_config\nBASE = load_config({str(TINY)!r})\n"
        "def get_study(base=BASE):\n    return Study(base, {'kt': {'epochs': 1}}, seeds=1)\n"
    )
    words = [sys.executable, ROOT / "scripts/attention.py", study, "--workdir", tmp_path / "runs"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*map(str, words)], capture_output=True, text=True, env=environment, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert "all 1 runs are finished" in done.stdout
    (run,) = json.loads((tmp_path / "runs/study.json").read_text())["runs"]
    assert all(0 <= run[name] <= 1 for name in attention.METRICS)
    assert run["parts_any"] >= run["parts_single"] >= run["parts_single_strong"]
    results = json.loads((tmp_path / "runs/kt/0/results.json").read_text())
    overlap = results["attention_overlap"]
    assert run["overlap"] == pytest.approx((overlap[0][1] + overlap[1][0]) / 2)
    page = " ".join((tmp_path / "runs/study.md").read_text().split())  # tables are aligned
    assert "| parts_any | kt | 1 |" in page
