"""One device, four, and two processes of two: the same losses, the same counts, one checkpoint."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT, command, finish

from fgvc_jax.engine import mesh as devices
from fgvc_jax.engine.journal import read
from fgvc_jax.errors import UserError

EPOCHS = 5  # of four steps: twenty in all


def arguments(workdir, *more):
    # At KT's learning rates. At twenty times these a network so small and narrow is chaotic: the
    # last bit of a sum over devices grows to a per cent within ten steps.
    return ["--config", ROOT / "configs/tiny.py", "--workdir", workdir, "--epochs", EPOCHS,
            "--optimizer.learning-rate", 0.001, "--optimizer.head-learning-rate", 0.01,
            "--log-every", 1, "--save-every", 4, "--evaluation-batch-size", 8, *more]  # fmt: skip


def train(workdir, *more, count=1):
    code, out, err = finish(command("train", *arguments(workdir, *more), devices=count))
    assert code == 0, err
    return workdir


def losses(workdir, member=1):
    lines = read(workdir / f"members/{member:02d}/metrics.jsonl")
    return np.array([line["loss"] for line in lines if "loss" in line])


def counts(workdir):
    results = json.loads((workdir / "results.json").read_text())
    return results["ensemble"], [member["final"] for member in results["members"]]


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return train(tmp_path_factory.mktemp("single") / "run")


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    return train(tmp_path_factory.mktemp("four") / "run", count=4)


def assert_equal(one, other):
    assert len(losses(one)) == 20
    for member in (1, 2):
        np.testing.assert_allclose(losses(one, member), losses(other, member), rtol=1e-4)
    assert counts(one) == counts(other)


@pytest.mark.slow
def test_four_devices_train_as_one(single, four):
    assert_equal(single, four)


def two_processes(workdir, *more, **options):
    """(exit code, stdout, stderr) of two processes of two devices each that train together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    workers = [
        command(
            "train", *arguments(workdir, "--distributed", "True", *more), devices=2,
            env={"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2",
                 "JAX_PROCESS_ID": str(index)}, **options,
        )
        for index in range(2)
    ]  # fmt: skip
    return [finish(worker) for worker in workers]


@pytest.mark.slow
def test_two_processes_of_two_devices_train_as_one(single, tmp_path):
    for code, _, err in two_processes(tmp_path / "run", "--save-every", 0):
        assert code == 0, err
    assert_equal(single, tmp_path / "run")


@pytest.mark.slow
def test_devices_may_stand_in_any_order_in_the_mesh(single, tmp_path):
    """As on TPU slices: what comes back from a pass over the devices is placed by its row. By
    position every map would be another image's, and the second member's losses others."""
    turned = (
        "import jax; make = jax.make_mesh; "
        "jax.make_mesh = lambda *a, devices, **k: make(*a, devices=devices[::-1], **k)"
    )
    for code, _, err in two_processes(tmp_path / "run", "--save-every", 0, before=turned):
        assert code == 0, err
    assert_equal(single, tmp_path / "run")


@pytest.mark.slow
def test_a_checkpoint_of_four_devices_continues_on_one(single, four, tmp_path):
    """Take the second member back to the checkpoint before its last."""
    shutil.copytree(four, tmp_path / "run")
    member = tmp_path / "run/members/02"
    shutil.rmtree(member / "final")
    shutil.rmtree(member / "checkpoints/20")
    (tmp_path / "run/results.json").unlink()
    code, out, err = finish(command("train", *arguments(tmp_path / "run")))
    assert code == 0, err
    assert "member 2/2: continues at step 16 of 20" in out
    assert_equal(single, tmp_path / "run")


def test_a_batch_that_does_not_divide_over_processes_is_told(tmp_path):
    for code, _, err in two_processes(tmp_path / "run", "--batch-size", 6):
        assert code == 2
        assert err == "error: --batch-size 6 does not divide over 4 devices: take a multiple of 4\n"


def test_virtual_devices_of_one_cpu_are_left_out_where_a_batch_does_not_divide(tmp_path):
    words = arguments(tmp_path / "run", "--batch-size", 6, "--epochs", 1)
    code, out, err = finish(command("train", *words, devices=4))
    assert code == 0, err
    assert "; 2 x cpu" in out


def test_a_coordinator_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    monkeypatch.setenv("JAX_PROCESS_ID", "0")
    with pytest.raises(UserError, match="--distributed could not join"):
        devices.join_processes()


def test_sigterm_is_ours_after_processes_have_joined():
    """JAX's preemption service would swallow it: see `join_processes`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    lines = (
        "import os, signal, time",
        "from fgvc_jax import command",
        "from fgvc_jax.engine import mesh",
        "def main(_):",
        "    mesh.join_processes()",
        "    os.kill(os.getpid(), signal.SIGTERM)",
        "    time.sleep(5)",
        "command.run(main)",
    )
    names = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        env=os.environ | names, cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert done.stderr == "interrupted: what was finished is kept; the same command continues\n"


def test_processes_on_this_host_are_counted_by_name(monkeypatch):
    assert devices.processes_here() == 1
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(
        devices.multihost_utils, "process_allgather", lambda host: np.array([host, host + 1, host])
    )
    assert devices.processes_here() == 2
