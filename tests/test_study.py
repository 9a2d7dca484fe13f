"""Studies: which runs they make, how they go on after an interruption, and the statistics."""

import json
import runpy
import signal
import statistics
import time
from pathlib import Path

import pytest
from conftest import ROOT, tiny
from scipy import stats

from fgvc_jax import config, study, train
from fgvc_jax.config import Experiment
from fgvc_jax.errors import Interrupted, UserError
from fgvc_jax.study import Options, Study
from fgvc_jax.workdir import Workdir, write_json

STUDIES = sorted((ROOT / "scripts/studies").glob("*.py"))
ROWS = {"none": {"transfer.name": "none"}, "orthogonal": {}}


# -- rows and runs -------------------------------------------------------------------------------


def test_changes_reach_every_level():
    changed = study.change(
        Experiment(), {"members": 5, "transfer.alpha": 1, "hsd.stages": (4, 5), "data.flip": False}
    )
    assert config.differences(Experiment(), changed) == [
        "--members 3 -> 5",
        "--data.flip True -> False",
        "--hsd.stages (3, 4, 5) -> (4, 5)",
        "--transfer.alpha 0.5 -> 1",
    ]


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
    ],
)
def test_a_row_that_makes_no_sense_is_named(tmp_path, row, changes, words):
    with pytest.raises(UserError, match=words.replace("(", r"\(")) as error:
        study.experiments(Study(tiny(), {row: changes}), folder=tmp_path, seeds=1)
    assert "\n" not in str(error.value)


def test_all_rows_of_a_seed_come_before_the_next_seed(tmp_path):
    runs = study.experiments(Study(tiny(), ROWS), folder=tmp_path, seeds=2)
    assert list(runs) == [("none", 0), ("orthogonal", 0), ("none", 1), ("orthogonal", 1)]
    run = runs["none", 1]
    assert (run.transfer.name, run.seed) == ("none", 1)
    assert Path(run.workdir) == tmp_path / "none" / "1"


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_every_study_makes_valid_and_different_runs(file, tmp_path):
    get_study = study.load(str(file))
    for chosen in (get_study(), get_study(tiny())):
        assert isinstance(chosen, Study) and chosen.base in (get_study().base, tiny())
        runs = study.experiments(chosen, folder=tmp_path, seeds=1)
        experiments = list(runs.values())
        for i, one in enumerate(experiments):
            assert all(config.differences(one, other) for other in experiments[:i])


def test_the_hsd_study_has_the_rows_that_the_abstract_demands(tmp_path):
    chosen = study.load(str(ROOT / "scripts/studies/hsd.py"))()
    runs = study.experiments(chosen, folder=tmp_path, seeds=1)
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
        "+gdf": ("hsd", True, True, True, True, False),
        "gdf_without_detach": ("hsd", True, True, True, False, False),
    }


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
    chosen, options = study.parse([str(file)], "study")
    assert chosen.base == Experiment(members=2)
    assert (options.workdir, options.seeds) == ("runs/studies/my_study", 3)
    words = [str(file), "--config", str(ROOT / "configs/tiny.py"), "--base.epochs", "7"]
    chosen, options = study.parse([*words, "--seeds", "2", "--minutes", "1.5"], "study")
    assert chosen.base == tiny("runs/tiny", epochs=7)
    assert chosen.rows["b"] == {"epochs": 14}
    assert (options.seeds, options.minutes) == (2, 1.5)
    chosen, _ = study.parse([*words, "--rows", "b"], "study")
    assert list(chosen.rows) == ["b"]


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
        (["FILE", "--config", "nowhere.py"], "config file 'nowhere.py' does not exist"),
    ],
)
def test_a_mistake_on_the_command_line(file, arguments, words):
    with pytest.raises(UserError, match=words):
        study.parse([str(file) if a == "FILE" else a for a in arguments], "study")


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
        study.parse([str(tmp_path / "broken.py")], "study")


def test_help(capsys):
    with pytest.raises(SystemExit) as stop:
        study.parse(["--help"], "python scripts/study.py FILE")
    assert not stop.value.code
    text = capsys.readouterr().out
    assert "--minutes" in text and "--base.data.source" in text


# -- running -------------------------------------------------------------------------------------


def results_of(experiment, accuracy):
    count = experiment.members
    return {
        "members": [{"final": accuracy, "selected": None, "best_on_test": 1.0}] * count,
        "ensemble": [accuracy + n / 100 for n in range(count)],
        "attention_overlap": [[0.5, 0.25], [0.35, 0.5]],
    }


class Trainer:
    """Stands for fgvc_jax.train.train: claims, then leaves results, or does what it is told to."""

    def __init__(self):
        self.trained = []
        self.instead = {}

    def __call__(self, experiment, workdir):
        key = f"{workdir.path.parent.name}/{experiment.seed}"
        workdir.claim(experiment)
        if key in self.instead:
            self.instead[key]()
        self.trained.append(key)
        write_json(workdir.results, results_of(experiment, 0.5 + experiment.seed / 10))


@pytest.fixture
def trainer(monkeypatch):
    trainer = Trainer()
    monkeypatch.setattr(train, "train", trainer)
    return trainer


def carry_out(folder, *, seeds=2, minutes=60.0, metrics=("ensemble",), base=None):
    base = base or tiny()
    options = Options(base=base, workdir=str(folder), seeds=seeds, minutes=minutes, metrics=metrics)
    study.carry_out(Study(base, ROWS), options, measure=study.measure)
    return json.loads((folder / "study.json").read_text())


def test_what_is_finished_is_not_trained_again(tmp_path, trainer, capsys):
    saved = carry_out(tmp_path / "s", seeds=1)
    assert trainer.trained == ["none/0", "orthogonal/0"]
    assert [(run["row"], run["seed"]) for run in saved["runs"]] == [("none", 0), ("orthogonal", 0)]
    carry_out(tmp_path / "s", seeds=2)
    assert trainer.trained == ["none/0", "orthogonal/0", "none/1", "orthogonal/1"]
    out = capsys.readouterr().out
    assert "all 4 runs are finished" in out
    assert (tmp_path / "s/study.md").read_text() in out
    assert "- orthogonal: the base itself" in out


def test_runs_that_differ_in_transfer_share_the_first_member(tmp_path):
    """It is the same network, trained once; another seed has another."""
    base = tiny()
    rows = {**ROWS, "another_rate": {"optimizer.learning_rate": 0.01}}
    runs = study.experiments(Study(base, rows), folder=tmp_path, seeds=2)
    first = Workdir(runs["none", 0].workdir)
    first.claim(runs["none", 0])
    (first.final(1) / "params").mkdir(parents=True)
    (first.member(1) / "checkpoints").mkdir()
    (first.member(1) / "metrics.jsonl").write_text("lines")
    for run in runs.values():
        study._share_first_member(run, runs.values())
    has = [key for key, run in runs.items() if Workdir(run.workdir).member(1).exists()]
    assert has == [("none", 0), ("orthogonal", 0)]
    copied = Workdir(runs["orthogonal", 0].workdir)
    assert copied.experiment() == runs["orthogonal", 0]
    assert (copied.member(1) / "metrics.jsonl").read_text() == "lines"
    assert {path.name for path in copied.member(1).iterdir()} == {"final", "metrics.jsonl"}

    (copied.member(1) / "metrics.jsonl").write_text("its own")
    study._share_first_member(runs["orthogonal", 0], runs.values())
    assert (copied.member(1) / "metrics.jsonl").read_text() == "its own"


def test_a_shared_first_member_is_continued_from(tmp_path):
    """Nothing is left to train of it, and the ensembles start with the same accuracy."""
    base = tiny(epochs=1)
    options = Options(base=base, workdir=str(tmp_path), seeds=1, metrics=("ensemble", "single_1"))
    study.carry_out(Study(base, ROWS), options, measure=study.measure)
    runs = json.loads((tmp_path / "study.json").read_text())["runs"]
    assert runs[0]["single_1"] == runs[1]["single_1"]
    first, second = (
        {
            path.name: path.read_bytes()
            for path in (tmp_path / row).rglob("01/final/**/*")
            if path.is_file()
        }
        for row in ROWS
    )
    assert first == second


def test_without_time_it_reports_and_trains_nothing(tmp_path, trainer, capsys):
    carry_out(tmp_path / "s", seeds=1)
    carry_out(tmp_path / "s", seeds=3, minutes=0)
    assert len(trainer.trained) == 2
    assert "left: 4 of 6 runs (none: seeds 1 2; orthogonal: seeds 1 2)" in capsys.readouterr().out


def test_the_time_limit_stops_as_sigterm_does(tmp_path, trainer, capsys, monkeypatch):
    def stop(number, _frame):
        raise Interrupted(number, "member 1/2 is saved at step 3 of 8")

    before = signal.signal(signal.SIGTERM, stop)
    slept = []
    trainer.instead["orthogonal/0"] = lambda: slept.append(time.sleep(60))
    try:
        carry_out(tmp_path / "s", minutes=3 / 60)
        assert not slept  # it was woken up
        out = capsys.readouterr().out
        assert "the time is up: member 1/2 is saved at step 3 of 8" in out
        assert "left: 3 of 4 runs (orthogonal: seeds 0 1; none: seeds 1)" in out
        assert trainer.trained == ["none/0"]
        trainer.instead.clear()
        carry_out(tmp_path / "s")
        assert len(trainer.trained) == 4
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_from_outside_is_passed_on(tmp_path, trainer):
    def interrupt():
        raise Interrupted(signal.SIGTERM, "saved")

    trainer.instead["orthogonal/0"] = interrupt
    with pytest.raises(Interrupted):
        carry_out(tmp_path / "s")
    assert trainer.trained == ["none/0"]


def test_a_run_that_fails_does_not_stop_the_others(tmp_path, trainer):
    def diverge():
        raise UserError("loss is not finite at step 3")

    trainer.instead["none/0"] = diverge
    with pytest.raises(UserError, match="1 runs failed; none, seed 0: loss is not finite"):
        carry_out(tmp_path / "s")
    assert trainer.trained == ["orthogonal/0", "none/1", "orthogonal/1"]
    saved = json.loads((tmp_path / "s/study.json").read_text())
    assert saved["summary"]["ensemble"]["orthogonal"]["difference"]["n"] == 1


def test_a_mistake_that_shows_before_the_start_is_raised(tmp_path, monkeypatch):
    def refuse(_experiment, _workdir):
        raise UserError("dataset folder 'x' does not exist")

    monkeypatch.setattr(train, "train", refuse)
    with pytest.raises(UserError, match="^dataset folder"):
        carry_out(tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_runs_of_another_experiment_are_refused(tmp_path, trainer):
    carry_out(tmp_path / "s", seeds=1)
    with pytest.raises(UserError, match="another experiment .--epochs 2 -> 5"):
        carry_out(tmp_path / "s", seeds=1, base=tiny(epochs=5))
    assert len(trainer.trained) == 2


def test_an_unknown_metric_is_named(tmp_path, trainer):
    with pytest.raises(UserError, match="metric 'ensembl' is not among ensemble, single, "):
        carry_out(tmp_path / "s", metrics=("ensembl",))


# -- metrics and statistics ----------------------------------------------------------------------


def test_metrics_of_results():
    results = {
        "members": [
            {"final": 0.5, "best_on_test": 0.9, "test_accuracy_fusion": 0.6},
            {"final": 0.7, "best_on_test": 0.9, "test_accuracy_fusion": 0.8},
        ],
        "ensemble": [0.5, 0.75],
        "attention_overlap": [[0.9, 0.2], [0.4, 0.9]],
    }
    assert study.measure(Experiment(), results) == pytest.approx(
        {
            "ensemble": 0.75, "single": 0.6, "ensemble_1": 0.5, "ensemble_2": 0.75,
            "single_1": 0.5, "single_2": 0.7, "overlap": 0.3,
            "head_logits": 0.6, "head_fusion": 0.7,
        }
    )  # fmt: skip
    alone = {"members": [{"final": 0.5}], "ensemble": [0.5], "attention_overlap": [[0.9]]}
    assert "overlap" not in study.measure(Experiment(), alone)


def test_a_row_by_hand():
    cell = study.describe([1.0, 2.0, 3.0])
    # t(0.975, 2 degrees of freedom) = 4.302652730; sd = 1, so half = 4.302652730 / sqrt(3).
    assert (cell["n"], cell["mean"], cell["sd"]) == (3, 2.0, 1.0)
    assert cell["interval"] == pytest.approx([2 - 2.484137712, 2 + 2.484137712])
    assert study.describe([0.5]) == {"n": 1, "mean": 0.5, "sd": None, "interval": None}


def test_a_difference_equals_scipys_paired_test():
    one = {0: 0.71, 1: 0.74, 2: 0.69, 3: 0.75, 4: 0.73}
    other = {0: 0.70, 1: 0.71, 2: 0.70, 3: 0.72, 4: 0.70}
    expected = stats.ttest_rel(list(one.values()), list(other.values()))
    difference = study.paired(one, other)
    assert difference["p"] == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    assert difference["interval"] == pytest.approx([low, high])
    assert difference["mean"] == pytest.approx(0.018)


def test_only_seeds_that_both_have_are_paired():
    one, other = {0: 1.0, 1: 2.0, 5: 9.0}, {1: 1.5, 0: 1.0, 7: 0.0}
    difference = study.paired(one, other)
    assert (difference["n"], difference["mean"]) == (2, 0.25)
    assert study.paired({0: 1.0}, {1: 1.0}) is None
    single = study.paired({0: 1.0}, {0: 0.5})
    assert single == {"n": 1, "mean": 0.5, "interval": None, "p": None}


def test_equal_rows_have_no_p():
    same = study.paired({0: 0.5, 1: 0.6}, {0: 0.5, 1: 0.6})
    assert same == {"n": 2, "mean": 0.0, "interval": [0.0, 0.0], "p": None}


def test_the_table():
    values = {
        ("a", 0): {"ensemble": 0.50, "overlap": 0.4},
        ("a", 1): {"ensemble": 0.60, "overlap": 0.4},
        ("b", 0): {"ensemble": 0.51, "head_logits": 0.4, "head_fusion": 0.5},
        ("b", 1): {"ensemble": 0.63, "head_logits": 0.4, "head_fusion": 0.6},
    }
    summary = study.summarize(values, ["a", "b", "untrained"])
    shown = study.shown(summary, ["ensemble"])
    assert shown == ["ensemble", "overlap", "head_logits", "head_fusion"]
    lines = [" ".join(line.split()) for line in study.table(summary, shown, first="a").splitlines()]
    assert lines[0].startswith("| metric | row | n | mean | sd | 95 % interval | minus a |")
    assert lines[2] == "| ensemble | a | 2 | 55.00 | 7.07 | -8.53 to 118.53 | - | - | - |"
    sd = statistics.stdev([0.01, 0.03])
    p = 2 * stats.t.sf(0.02 / (sd / 2**0.5), 1)
    ours = "| ensemble | b | 2 | 57.00 | 8.49 | -19.24 to 133.24 "
    assert lines[3] == f"{ours}| +2.00 | -10.71 to +14.71 | {p:.3f} |"
    assert lines[4] == "| overlap | a | 2 | 0.400 | 0.000 | 0.400 to 0.400 | - | - | - |"
    assert lines[6].startswith("| head_fusion | b | 2 | 55.00 |") and lines[6].endswith("| - |")
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 7
    one_head = study.summarize({("a", 0): {"ensemble": 0.5, "head_logits": 0.5}}, ["a"])
    assert study.shown(one_head, ["ensemble"]) == ["ensemble"]


def test_markdown_is_aligned_as_text():
    rows = [["a long name", "1"], ["b", "12.25"]]
    assert study.markdown_table(["row", "%"], rows).splitlines() == [
        "| row         |     % |",
        "| ----------- | ----: |",
        "| a long name |     1 |",
        "| b           | 12.25 |",
    ]
    assert study.markdown_table(["row", "%"], []).count("\n") == 1


def test_small_p_values_are_not_zero():
    assert [study.written_p(p) for p in (None, 0.0004, 0.0125)] == ["-", "< 0.001", "0.013"]


def test_the_command_is_the_machinery():
    command = runpy.run_path(str(ROOT / "scripts/study.py"))
    with pytest.raises(UserError, match="the first argument is a study"):
        command["main"]([])
