"""Studies: what is trained, how they go on after an interruption, and what is kept."""

import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, tiny

from fgvc_jax.config import Network
from fgvc_jax.study import Study, bits, definition, ledger, runner
from fgvc_jax.study.definition import Options
from fgvc_jax.study.ledger import Correctness
from fgvc_jax.training import members
from fgvc_jax.utils.errors import Interrupted, InUse, UserError
from fgvc_jax.workdir import journal, locks, remembered
from fgvc_jax.workdir.folder import Workdir
from fgvc_jax.workdir.record import Record
from fgvc_jax.workdir.storage import write_json

pytestmark = pytest.mark.slow

DIGESTS = {"data": "d", "weights": None}
ROWS = {"none": {"transfer.name": "none"}, "orthogonal": {}}


def results_of(experiment, accuracy):
    count = experiment.members
    return {
        "members": [{"final": accuracy, "selected": None, "best_on_test": 1.0}] * count,
        "ensemble": [accuracy + n / 100 for n in range(count)],
        "attention_overlap": [[0.5, 0.25], [0.35, 0.5]],
        "environment": {"dtype": "float32", "devices": ["cpu: cpu"]},
        "images": {"test": 1000},
        "digests": DIGESTS,
    }


class Trainer:
    """Stands for fgvc_jax.train.train: claims, then leaves results, or does what it is told to."""

    def __init__(self):
        self.trained = []
        self.instead = {}

    def __call__(self, experiment, lend, *, compared):
        assert compared
        workdir = Workdir(experiment.workdir)
        key = f"{workdir.path.parent.name}/{experiment.seed}"
        claim(workdir, experiment)
        if key in self.instead:
            self.instead[key]()
        self.trained.append(key)
        for number in range(1, experiment.members + 1):
            workdir.final(number).mkdir(parents=True, exist_ok=True)
        write_json(workdir.results, results_of(experiment, 0.5 + experiment.seed / 10))


def claim(workdir, experiment):
    workdir.claim(Record(experiment, ("a", "b"), DIGESTS, False))


@pytest.fixture
def trainer(monkeypatch):
    trainer = Trainer()
    monkeypatch.setattr(members, "train", trainer)
    return trainer


def no_bits(_workdir):
    """What is said of single images of a run that kept no answers."""


def carry_out(
    folder, *, seeds=2, minutes=60.0, metrics=("ensemble",), base=None, judge=no_bits, **others
):
    base = base or tiny()
    options = Options(
        base=base, workdir=str(folder), seeds=seeds, minutes=minutes, metrics=metrics,
        **{"ledger": str(folder / "ledger.jsonl")} | others,
    )  # fmt: skip
    runner.carry_out(Study(base, ROWS, name="rows"), options, judge=judge)
    return saved_in(folder)


def saved_in(folder):
    return json.loads((folder / "study.json").read_text())


def test_a_row_may_give_its_members_networks(tmp_path, trainer):
    names = "resnet_micro", "vit_micro"
    networks = tuple(Network(name=name, head="linear") for name in names)
    rows = {
        "equal": {"members": 2},
        "different": {"members": 2, "network": Network(), "networks": networks},
    }
    base = tiny(network=networks[0])
    lines, folder = str(tmp_path / "ledger.jsonl"), str(tmp_path / "s")
    options = Options(base=base, workdir=folder, seeds=1, ledger=lines)
    runner.carry_out(Study(base, rows, name="rows"), options, judge=no_bits)
    assert trainer.trained == ["equal/0", "different/0"]
    kept = saved_in(tmp_path / "s")["rows"]["different"]["networks"]
    assert [network["name"] for network in kept] == list(names)
    assert "networks = (resnet_micro, vit_micro)" in (tmp_path / "s/study.md").read_text()


def test_what_is_finished_is_not_trained_again(tmp_path, trainer, capsys):
    saved = carry_out(tmp_path / "s", seeds=1)
    assert trainer.trained == ["none/0", "orthogonal/0"]
    assert [(run["row"], run["seed"]) for run in saved["runs"]] == [("none", 0), ("orthogonal", 0)]
    carry_out(tmp_path / "s", seeds=2)
    assert trainer.trained == ["none/0", "orthogonal/0", "none/1", "orthogonal/1"]
    out = capsys.readouterr().out
    assert "all 4 runs are finished" in out
    assert (tmp_path / "s/study.md").read_text() in out
    assert "- orthogonal, 2 members: the base itself" in out


def test_a_student_comes_when_its_teacher_is_finished(tmp_path, trainer):
    """One that fails keeps nobody else from being trained."""
    rows = {
        "student": {"objective": "kd", "kd.teacher": "row:teacher", "transfer.name": "none"},
        "teacher": {},
    }
    options = Options(
        base=tiny(), workdir=str(tmp_path), seeds=2, metrics=("ensemble",),
        ledger=str(tmp_path / "ledger.jsonl"),
    )  # fmt: skip

    def fail():
        raise UserError("member 1: the loss is not finite")

    trainer.instead["teacher/0"] = fail
    with pytest.raises(UserError, match="1 runs failed; teacher, seed 0"):
        runner.carry_out(Study(tiny(), rows, name="rows"), options, judge=no_bits)
    assert trainer.trained == ["teacher/1", "student/1"]
    assert {"row": "student", "seed": 0} in saved_in(tmp_path)["missing"]


def test_a_member_is_lent_by_whoever_trained_the_same(tmp_path):
    """What is the same, its training digest says."""
    runs = definition.experiments(Study(tiny(), ROWS), folder=tmp_path, seeds=2)
    lend = runner.lender(runs.values(), runs["none", 0])
    assert lend("abc") is None
    theirs = Workdir(runs["orthogonal", 1].workdir)
    for number, training in ((1, "abc"), (2, "def")):
        theirs.final(number).mkdir(parents=True)
        write_json(theirs.member(number) / "member.json", {"training": training})
    assert lend("abc") == theirs.member(1)
    assert lend("def") == theirs.member(2)
    assert lend("another") is None
    theirs.final(1).rename(theirs.member(1) / "unfinished")
    assert lend("abc") is None


def test_a_member_that_an_earlier_run_is_training_is_waited_for(tmp_path, monkeypatch):
    """A later one is not, since it may wait for ours; nor one whose process is gone."""
    runs = definition.experiments(Study(tiny(), ROWS), folder=tmp_path, seeds=1)
    first, second = (Workdir(run.workdir) for run in runs.values())
    for workdir in (first, second):
        write_json(workdir.member(1) / "member.json", {"training": "abc"})
    looks = []

    def look(_seconds):
        looks.append(1)
        if len(looks) == 2:
            first.final(1).mkdir()

    with locks.lock(first.path), locks.lock(second.path):
        assert runner.lender(runs.values(), runs["none", 0])("abc") is None
        monkeypatch.setattr(runner, "time", SimpleNamespace(sleep=look))
        assert runner.lender(runs.values(), runs["orthogonal", 0])("abc") == first.member(1)
    assert len(looks) == 2
    first.final(1).rmdir()
    assert runner.lender(runs.values(), runs["orthogonal", 0])("abc") is None


def test_the_first_member_is_shared_where_it_is_the_same(tmp_path):
    """Whatever the transfer; but one view in all epochs is another training than one for each.
    Nobody asks a run of a study for neighbours, so that no training photographs are kept."""
    rows = {**ROWS, "one_view": {"data.views": 1, "members": 1}}
    options = Options(
        base=tiny(), workdir=str(tmp_path), seeds=1, metrics=("single_1",),
        ledger=str(tmp_path / "ledger.jsonl"),
    )  # fmt: skip
    runner.carry_out(Study(tiny(), rows), options)
    finals, losses = {}, {}
    for row in rows:
        folder = tmp_path / row / "0/members/01"
        finals[row] = {f.name: f.read_bytes() for f in folder.rglob("final/**/*") if f.is_file()}
        lines = journal.read(folder / "metrics.jsonl")
        losses[row] = [line["loss"] for line in lines if "loss" in line]
        kept = [path.name for path in (tmp_path / row / "0/predictions").iterdir()]
        assert kept and not [name for name in kept if name.startswith(remembered.PART)]
    assert finals["none"] == finals["orthogonal"] != finals["one_view"]
    assert losses["none"] == losses["orthogonal"] != losses["one_view"]
    runs = saved_in(tmp_path)["runs"]
    assert runs[0]["single_1"] == runs[1]["single_1"]


@pytest.mark.exhaustive
def test_two_starts_at_once_share_the_runs_and_lose_none(tmp_path):
    """As a job array does: every first member is trained once, and who ends last has all runs."""
    file = tmp_path / "pair.py"
    file.write_text(
        "from fgvc_jax.config import load_config\n"
        "from fgvc_jax.study import Study\n\n"
        "def get_study(base=load_config('tiny')):\n"
        f"    return Study(base, {ROWS}, seeds=2)\n"
    )
    words = [sys.executable, ROOT / "scripts/study.py", file, "--workdir", tmp_path / "s"]
    starts = [
        subprocess.Popen(
            words,
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        for _ in range(2)
    ]
    said = [start.communicate(timeout=600) for start in starts]
    assert [start.returncode for start in starts] == [0, 0], said
    saved = saved_in(tmp_path / "s")
    keys = {(row, seed) for row in ROWS for seed in range(2)}
    assert {(run["row"], run["seed"]) for run in saved["runs"]} == keys
    assert not saved["missing"] and not saved["failed"] and len(lines_in(tmp_path / "s")) == 4
    assert all("  epoch 1/2  " in out for out, _ in said), said
    assert sum(out.count("member 1/2  epoch 1/2  ") for out, _ in said) == 2, said
    assert sum(out.count("member 1 is that of") for out, _ in said) == 2, said


def test_without_time_it_reports_and_trains_nothing(tmp_path, trainer, capsys):
    carry_out(tmp_path / "s", seeds=1)
    carry_out(tmp_path / "s", seeds=3, minutes=0)
    assert len(trainer.trained) == 2
    assert "left: 4 of 6 runs (none: seeds 1 2; orthogonal: seeds 1 2)" in capsys.readouterr().out


@pytest.mark.parametrize("minutes", [1e12, 1e300, float("inf")])
def test_a_time_limit_that_no_timer_takes_is_none(tmp_path, trainer, minutes):
    """Finite ones above some hundred years were a traceback."""
    assert carry_out(tmp_path / "s", seeds=1, minutes=minutes)["runs"]


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
    saved = saved_in(tmp_path / "s")
    assert saved["summary"]["ensemble"]["orthogonal"]["difference"]["n"] == 1
    assert saved["summary"]["ensemble"]["orthogonal"]["n"] == 2
    failed = {"row": "none", "seed": 0, "reason": "loss is not finite at step 3"}
    assert (saved["failed"], saved["missing"]) == ([failed], [{"row": "none", "seed": 0}])


def test_a_run_that_another_process_trains_is_left_to_it(tmp_path, trainer, capsys):
    with locks.lock(tmp_path / "s/none/0"):
        saved = carry_out(tmp_path / "s", seeds=1)
    assert "left to others: none, seed 0\n" in capsys.readouterr().out
    assert trainer.trained == ["orthogonal/0"]
    assert (saved["failed"], saved["missing"]) == ([], [{"row": "none", "seed": 0}])


def test_a_seed_that_another_process_is_at_comes_last_and_what_it_leaves_is_trained(
    tmp_path, trainer, capsys
):
    with contextlib.ExitStack() as other:
        other.enter_context(locks.lock(tmp_path / "s/none/0"))
        trainer.instead["orthogonal/1"] = other.close  # it is killed
        carry_out(tmp_path / "s")
        assert trainer.trained == ["none/1", "orthogonal/1", "none/0", "orthogonal/0"]
        assert "left to others" not in capsys.readouterr().out


def test_a_run_that_was_taken_in_the_meantime_is_left_and_what_others_finished_is_read(
    tmp_path, trainer
):
    """Between the look at a lock and the training: here until the other has finished the run."""

    def finished_elsewhere():
        trainer.instead.clear()
        trainer(experiments["none", 0], None, compared=True)
        raise InUse("somebody has it")

    experiments = definition.experiments(Study(tiny(), ROWS), folder=tmp_path / "s", seeds=1)
    trainer.instead["none/0"] = finished_elsewhere
    saved = carry_out(tmp_path / "s", seeds=1)
    assert trainer.trained == ["none/0", "orthogonal/0"]
    assert len(saved["runs"]) == 2 and not saved["missing"]


def test_whoever_writes_the_table_last_has_looked_at_all(tmp_path, trainer, monkeypatch):
    """Also at a run that another process finished after our last look and before its own table."""
    experiments = definition.experiments(Study(tiny(), ROWS), folder=tmp_path / "s", seeds=1)
    with locks.lock(tmp_path / "s/none/0"):
        told = []

        def tell(text):
            told.append(text)
            if text.startswith("left to others"):
                trainer(experiments["none", 0], None, compared=True)

        monkeypatch.setattr(runner.summary, "tell", tell)
        saved = carry_out(tmp_path / "s", seeds=1)
    assert told[-1] == "left to others: none, seed 0"
    assert len(saved["runs"]) == 2 and not saved["missing"]


def test_what_failed_elsewhere_is_not_tried_again_here(tmp_path, trainer):
    def meanwhile():
        failed = [{"row": "orthogonal", "seed": 0, "reason": "loss is not finite"}]
        write_json(tmp_path / "s/study.json", {"failed": failed})

    trainer.instead["none/0"] = meanwhile
    with pytest.raises(UserError, match="1 runs failed; orthogonal, seed 0: loss is not finite"):
        carry_out(tmp_path / "s", seeds=1)
    assert trainer.trained == ["none/0"]


def test_failed_and_missing_seeds_are_named_as_long_as_they_are(tmp_path, trainer):
    def diverge():
        raise UserError("loss is not finite at step 3")

    def page():
        return (tmp_path / "s/study.md").read_text()

    trainer.instead["orthogonal/0"] = diverge
    failed = "- failed: orthogonal, seed 0: loss is not finite at step 3\n"
    with pytest.raises(UserError):
        carry_out(tmp_path / "s", seeds=1)
    assert failed in page() and "not finished" not in page()
    with pytest.raises(UserError, match="1 runs failed"):
        carry_out(tmp_path / "s", seeds=2, minutes=0)
    assert failed in page()
    assert "- not finished: none: seeds 1; orthogonal: seeds 1\n" in page()
    trainer.instead.clear()
    carry_out(tmp_path / "s")
    assert "Notes" not in page() and saved_in(tmp_path / "s")["failed"] == []


def test_what_is_finished_is_in_the_table_whatever_comes_after(tmp_path, trainer):
    """A mistake of ours, a mistake that shows before a start, a kill: the table is there."""

    def crash():
        raise RuntimeError("out of memory")

    trainer.instead["orthogonal/0"] = crash
    with pytest.raises(RuntimeError):
        carry_out(tmp_path / "s")
    saved = saved_in(tmp_path / "s")
    assert [(run["row"], run["seed"]) for run in saved["runs"]] == [("none", 0)]
    assert "- not finished: orthogonal: seeds 0 1; none: seeds 1\n" in (
        (tmp_path / "s/study.md").read_text()
    )


def test_a_cut_results_file_is_told_in_a_line_and_made_again(tmp_path, trainer, capsys):
    carry_out(tmp_path / "s", seeds=1)
    cut = tmp_path / "s/none/0/results.json"
    cut.write_text(cut.read_text()[:40])
    assert len(carry_out(tmp_path / "s", seeds=1, minutes=0)["runs"]) == 1
    assert f"{cut} cannot be read: its run is judged again" in capsys.readouterr().out
    assert len(carry_out(tmp_path / "s", seeds=1)["runs"]) == 2
    assert trainer.trained == ["none/0", "orthogonal/0", "none/0"]


def test_runs_that_differ_in_dtype_are_told(tmp_path, trainer):
    """Also where only one member of a run was trained elsewhere."""
    carry_out(tmp_path / "s", seeds=1)
    gpu = {"dtype": "bfloat16", "devices": ["cpu: cpu"]}
    write_json(tmp_path / "s/orthogonal/0/members/01/member.json", {"environment": gpu})
    carry_out(tmp_path / "s", seeds=1, minutes=0)
    page = (tmp_path / "s/study.md").read_text()
    told = "float32 (none: seeds 0; orthogonal: seeds 0); bfloat16 (orthogonal: seeds 0)"
    assert f"- warning: the runs differ in dtype: {told}\n" in page
    assert "differ in device" not in page


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ensembl", "there is no metric 'ensembl': did you mean 'ensemble'"),
        ("ensemble_3", "there is no metric 'ensemble_3': did you mean"),  # of two members
        ("overlap_1", "there is no metric 'overlap_1'"),
        ("head_fusion", "there is no metric 'head_fusion'"),  # of cross entropy
        ("parts_any", "there is no metric 'parts_any': known are ensemble, single"),
    ],
)
def test_a_misspelt_metric_is_told_before_any_training(tmp_path, trainer, name, words):
    with pytest.raises(UserError, match=words):
        carry_out(tmp_path / "s", metrics=("ensemble", name))
    assert not trainer.trained


def test_metrics_that_runs_will_have_are_accepted():
    """Those of the objective's heads are known from the networks."""
    runs = [tiny(members=1), tiny(objective="hsd")]
    names = "ensemble", "single_2", "overlap", "overlap_2", "head_logits", "head_stage4"
    definition.check_metrics([*names, "head_fusion", "parts_any"], runs, ["parts_any"])


def test_the_command_is_the_machinery():
    command = runpy.run_path(str(ROOT / "scripts/study.py"))
    with pytest.raises(UserError, match="the first argument is a study"):
        command["main"]([])


# -- the ledger ----------------------------------------------------------------------------------


def lines_in(folder):
    return [
        (line["status"], line["tables"][0]["row"], line["config"]["seed"])
        for line in ledger.read(folder / "ledger.jsonl")
    ]


def test_every_run_that_ends_has_a_line_in_the_ledger(tmp_path, trainer):
    def diverge():
        raise UserError("loss is not finite at step 3")

    trainer.instead["orthogonal/0"] = diverge
    with pytest.raises(UserError, match="1 runs failed"):
        carry_out(tmp_path / "s", seeds=1)
    assert lines_in(tmp_path / "s") == [("finished", "none", 0), ("failed", "orthogonal", 0)]
    text = (tmp_path / "s/ledger.jsonl").read_text()
    trainer.instead["orthogonal/0"] = lambda: (_ for _ in ()).throw(RuntimeError("killed"))
    with pytest.raises(RuntimeError):
        carry_out(tmp_path / "s", seeds=1)
    assert (tmp_path / "s/ledger.jsonl").read_text() == text  # an interruption is no end
    with pytest.raises(UserError):
        carry_out(tmp_path / "s", seeds=1, abandon="no time is left")
    assert lines_in(tmp_path / "s")[1] == ("abandoned", "orthogonal", 0)
    trainer.instead.clear()
    carry_out(tmp_path / "s", seeds=1)
    assert lines_in(tmp_path / "s") == [("finished", "none", 0), ("finished", "orthogonal", 0)]


def test_a_trusted_ledger_stands_for_workdirs_that_are_gone(tmp_path, trainer, capsys):
    kept = str(tmp_path / "kept.jsonl")
    first = carry_out(tmp_path / "s", seeds=1, ledger=kept)
    trainer.trained.clear()
    second = carry_out(tmp_path / "other", seeds=2, ledger=kept, trust_ledger=True)
    assert trainer.trained == ["none/1", "orthogonal/1"]
    assert second["runs"][:2] == first["runs"]
    assert "all 4 runs are finished" in capsys.readouterr().out
    carry_out(tmp_path / "longer", seeds=1, base=tiny(epochs=7), ledger=kept, trust_ledger=True)
    carry_out(tmp_path / "again", seeds=1, ledger=kept)
    assert trainer.trained[2:] == ["none/0", "orthogonal/0"] * 2  # another run; not trusted


def test_a_line_of_another_study_counts_where_it_is_of_the_same_run(tmp_path, trainer):
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    carry_out(tmp_path / "s", seeds=1, ledger=str(one))
    options = Options(
        base=tiny(), workdir=str(tmp_path / "t"), seeds=1, metrics=("ensemble",),
        ledger=str(other), trust_ledger=True,
    )  # fmt: skip
    study = Study(tiny(), {"same": ROWS["none"], "new": {"epochs": 5}}, name="others")
    runner.carry_out(study, options, judge=no_bits)
    assert trainer.trained == ["none/0", "orthogonal/0", "new/0"]
    (line,) = (entry for entry in ledger.read(one, other) if len(entry["tables"]) > 1)
    belongs = {(table["study"], table["row"]) for table in line["tables"]}
    assert belongs == {("rows", "none"), ("others", "same")}


def test_a_row_has_its_place_in_the_study_whichever_are_chosen(tmp_path, trainer):
    """In the ledger, so that the lines of a part of the rows are those of all."""
    study = Study(tiny(), {"none": ROWS["none"], "new": {"epochs": 5}}, name="rows")
    options = Options(
        base=tiny(), workdir=str(tmp_path / "s"), seeds=1, metrics=("ensemble",),
        ledger=str(tmp_path / "kept.jsonl"),
    )  # fmt: skip
    chosen = replace(study, rows={"new": study.rows["new"]}, order=tuple(study.rows))
    for part in (chosen, study):
        runner.carry_out(part, options, judge=no_bits)
    lines = ledger.read(tmp_path / "kept.jsonl")
    places = [(table["row"], table["position"]) for line in lines for table in line["tables"]]
    assert sorted(places) == [("new", 1), ("none", 0)]


def test_what_another_run_learns_from_is_not_left_to_the_ledger(tmp_path, trainer):
    rows = {
        "teacher": {},
        "student": {"objective": "kd", "kd.teacher": "row:teacher", "transfer.name": "none"},
    }
    study = Study(tiny(), rows, name="rows")
    for folder in ("s", "other"):
        options = Options(
            base=tiny(), workdir=str(tmp_path / folder), seeds=1, metrics=("ensemble",),
            ledger=str(tmp_path / "kept.jsonl"), trust_ledger=True,
        )  # fmt: skip
        runner.carry_out(study, options, judge=no_bits)
    assert trainer.trained == ["teacher/0", "student/0", "teacher/0"]


def test_the_ledger_keeps_which_images_were_right(tmp_path, trainer):
    """And tells of those that do not fit, without keeping the other runs from being entered."""

    def judge(workdir):
        right = 500 + workdir.endswith("/1") * 100 + np.array([[0], [0], [0], [10]])
        if workdir == str(tmp_path / "s/none/1"):
            right = right + 77
        bits = np.arange(1000) < right
        return Correctness([str(i) for i in range(1000)], bits[:2], bits[2:])

    with pytest.raises(UserError, match="none, seed 1: it has no line in the ledger: the kept"):
        carry_out(tmp_path / "s", judge=judge)
    lines = ledger.read(tmp_path / "s/ledger.jsonl")
    assert len(lines) == 3 and len(trainer.trained) == 4
    members, ensembles = bits.unpack(lines[-1]["right"])
    assert members.sum(axis=1).tolist() == [600, 600]
    assert ensembles.sum(axis=1).tolist() == [600, 610]


def test_runs_of_before_the_ledger_are_entered(tmp_path, trainer):
    carry_out(tmp_path / "s", seeds=2)
    (tmp_path / "s/ledger.jsonl").unlink()
    carry_out(tmp_path / "s", seeds=2, minutes=0)
    assert len(lines_in(tmp_path / "s")) == 4
