"""The page of pretrained networks says what is so (scripts/trunks.py)."""

import runpy

import pytest
from conftest import ROOT

from fgvc_jax import networks
from fgvc_jax.data.augment import MEAN_STD

script = runpy.run_path(str(ROOT / "scripts/trunks.py"))
PAGE = (ROOT / "docs/reference/trunks.md").read_text()


def test_every_network_is_in_the_table_with_its_normalisation():
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert header == list(script["HEADER"])
    listed = {row[0].strip("`"): row for row in rows}
    assert listed.keys() == script["TRUNKS"].keys()
    tests = {name for name in networks.NAMES if name.endswith("_micro")}
    assert listed.keys() | set(script["UNLISTED"]) | tests == set(networks.NAMES)
    for name, row in listed.items():
        assert row[4] == networks.normalization(name) and row[4] in MEAN_STD
        known = script["TRUNKS"][name]
        assert row[1:4] == [known.use, known.weights, known.terms]
        assert row[-1] == (f"{known.probe:.1f}" if known.probe else "-")
        assert row[-2] == (f"{known.speed:.2g}" if known.speed else "-")


def test_the_size_of_a_network_is_counted():
    """timm's vit_small_patch16_224 without a classifier."""
    assert script["parameters"]("vit_s16", 224) == 21_665_664
    (row,) = (line for line in PAGE.splitlines() if line.startswith("| `vit_s16`"))
    assert "21.7" in row.split()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_table_is_as_it_would_be_written_now():
    assert script["with_table"](PAGE) == PAGE
