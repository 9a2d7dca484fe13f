"""What journals say is sent to a tracker once, whatever happens, and training never minds."""

import dataclasses
import json
import logging
import signal
import time

import pytest
from conftest import command, finish, tiny

from fgvc_jax.training import members, tracking
from fgvc_jax.training.tracking import Follower, steps
from fgvc_jax.utils import digests
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import trackers


class Tracker:
    """Keeps what it is told, as a server does from start to start."""

    def __init__(self):
        self.opened, self.rows, self.files, self.ends = [], [], [], []

    def __call__(self, identity, name, config, folder):
        self.opened.append((identity, name, config["data.crop"]))
        return self

    def last(self, member):
        return max((row.step for row in self.rows if row.member == member), default=0)

    def send(self, rows):
        self.rows += rows

    def attach(self, files):
        self.files += [file.name for file in files]

    def end(self, *, finished):
        self.ends.append(finished)


@pytest.fixture
def tracker(monkeypatch):
    found = Tracker()
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", found)
    monkeypatch.setattr(trackers, "check", lambda name: None)
    monkeypatch.setattr(tracking, "reported", lambda workdir, folder: [])
    return found


def write(folder, member, *lines):
    path = folder / f"members/{member:02d}/metrics.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def follower(folder):
    return Follower(dataclasses.replace(tiny(folder, members=2), track="mlflow"))


RUN = "0123456789abcdef"
LINES = [
    {"step": 2, "epoch": 1, "loss": 2.0},
    {"step": 4, "epoch": 1, "loss": 1.0},
    {"step": 4, "epoch": 1, "test_accuracy": 0.5},
    {"step": 6, "epoch": 2, "loss": 0.5},
]


def test_the_lines_of_a_step_become_one():
    rows = steps(3, [*LINES, {"step": 6, "epoch": 2, "said": "word", "done": True}])
    assert [row.step for row in rows] == [2, 4, 6]
    assert rows[1].named == {"member_3/epoch": 1, "member_3/loss": 1, "member_3/test_accuracy": 0.5}
    assert rows[2].values == {"epoch": 2, "loss": 0.5}


def test_each_step_is_sent_once_and_none_before_it_is_whole(tmp_path, tracker):
    write(tmp_path, 1, *LINES)
    first = follower(tmp_path)
    first.wake(1, 4)
    first.close(finished=False)
    assert [row.step for row in tracker.rows] == [2, 4] and tracker.ends == [False]
    write(tmp_path, 2, {"step": 2, "epoch": 1, "loss": 3.0})
    (tmp_path / "results.json").write_text("{}")
    again = follower(tmp_path)
    again.close(finished=True)
    assert [(row.member, row.step) for row in tracker.rows] == [(1, 2), (1, 4), (1, 6), (2, 2)]
    assert tracker.files == ["results.json"] and tracker.ends == [False, True]
    (one,), state = {*tracker.opened}, json.loads((tmp_path / "tracker.json").read_text())
    assert one == (state["run"], tmp_path.name, 32) and state["sent"] == {"1": 6, "2": 2}
    follower(tmp_path).close(finished=True)  # there is nothing new: nobody is asked
    assert len(tracker.opened) == 2


def test_what_a_kill_left_untold_is_asked_for(tmp_path, tracker):
    """It came after the tracker was told, and before tracker.json was."""
    write(tmp_path, 1, *LINES)
    (tmp_path / "results.json").write_text("{}")
    tracker.rows = steps(1, LINES)[:2]
    known = {"track": "mlflow", "run": RUN, "sent": {"1": 2}}
    (tmp_path / "tracker.json").write_text(json.dumps(known))
    follower(tmp_path).close(finished=True)
    assert [row.step for row in tracker.rows] == [2, 4, 6] and tracker.opened[0][0] == RUN


def test_what_a_tracker_lost_in_a_kill_is_sent_again(tmp_path, tracker):
    """It was told everything, and kept the first step alone, as wandb does offline."""
    write(tmp_path, 1, *LINES)
    (tmp_path / "results.json").write_text("{}")
    tracker.rows = steps(1, LINES)[:1]
    attached = digests.of_file(tmp_path / "results.json")
    known = {"track": "mlflow", "run": RUN, "sent": {"1": 6}, "attached": attached}
    (tmp_path / "tracker.json").write_text(json.dumps(known))
    follower(tmp_path).close(finished=True)
    assert [row.step for row in tracker.rows] == [2, 4, 6] and tracker.ends == [True]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        json.dumps({"track": "wandb", "run": RUN, "sent": {}}),
        json.dumps({"track": "mlflow", "run": "../x' OR 'a' = 'a", "sent": {}}),
        json.dumps({"track": "mlflow", "run": RUN, "sent": {"1": "many"}}),
    ],
)
def test_another_trackers_state_or_a_damaged_one_begins_anew(tmp_path, tracker, text):
    write(tmp_path, 1, *LINES)
    (tmp_path / "results.json").write_text("{}")
    (tmp_path / "tracker.json").write_text(text)
    follower(tmp_path).close(finished=True)
    assert [row.step for row in tracker.rows] == [2, 4, 6] and tracker.opened[0][0] != RUN


@pytest.mark.parametrize("where", ["__call__", "last", "send", "attach", "end"])
def test_trouble_is_one_warning(tmp_path, tracker, monkeypatch, caplog, where):
    def fails(*_, **__):
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(Tracker, where, fails)
    write(tmp_path, 1, *LINES)
    (tmp_path / "results.json").write_text("{}")
    told = follower(tmp_path)
    told.wake(1, 2)
    told.close(finished=True)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "\n" not in record.message
    assert "--track mlflow: no route to host; training does not depend on it" in record.message


def test_one_that_does_not_answer_is_not_waited_for(tmp_path, tracker, monkeypatch, caplog):
    monkeypatch.setattr(tracking, "PATIENCE", 0.05)
    monkeypatch.setattr(Tracker, "send", lambda *_: time.sleep(1))
    (tmp_path / "results.json").write_text("{}")
    write(tmp_path, 1, *LINES)
    began = time.monotonic()
    follower(tmp_path).close(finished=True)
    assert time.monotonic() - began < 0.9 and "it did not answer in" in caplog.text


def test_a_missing_package_is_told_before_anything_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="--track wandb needs the package wandb: pip install wandb"):
        members.train(dataclasses.replace(tiny(tmp_path / "run"), track="wandb"))
    assert not list(tmp_path.iterdir())


def test_a_run_that_fails_before_it_begins_asks_nobody(tmp_path, tracker):
    spec = dataclasses.replace(tiny(tmp_path), track="mlflow")
    with pytest.raises(UserError, match="no data"), tracking.followed(spec, print):
        raise UserError("no data")
    assert not tracker.opened and not list(tmp_path.iterdir())


def test_without_a_tracker_nothing_is_wrapped():
    told = print
    with tracking.followed(tiny(), told) as report:
        assert report is told


# -- with the trackers themselves ------------------------------------------------------------------


def wanted(workdir):
    """{member: {step: loss}} of the journals."""
    return {
        member: {row.step: row.values.get("loss") for row in steps(member, lines(workdir, member))}
        for member in (1, 2)
    }


def lines(workdir, member):
    text = (workdir / f"members/{member:02d}/metrics.jsonl").read_text()
    return list(map(json.loads, text.splitlines()))


def wandb_rows(workdir):
    """[(member, step, loss)] in all files of the run."""
    found = []
    for file in sorted(workdir.glob("tracker/wandb/offline-run-*/run-*.wandb")):
        for values in trackers.offline_steps(file):
            for member in (1, 2):
                if (step := values.get(f"member_{member}/step")) is not None:
                    found.append((member, int(step), values.get(f"member_{member}/loss")))
    return found


def mlflow_rows(workdir, uri):
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    project = client.get_experiment_by_name(trackers.PROJECT)
    (run,) = client.search_runs([project.experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["batch_size"] == "8"
    files = {each.path for each in client.list_artifacts(run.info.run_id)}
    assert files == {"results.json", "report.html", "report.json"}
    rows = []
    for member in (1, 2):
        losses = client.get_metric_history(run.info.run_id, f"member_{member}/loss")
        losses = {each.step: each.value for each in losses}
        epochs = client.get_metric_history(run.info.run_id, f"member_{member}/epoch")
        rows += [(member, each.step, losses.get(each.step)) for each in epochs]
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_each_step_is_there_once_also_after_a_kill(tmp_path, name):
    pytest.importorskip(name)
    workdir, uri = tmp_path / "run", f"sqlite:///{tmp_path / 'mlflow.db'}"
    variables = {
        "WANDB_MODE": "offline",
        "MLFLOW_TRACKING_URI": uri,
    }
    words = ["--config", "tiny", "--workdir", workdir, "--track", name]
    words += ["--log-every", "1", "--members", "2", "--epochs", "3", "--save-every", "1"]
    process = command("train", *words, env=variables, cwd=tmp_path)
    state = workdir / "tracker.json"
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        if state.exists() and '"1":' in state.read_text():
            process.send_signal(signal.SIGKILL)
        time.sleep(0.05)
    assert finish(process)[0] == -signal.SIGKILL
    code, _, told = finish(command("train", *words, env=variables, cwd=tmp_path))
    assert code == 0 and told.startswith("not calibrated, so that ") and told.count("\n") == 1, told
    rows = wandb_rows(workdir) if name == "wandb" else mlflow_rows(workdir, uri)
    assert len(rows) == len({row[:2] for row in rows}), "a step is there twice"
    there = {m: {step: loss for member, step, loss in rows if member == m} for m in (1, 2)}
    for member, losses in wanted(workdir).items():
        assert there[member] == pytest.approx(losses)
    finish(command("train", *words, env=variables, cwd=tmp_path))  # there is nothing to do
    again = wandb_rows(workdir) if name == "wandb" else mlflow_rows(workdir, uri)
    assert again == rows


def test_nothing_is_sent_of_a_member_after_the_one_that_is_told_of(tmp_path, tracker):
    """As of an older run that is begun anew, whose later journals are still there."""
    write(tmp_path, 1, *LINES)
    write(tmp_path, 2, *LINES)
    found = follower(tmp_path)
    found.wake(1, 6)
    found.close(finished=False)
    assert {row.member for row in tracker.rows} == {1}
