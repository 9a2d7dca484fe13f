"""Study files: which runs they make, and how their command line is read."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT, tiny

from fgvc_jax import config
from fgvc_jax.config import Experiment, Transfer
from fgvc_jax.study import Study, definition
from fgvc_jax.utils.errors import UserError

STUDIES = sorted((ROOT / "scripts/studies").glob("*.py"))
ROWS = {"none": {"transfer.name": "none"}, "orthogonal": {}}


# -- rows and runs -------------------------------------------------------------------------------


def test_changes_reach_every_level():
    changed = definition.change(
        Experiment(), {"members": 5, "transfer.alpha": 1, "hsd.stages": (4, 5), "data.flip": False}
    )
    assert set(map(str, config.differences(Experiment(), changed))) == {
        "--members 3 -> 5",
        "--data.flip True -> False",
        "--hsd.stages (3, 4, 5) -> (4, 5)",
        "--transfer.alpha 0.5 -> 1",
    }


@pytest.mark.parametrize(
    ("row", "changes", "words"),
    [
        ("a", {"transfer.alfa": 1.0}, "row 'a': there is no field 'transfer.alfa': did you mean"),
        ("a", {"transfers.alpha": 1.0}, "did you mean 'transfer'"),
        ("a", {"members.alpha": 1.0}, "there is no field 'members.alpha'"),
        ("a", {"members": "3"}, "row 'a': members is '3': it must be of type int"),
        ("a", {"data.flip": 1}, "data.flip is 1: it must be of type bool"),
        ("a", {"transfer": 1}, "must be of type Transfer"),
        ("a", {"transfer.name": "parallel"}, "row 'a': --transfer.name is 'parallel'"),
        ("a/b", {}, "row 'a/b': name it with"),
        ("..", {}, "row '..': name it with"),
        ("a", {"seed": 3}, "row 'a' changes seed, which every run of a study has anew"),
        ("a", {"workdir": "x"}, "row 'a' changes workdir, which"),
    ],
)
def test_a_row_that_makes_no_sense_is_named(tmp_path, row, changes, words):
    with pytest.raises(UserError, match=words.replace("(", r"\(")) as error:
        definition.experiments(Study(tiny(), {row: changes}), folder=tmp_path, seeds=1)
    assert "\n" not in str(error.value)


def test_all_rows_of_a_seed_come_before_the_next_seed(tmp_path):
    runs = definition.experiments(Study(tiny(), ROWS), folder=tmp_path, seeds=2)
    assert list(runs) == [("none", 0), ("orthogonal", 0), ("none", 1), ("orthogonal", 1)]
    run = runs["none", 1]
    assert (run.transfer.name, run.seed) == ("none", 1)
    assert Path(run.workdir) == tmp_path / "none" / "1"


def test_all_runs_of_a_study_look_a_frozen_trunk_up_in_one_place(tmp_path):
    def caches(**changes):
        rows = {"a": {}, "b": {f"data.{name}": value for name, value in changes.items()}}
        study = Study(replace(tiny(), network=replace(tiny().network, frozen="stage4")), rows)
        runs = definition.experiments(study, folder=tmp_path, seeds=2)
        return [run.data.cache for run in runs.values()]

    own = str(tmp_path / ".cache")
    assert caches() == [own] * 4
    assert caches(cache="elsewhere") == [own, "elsewhere"] * 2
    runs = definition.experiments(Study(tiny(), ROWS), folder=tmp_path, seeds=1)
    assert {run.data.cache for run in runs.values()} == {""}


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_every_study_makes_valid_and_different_runs(file, tmp_path):
    for chosen in (definition.load_study(str(file)), definition.load_study(str(file), tiny())):
        assert chosen.name == file.stem and chosen.question.endswith((".", "?"))
        runs = definition.experiments(chosen, folder=tmp_path, seeds=1)
        experiments = list(runs.values())
        for i, one in enumerate(experiments):
            assert all(config.differences(one, other) for other in experiments[:i])


def test_a_row_learns_from_another_row_of_its_seed(tmp_path):
    rows = {"a": {}, "b": {"objective": "kd", "kd.teacher": "row:a"}}
    chosen = Study(base=tiny(), rows=rows)
    runs = definition.experiments(chosen, folder=tmp_path, seeds=2)
    for seed in (0, 1):
        assert runs["b", seed].kd.teacher == runs["a", seed].workdir
        assert runs["b", seed].data.cache == str(tmp_path / ".cache")


@pytest.mark.parametrize("name", ["effect", "dose"])
def test_the_effect_is_asked_of_the_loss_alone(name, tmp_path):
    """Its rows differ in the transfer only, so that they share their first member."""
    chosen = definition.load_study(str(ROOT / f"scripts/studies/{name}.py"))
    rows = {
        row: change for row, change in chosen.rows.items() if change.get("network.head") != "kt"
    }
    runs = definition.experiments(replace(chosen, rows=rows), folder=tmp_path, seeds=1)
    plain = {replace(run, transfer=Transfer(), workdir="") for run in runs.values()}
    assert len(plain) == 1
    assert {(e.transfer.name, e.transfer.alpha, e.transfer.weighting) for e in runs.values()} >= {
        ("orthogonal", 0.5, "fixed"),
        ("orthogonal", 0.1, "fixed"),
        ("orthogonal", 0.5, "ratio"),
    }
    assert chosen.seeds >= 8 and chosen.gain == 0.007


def test_the_hsd_study_has_the_rows_that_the_abstract_demands(tmp_path):
    chosen = definition.load_study(str(ROOT / "scripts/studies/hsd.py"))
    runs = definition.experiments(chosen, folder=tmp_path, seeds=1)
    parts = {
        row: (e.objective, e.hsd.kd_weight > 0, e.hsd.sie_weight > 0, e.hsd.fusion, e.hsd.detach,
              e.hsd.hard_labels)
        for (row, _), e in runs.items()
    }  # fmt: skip
    assert parts == {
        "baseline": ("ce", True, True, True, True, False),  # the parts play no role in ce
        "+hard_labels": ("hsd", False, False, False, True, True),
        "+self_distillation": ("hsd", True, False, False, True, False),
        "+sie": ("hsd", True, True, False, True, False),
        "+sie_hinge": ("hsd", True, True, False, True, False),
        "+gdf": ("hsd", True, True, True, True, False),
        "gdf_without_detach": ("hsd", True, True, True, False, False),
    }
    forms = {row: e.hsd.sie for (row, _), e in runs.items()}
    assert forms.pop("+sie_hinge") == "hinge" and set(forms.values()) == {"entropy"}


# -- the command line ----------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my_study.py"
    path.write_text(
        "from fgvc_jax.config import Experiment\n"
        "from fgvc_jax.study import Study\n"
        "BASE = Experiment(members=2)\n"
        "def get_study(base=BASE):\n"
        "    return Study(base, {'a': {}, 'b': {'epochs': 2 * base.epochs}}, seeds=3)\n"
    )
    return path


def test_the_base_can_be_replaced_and_overridden(file):
    chosen, options = definition.parse([str(file)], "study")
    assert chosen.base == Experiment(members=2)
    assert (options.workdir, options.seeds) == ("runs/studies/my_study", 3)
    assert options.ledger == "runs/studies/my_study/ledger.jsonl"
    words = [str(file), "--config", str(ROOT / "configs/tiny.py"), "--base.epochs", "7"]
    chosen, options = definition.parse([*words, "--seeds", "2", "--minutes", "1.5"], "study")
    assert chosen.base == tiny("runs/tiny", epochs=7)
    assert chosen.rows["b"] == {"epochs": 14}
    assert (options.seeds, options.minutes) == (2, 1.5)
    chosen, _ = definition.parse([*words, "--rows", "b"], "study")
    assert (list(chosen.rows), chosen.order) == (["b"], ("a", "b"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the first argument is a study"),
        (["--seeds", "3"], "the first argument is a study"),
        (["nowhere.py"], "study 'nowhere.py' does not exist"),
        (["FILE", "--sed", "3"], "did you mean --seeds"),
        (["FILE", "--seeds", "-1"], "must not be negative"),
        (["FILE", "--minutes", "-1"], "must not be negative"),
        (["FILE", "--rows", "a", "c"], "row 'c' is not among a, b"),
        (["FILE", "--base.epoch", "1"], "did you mean --base.epochs"),
        (["FILE", "--base.seed", "1"], "--base.seed plays no role in a study: --seeds does"),
        (["FILE", "--base.workdir", "x"], "--base.workdir plays no role in a study: --workdir"),
        (["FILE", "--config", "nowhere.py"], "config 'nowhere.py' does not exist"),
    ],
)
def test_a_mistake_on_the_command_line(file, arguments, words):
    with pytest.raises(UserError, match=words):
        definition.parse([str(file) if a == "FILE" else a for a in arguments], "study")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "has no function get_study"),
        ("def get_study(): return 3", "returned no fgvc_jax.study.Study"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_broken_study_file_is_named(tmp_path, text, words):
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(UserError, match=words):
        definition.parse([str(tmp_path / "broken.py")], "study")


def test_help(capsys):
    with pytest.raises(SystemExit) as stop:
        definition.parse(["--help"], "python scripts/study.py FILE")
    assert not stop.value.code
    text = capsys.readouterr().out
    assert "--minutes" in text and "--base.data.source" in text
    assert len(re.findall(r"^  --", text, re.MULTILINE)) == 20 and "--help-all tells of" in text
    with pytest.raises(SystemExit):
        definition.parse(["--help-all"], "python scripts/study.py FILE")
    assert "--base.transfer.alpha" in capsys.readouterr().out


def test_help_of_a_study_loads_no_jax():
    """It took 3 s of processor time."""
    asked = [str(STUDIES[0]), "--help"]
    code = (
        "import contextlib, sys; from fgvc_jax.study import definition\n"
        f"with contextlib.suppress(SystemExit): definition.parse({asked}, 'study')\n"
        "assert not {'jax', 'scipy'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
