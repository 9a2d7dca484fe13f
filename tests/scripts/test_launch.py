"""The launchers, beside commands of a scheduler and a cloud that only tell how they were called."""

import os
import shlex
import subprocess

import pytest
from conftest import ROOT

WORDS = ["--workdir", "runs/a b", "--config", "kt:cub,resnet50"]


@pytest.fixture
def launch(tmp_path):
    """Runs a launcher where `srun`, `scontrol` and `gcloud` are ours: (exit code, their calls)."""
    calls = tmp_path / "calls"

    def run(script, *words, srun="exit 0"):
        for name in ("srun", "scontrol", "gcloud"):
            ours = f'#!/bin/bash\nprintf "%s\\n" {name} "$@" end >> {calls}\n'
            (tmp_path / name).write_text(ours + (srun if name == "srun" else ""))
            (tmp_path / name).chmod(0o755)
        path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
        done = subprocess.run([ROOT / "scripts/launch" / script, *words], env=os.environ | path)
        lines = calls.read_text().splitlines() if calls.exists() else []
        return done.returncode, [call.split("\n") for call in "\n".join(lines).split("\nend")]

    return run


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (143, True), (2, False), (137, False)])
def test_a_slurm_job_waits_again_only_where_it_was_asked_to_stop(launch, code, requeued):
    ended, calls = launch("slurm.sh", *WORDS, srun=f"exit {code}")
    assert ended == code
    assert calls[0][-len(WORDS) :] == WORDS
    assert calls[0][-len(WORDS) - 3 : -len(WORDS)] == ["fgvc_jax.train", "--distributed", "True"]
    assert (["", "scontrol", "requeue", "7"] in calls) == requeued


def test_a_slurm_job_that_is_cancelled_does_not_wait_again(launch):
    """The script is told as well as its processes."""
    ended, calls = launch("slurm.sh", *WORDS, srun="kill -TERM $PPID; sleep 0.2; exit 143")
    assert ended == 143
    assert ["", "scontrol", "requeue", "7"] not in calls


def test_a_tpu_is_given_the_words_as_they_are(launch):
    ended, calls = launch("tpu.sh", "slice", "zone-a", *WORDS)
    assert ended == 0 and "slice" in calls[0] and "--zone=zone-a" in calls[0]
    (command,) = (word for word in calls[0] if word.startswith("--command="))
    train = ["python3", "-m", "fgvc_jax.train", "--distributed", "True", *WORDS]
    assert shlex.split(command.removeprefix("--command=")) == train


def test_a_tpu_without_a_name_is_one_line(launch):
    ended, calls = launch("tpu.sh")
    assert ended != 0 and calls == [[""]]
