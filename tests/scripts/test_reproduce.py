"""KT's published tables beside ours."""

import runpy
from dataclasses import replace

import pytest
from conftest import ROOT, tiny

from fgvc_jax.config import load_config
from fgvc_jax.evaluation import statistics
from fgvc_jax.study import definition

reproduce = runpy.run_path(str(ROOT / "scripts/reproduce.py"))
chosen = definition.load_study(str(reproduce["STUDY"]), tiny(members=2))


def page(values):
    summary = statistics.summarize(values, chosen.members)
    return reproduce["page"](chosen, summary, name="runs", metrics=("ensemble_2",))


def test_tables_pair_what_the_publication_compares():
    values = {
        ("independent", 0): {"ensemble_1": 0.5, "ensemble_2": 0.60, "single_2": 0.4},
        ("independent", 1): {"ensemble_1": 0.6, "ensemble_2": 0.62, "single_2": 0.4},
        ("kt", 0): {"ensemble_1": 0.5, "ensemble_2": 0.62, "single_2": 0.3},
        ("kt", 1): {"ensemble_1": 0.6, "ensemble_2": 0.66, "single_2": 0.3},
        ("alpha=0.1", 0): {"ensemble_1": 0.5, "ensemble_2": 0.63},
    }
    lines = [" ".join(line.split()) for line in page(values).splitlines()]
    ensembles = [line for line in lines if line.startswith("| 2 | 87.8 |")]
    difference = statistics.paired({0: 0.62, 1: 0.66}, {0: 0.60, 1: 0.62})
    low, high = (f"{100 * end:+.2f}" for end in difference["interval"])
    assert len(ensembles) == 1 and "| 61.00 [48.29 to 73.71] | 88.5 | 64.00 [" in ensembles[0]
    assert ensembles[0].endswith(f"| +0.7 | +3.00 [{low} to {high}] | 2 | {difference['p']:.3f} |")
    assert "| 3 | 88.2 | - | 88.6 | - | +0.4 | - | - | - |" in lines  # not trained
    singles = [line for line in lines if line.startswith("| 2 | 86.8 | 40.00 |")]
    assert len(singles) == 1
    assert "| 86.1 | 30.00 | -0.7 | -10.00 | 2 | - |" in singles[0]
    assert "| 0.1 | 87.9 | 63.00 | +0.7 | +3.00 | 1 | - |" in lines


def test_every_deviation_from_the_recipe_is_named():
    text = page({})
    assert "- --data.source 'cub:data/CUB_200_2011' -> 'sketchbirds'\n" in text
    assert "- --network.name 'resnet50' -> " in text
    assert "the epoch with the best test accuracy" in text
    assert "- members of KT see the same view of an image in an epoch" in text
    base = replace(chosen.base, data=replace(chosen.base.data, view_sharing="own"))
    assert "same view" not in " ".join(reproduce["deviations"](base))
    assert "running statistics of batch norm" not in text
    published = load_config(reproduce["RECIPE"])
    assert "running statistics of batch norm" in reproduce["deviations"](published)[-1]


def test_the_command_reports_without_training(tmp_path, monkeypatch, capsys):
    words = ["--config", "configs/tiny.py", "--base.members", "3", "--minutes", "0"]
    monkeypatch.chdir(ROOT)
    reproduce["main"]([*words, "--workdir", str(tmp_path / "all")])
    out = capsys.readouterr().out
    assert "- --members 5 -> 3\n" in out and "left: 18 of 18 runs" in out
    reproduce["main"]([*words, "--workdir", str(tmp_path / "two"), "--rows", "independent", "kt"])
    assert "left: 6 of 6 runs" in capsys.readouterr().out


def test_the_recipe_is_the_default(tmp_path, capsys):
    reproduce["main"](["--minutes", "0", "--workdir", str(tmp_path)])
    out = capsys.readouterr().out
    assert "recipe:\n- the accuracy of the last epoch" in out
    assert load_config(reproduce["RECIPE"]).members == 5


def test_help_exits_cleanly(capsys):
    with pytest.raises(SystemExit) as stop:
        reproduce["main"](["--help"])
    assert not stop.value.code and "--minutes" in capsys.readouterr().out
