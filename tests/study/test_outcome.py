"""What is told of a study's runs: their results, their failures, and what is missing."""

import json

import pytest
from conftest import tiny

from fgvc_jax.study import Study, definition, pages
from fgvc_jax.study.ledger import Ledger
from fgvc_jax.study.outcome import Outcome, member_record, results_of, teacher_of
from fgvc_jax.workdir.folder import Workdir
from fgvc_jax.workdir.record import Record
from fgvc_jax.workdir.storage import write_json

ROWS = {"none": {"transfer.name": "none"}, "orthogonal": {}}
RESULTS = {
    "members": [{"final": 0.5, "selected": None, "best_on_test": 1.0}] * 2,
    "ensemble": [0.5, 0.75],
    "attention_overlap": [[0.5, 0.25], [0.35, 0.5]],
    "environment": {"dtype": "float32", "devices": ["cpu: cpu"]},
    "images": {"test": 100},
    "digests": {"data": "d", "weights": None},
}


@pytest.fixture
def outcome(tmp_path):
    """Two rows of one seed; nothing is trained."""
    study = Study(tiny(), ROWS, name="rows")
    runs = definition.experiments(study, folder=tmp_path, seeds=1)
    ledger = Ledger(
        tmp_path / "ledger.jsonl", study="rows", base=study.base, rows=tuple(ROWS),
        judge=lambda _workdir: None,
    )  # fmt: skip
    return Outcome(study, tmp_path, runs, None, pages.study_page, ("ensemble",), ledger)


def finish(run, **changes):
    """Leave what a training leaves that finished."""
    workdir = Workdir(run.workdir)
    workdir.claim(Record(run, ("a", "b"), {"data": "d", "weights": None}, False))
    for number in range(1, run.members + 1):
        workdir.final(number).mkdir(parents=True)
    write_json(workdir.results, RESULTS | changes)
    return workdir


def test_a_finished_run_is_seen_and_measured(outcome):
    first, second = outcome.runs
    outcome.look()
    assert outcome.missing() == [first, second] and not outcome.values
    finish(outcome.runs[first])
    outcome.look()
    assert outcome.missing() == [second] and outcome.values[first]["ensemble"] == 0.75
    assert outcome.notes() == ["not finished: orthogonal: seeds 0"]


def test_why_a_run_failed_is_kept_for_the_next_start(outcome, tmp_path):
    key = ("orthogonal", 0)
    finish(outcome.runs[key]).results.unlink()
    outcome.fail(key, "the loss is not finite")
    outcome.save()
    saved = json.loads((tmp_path / "study.json").read_text())
    assert saved["failed"] == [{"row": "orthogonal", "seed": 0, "reason": "the loss is not finite"}]
    assert [run["row"] for run in saved["missing"]] == ["none", "orthogonal"]
    outcome.failures.clear()
    outcome.look()
    assert outcome.failures == {key: "the loss is not finite"}
    assert "failed: orthogonal, seed 0: the loss is not finite" in outcome.notes()


def test_other_machines_of_members_are_told(outcome):
    run = outcome.runs["none", 0]
    workdir, other = finish(run), {"dtype": "bfloat16", "devices": ["gpu: H200"]}
    write_json(workdir.member(1) / "member.json", {"environment": RESULTS["environment"]})
    write_json(workdir.member(2) / "member.json", {"environment": other})
    assert results_of(run)["environment"]["others"] == [other]


def test_results_that_cannot_be_read_are_those_of_an_unfinished_run(outcome, capfd):
    run = outcome.runs["none", 0]
    finish(run).results.write_text("{")
    assert results_of(run) is None
    assert "cannot be read: its run is judged again" in "".join(capfd.readouterr())


def test_a_lost_record_of_a_member_says_nothing(tmp_path):
    workdir = Workdir(tmp_path)
    assert member_record(workdir, 1) == {}
    workdir.member(1).mkdir(parents=True)
    (workdir.member(1) / "member.json").write_text("{")
    assert member_record(workdir, 1) == {}


def test_a_run_learns_from_its_teacher_alone(tmp_path):
    rows = {
        "teacher": {},
        "student": {"objective": "kd", "kd.teacher": "row:teacher", "transfer.name": "none"},
    }
    teacher, student = definition.experiments(
        Study(tiny(), rows), folder=tmp_path, seeds=1
    ).values()
    assert teacher_of(teacher) == set() and teacher_of(student) == {teacher.workdir}
