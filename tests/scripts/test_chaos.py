"""What the script that kills runs asks of those that are left, and of what comes out."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from fgvc_jax.utils.errors import UserError

sys.path.insert(0, str(ROOT / "scripts"))
import chaos  # noqa: E402

WAIT = "input()"
LINE = "import sys; sys.stdin.read(1); sys.exit('process 0 ended; the same command continues')"
TWO = LINE.replace("continues", "continues\\nTraceback")


@pytest.fixture
def job(monkeypatch):
    """A job of such programs, of which all but the first end once it is killed."""
    monkeypatch.setattr(chaos, "PATIENCE", 2.0)
    started = []

    def start(*programs):
        job = object.__new__(chaos.Job)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        job.processes = started
        for program in programs:
            words = [sys.executable, "-c", program]
            started.append(subprocess.Popen(words, stdin=subprocess.PIPE, **pipes))
        kill = started[0].kill

        def kill_and_tell():
            kill()
            for process in started[1:]:
                process.stdin.close()

        started[0].kill = kill_and_tell
        return job

    yield start
    for process in started:
        subprocess.Popen.kill(process)
        process.wait()


def test_the_others_end_with_one_line_each(job):
    assert 0 < job(WAIT, LINE, LINE).kill(0) < chaos.PATIENCE


def test_what_is_hit_is_counted_by_moment_and_processes():
    kills = [
        chaos.Kill(1, 2, 0, chaos.SAVE, 3, 1.25), chaos.Kill(2, 4, 3, chaos.SAVE, 4, 2.5),
        chaos.Kill(3, 1, 0, "", 5, 0.0),
    ]  # fmt: skip
    _, _, saves, none = chaos.table(kills).splitlines()
    assert [cell.strip() for cell in saves.split("|")[1:-1]] == ["save", "2", "0", "1", "1", "2.5"]
    assert [cell.strip() for cell in none.split("|")[1:-1]][1:] == ["1", "1", "0", "0", "-"]


def test_a_process_tells_what_it_is_at(tmp_path, job):
    job = job(WAIT)
    job.workdir, job.marks = tmp_path, [tmp_path / "marks.0"]
    file = os.open(job.marks[0], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    seen = []
    chaos._marking(file, chaos.MAPS, lambda: seen.append(job.is_at(0, chaos.MAPS)))()
    assert seen == [True] and not job.is_at(0, chaos.MAPS)
    assert job.is_at(0, chaos.ANY) and not job.is_at(0, chaos.SAVE)
    (tmp_path / "members/02/checkpoints/7.orbax-checkpoint-tmp").mkdir(parents=True)
    (tmp_path / "members/02/checkpoints/6").mkdir()
    assert job.is_at(0, chaos.SAVE) and chaos.progress(tmp_path, epochs=3) == 12 + 6


def test_a_folder_is_continued_with_the_same_options_only(tmp_path):
    words = {"folder": str(tmp_path), "kills": 3}
    with chaos.place(chaos.Options(**words)), chaos.place(chaos.Options(**words, minutes=1)):
        pass
    other = chaos.Options(**words, seed=1)
    with pytest.raises(UserError, match="begun with other options"), chaos.place(other):
        pass


@pytest.mark.parametrize("program", [TWO, "import time; time.sleep(60)"])
def test_more_than_a_line_or_more_than_the_time_is_told(job, program):
    with pytest.raises(UserError, match="after process 0 was killed"):
        job(WAIT, LINE, program).kill(0)


def results(*accuracies):
    return {
        "images": {"test": 100}, "members": [{"final": one} for one in accuracies[:-1]],
        "ensemble": [accuracies[0], accuracies[-1]],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("devices", "state", "accuracy", "equal"),
    [(0, 1.0, 0.51, True), (0, 0.0, 0.52, False), (2, 0.0, 0.5, True), (2, 1.0, 0.5, False),
     (2, 0.0, 0.51, False)],
)  # fmt: skip
def test_bits_are_compared_or_accuracies(monkeypatch, devices, state, accuracy, equal):
    outcomes = {
        "peace": ([np.zeros(2)], results(0.25, 0.5, 0.5)),
        "war": ([np.array([0.0, state])], results(0.25, 0.5, accuracy)),
    }
    monkeypatch.setattr(chaos, "outcome", outcomes.get)
    assert chaos.same("peace", "war", chaos.Options(devices=devices))[0] is equal
