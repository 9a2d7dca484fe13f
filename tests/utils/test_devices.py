"""One device, four, and two processes of two: the same losses, the same counts, one checkpoint."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from functools import partial

import jax
import numpy as np
import pytest
from conftest import ROOT, command, finish
from PIL import Image

from fgvc_jax.data.sources import open_source
from fgvc_jax.utils import devices, processes
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.signals import HEARD
from fgvc_jax.workdir.journal import read

EPOCHS = 5  # of four steps: twenty in all


def arguments(workdir, *more):
    # At KT's learning rates. At twenty times these a network so small and narrow is chaotic: the
    # last bit of a sum over devices grows to a per cent within ten steps.
    return ["--config", ROOT / "configs/tiny.py", "--workdir", workdir, "--epochs", EPOCHS,
            "--optimizer.learning-rate", 0.001, "--optimizer.head-learning-rate", 0.01,
            "--log-every", 1, "--save-every", 4, "--keep-checkpoints", "True",
            "--evaluation-batch-size", 32, *more]  # fmt: skip


def train(workdir, *more, count=1):
    code, out, err = finish(command("train", *arguments(workdir, *more), devices=count))
    assert code == 0, err
    return workdir


def losses(workdir, member=1):
    lines = read(workdir / f"members/{member:02d}/metrics.jsonl")
    return np.array([line["loss"] for line in lines if "loss" in line])


def counts(workdir):
    found = results(workdir)
    return found["ensemble"], [member["final"] for member in found["members"]]


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return train(tmp_path_factory.mktemp("single") / "run")


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    return train(tmp_path_factory.mktemp("four") / "run", count=4)


def remembered(workdir):
    """(members, N, D) float32: what the members see of the training photographs that are kept."""
    (folder,) = workdir.glob("predictions/neighbours-*")
    digests = results(workdir)["digests"]["members"]
    files = [folder / f"{digest[:16]}.embedding.npy" for digest in digests]
    return np.stack([np.load(file) for file in files]).astype(np.float32)


def results(workdir):
    return json.loads((workdir / "results.json").read_text())


def assert_equal(one, other):
    assert len(losses(one)) == 20
    for member in (1, 2):
        np.testing.assert_allclose(losses(one, member), losses(other, member), rtol=1e-4)
    assert counts(one) == counts(other)
    seen = remembered(one)
    assert seen.shape[:2] == (2, 32)
    np.testing.assert_allclose(seen, remembered(other), atol=0.02)


@pytest.mark.slow
def test_four_devices_train_as_one(single, four):
    assert_equal(single, four)


def pair_of(module, *words, **options):
    """(exit code, stdout, stderr) of two processes of two devices each that work together."""
    return [finish(worker) for worker in started(module, *words, **options)]


def started(module, *words, second=(), **options):
    """Two such processes, the second one with some words more."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    return [
        command(
            module, *words, *(second * index), "--distributed", "True", devices=2,
            env={"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2",
                 "JAX_PROCESS_ID": str(index)}, **options,
        )
        for index in range(2)
    ]  # fmt: skip


def two_processes(workdir, *more, **options):
    """Two that train together."""
    return pair_of("train", *arguments(workdir, *more), **options)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_two_processes_of_two_devices_train_as_one(single, tmp_path):
    for code, _, err in two_processes(tmp_path / "run", "--save-every", 0):
        assert code == 0, err
    assert_equal(single, tmp_path / "run")


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_and_the_same_command_continues(single, tmp_path):
    words = arguments(tmp_path / "run", "--save-every", 0)  # but at the signal
    workers = started("train", *words)
    for line in workers[0].stdout:
        if "epoch 1/" in line:
            break
    workers[1].send_signal(signal.SIGTERM)
    for code, _, err in map(finish, workers):
        assert code == 128 + signal.SIGTERM, err
        err = err.removeprefix(f"{HEARD}\n")  # where stopping takes longer than silence is borne
        assert err.startswith("interrupted: ") and err.count("\n") == 1, err
    (code, out, err), (other, _, told) = pair_of("train", *words)
    assert (code, other) == (0, 0), err + told
    assert "member 1/2: continues at step" in out
    assert_equal(single, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("second", "codes", "told"),
    [
        (("--optimizer.learning-rate", 0.7), (2, 2), "learning-rate is 0.001 in process 0 and 0.7"),
        (("--data.source", "folder:{}/other"), (1, 2), "begun with other train images"),
    ],
    ids=["config", "data"],
)
def test_processes_that_are_not_of_one_run_are_told(tmp_path, second, codes, told):
    """With other rates both trained on, each with variables of its own; of a run of more epochs the
    other process waited for good; other images were learned from without a word."""
    birds = open_source("sketchbirds").train
    for root, shift in (("one", 0), ("other", 1)):
        for part, first, count in (("train", 0, 8), ("test", 8, 4)):
            for label in range(4):
                folder = tmp_path / root / part / f"species {label}"
                folder.mkdir(parents=True)
                rows = np.flatnonzero(birds.labels == label)
                for i in range(count):
                    image = Image.fromarray(birds[int(rows[first + i + shift])]["image"])
                    image.save(folder / f"{i}.bmp")
    words = "--data.source", f"folder:{tmp_path}/one", "--data.classes", 0, "--members", 1
    second = tuple(str(word).format(tmp_path) for word in second)
    found = two_processes(tmp_path / "run", *words, second=second)
    assert tuple(code for code, _, _ in found) == codes, found
    assert told in found[1][2] and "Traceback" not in found[1][2]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_two_processes_leave_out_the_same_images(tmp_path):
    """The broken one is in the share of the second; one inside, that both find by decoding."""
    birds = open_source("sketchbirds").train
    for number in range(240):
        folder = tmp_path / "images" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(birds[number]["image"]).save(folder / f"{number:03}.png")
    (tmp_path / "images/a/002.png").write_bytes(b"")
    file = tmp_path / "images/b/007.png"
    content = file.read_bytes()
    file.write_bytes(content[:900] + b"????" + content[904:])
    words = ["--data.source", f"folder:{tmp_path}/images", "--data.classes", 0, "--members", 1]
    words += ["--data.images-per-class", 0, "--epochs", 1, "--data.placement", "host"]
    pair = two_processes(tmp_path / "run", *words)
    assert [code for code, _, _ in pair] == [0, 0], [err for _, _, err in pair]
    assert "left out 1 image of 240" in pair[0][2] and "left out" not in pair[1][2]
    found = results(tmp_path / "run")
    assert [each["name"] for each in found["left_out"]] == ["a/002.png", "b/007.png"]
    assert sum(found["images"].values()) == 238


@pytest.mark.exhaustive
@pytest.mark.slow
def test_devices_may_stand_in_any_order_in_the_mesh_and_share_a_store(single, tmp_path):
    """As on TPU slices: what comes back from a pass over the devices is placed by its row. By
    position every map would be another image's, and the second member's losses others.

    The store has some thirty files of decoded images, which the two fill, and find, together."""
    before = (
        "from fgvc_jax.training.precomputed import squares; squares.FILE = 2**14; "
        "import jax; make = jax.make_mesh; "
        "jax.make_mesh = lambda *a, devices, **k: make(*a, devices=devices[::-1], **k)"
    )
    for code, out, err in two_processes(
        tmp_path / "run", "--save-every", 0, "--data.placement", "store", before=before
    ):
        assert code == 0, out + err
    assert_equal(single, tmp_path / "run")
    assert len(list((tmp_path / "run/precomputed/squares").glob("*/*.npy"))) > 8


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


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("at_once", ["auto", 2])
def test_two_processes_judge_as_one(single, tmp_path, at_once):
    """What nothing is kept for is asked of both, and the first one tells. Two members in one
    program over two processes say what each says alone in one."""
    for name in ("one", "two"):
        shutil.copytree(single, tmp_path / name, ignore=shutil.ignore_patterns("predictions"))
    code, out, err = finish(command("evaluate", "--workdir", tmp_path / "one", "--json"))
    assert code == 0, err
    words = "--workdir", tmp_path / "two", "--json", "--members-at-once", at_once
    together = pair_of("evaluate", *words)
    assert [code for code, _, _ in together] == [0, 0], together
    assert "{" not in together[1][1]
    one, two = (json.loads(text[text.index("{") :]) for text in (out, together[0][1]))
    for name in ("images", "members", "ensemble"):
        assert one[name] == two[name], name
    kept = [sorted((tmp_path / name / "predictions").rglob("*.npy")) for name in ("one", "two")]
    assert [path.name for path in kept[0]] == [path.name for path in kept[1]] and kept[0]
    for path, other in zip(*kept, strict=True):
        np.testing.assert_allclose(np.load(path), np.load(other), rtol=2e-3, atol=2e-3)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("count", [7, 1])
def test_two_processes_answer_for_their_share_of_files(single, tmp_path, count):
    """Also where there is one file, and nothing for the second process."""
    birds = open_source("sketchbirds").test
    for index in range(count):
        Image.fromarray(birds[index]["image"]).save(tmp_path / f"{index}.png")
    (tmp_path / "two").mkdir()
    words = tmp_path, "--workdir", single
    code, _, err = finish(command("predict", *words, "--output", tmp_path / "two/one.csv"))
    assert code == 0, err
    for code, _, err in pair_of("predict", *words, "--output", tmp_path / "two/both.csv"):
        assert code == 0, err

    def rows(*names):
        lines = []
        for name in names:
            with (tmp_path / "two" / name).open(encoding="utf-8") as file:
                lines += csv.DictReader(file)
        return sorted(lines, key=lambda line: line["path"])

    one, both = rows("one.csv"), rows("both-1-of-2.csv", "both-2-of-2.csv")
    assert len(one) == count and [line["path"] for line in one] == [line["path"] for line in both]
    for line, other in zip(one, both, strict=True):
        assert line["class1"] == other["class1"] and not other["error"]
        assert float(line["probability1"]) == pytest.approx(float(other["probability1"]), rel=1e-3)


def test_whole_numbers_of_a_batch_lie_in_one_array():
    rng = np.random.default_rng(0)
    batch = {
        "row": rng.integers(9, size=4, dtype=np.int32),
        "image": rng.integers(256, size=(4, 2, 2, 3), dtype=np.uint8),
        "label": rng.integers(9, size=4, dtype=np.int32),
        "mask": np.array([True, True, True, False]),
        "taught": {"logits": np.ones((4, 3), np.float16)},
    }
    mesh = devices.create_mesh(4)
    placed = devices.shard_batch(mesh, batch)
    assert len(jax.tree.leaves(placed)) == 4
    assert set(placed) == set(batch) and len(placed) == 5
    more = placed | {"features": placed["mask"]}
    assert "features" in more and "features" not in placed
    assert set(more.without("image")) == set(more) - {"image"} and "image" in more
    seen = jax.jit(lambda batch: dict(batch), in_shardings=devices.split(mesh))(more)
    for name, array in {**batch, "features": batch["mask"]}.items():
        jax.tree.map(partial(np.testing.assert_array_equal, strict=True), array, seen[name])
    with pytest.raises(KeyError, match="attention"):
        placed["attention"]


@pytest.mark.slow
def test_a_batch_that_does_not_divide_over_processes_is_told(tmp_path):
    for code, _, err in two_processes(tmp_path / "run", "--batch-size", 6):
        assert code == 2
        assert err == "error: --batch-size 6 does not divide over 4 devices: take a multiple of 4\n"


@pytest.mark.exhaustive
@pytest.mark.slow
def test_hosts_that_do_not_share_the_workdir_are_told(tmp_path):
    """A folder of the same name on each: here the second process looks elsewhere."""
    elsewhere = (
        "import os; from fgvc_jax.utils import processes; processes.SHOWN = 1.0; "
        "os.chdir('two') if os.environ['JAX_PROCESS_ID'] == '1' else None"
    )
    (tmp_path / "two").mkdir()
    for code, _, err in two_processes("run", cwd=tmp_path, before=elsewhere):
        assert code == 2
        assert err == (
            "error: --workdir 'run' is not the same folder for all processes: name one that their "
            "hosts share\n"
        )


@pytest.mark.exhaustive
@pytest.mark.slow
def test_virtual_devices_of_one_cpu_are_left_out_where_a_batch_does_not_divide(tmp_path):
    words = arguments(tmp_path / "run", "--batch-size", 6, "--epochs", 1, "--members", 1)
    code, out, err = finish(command("train", *words, devices=4))
    assert code == 0, err
    assert "; 2 x cpu" in out


def test_a_coordinator_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    monkeypatch.setenv("JAX_PROCESS_ID", "0")
    with pytest.raises(UserError, match="--distributed could not join"):
        processes.join_processes()


def test_sigterm_is_ours_after_processes_have_joined():
    """JAX's preemption service would swallow it: see `join_processes`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    lines = (
        "import os, signal, time",
        "from fgvc_jax.commands import start",
        "from fgvc_jax.utils import processes",
        "def main(_):",
        "    processes.join_processes()",
        "    os.kill(os.getpid(), signal.SIGTERM)",
        "    time.sleep(5)",
        "start.run(main)",
    )
    names = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        env=os.environ | names, cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    told = done.stderr.removeprefix(f"{HEARD}\n")  # on a busy machine
    assert told == "interrupted: what was finished is kept; the same command continues\n"


def test_processes_on_this_host_are_counted_by_name(monkeypatch):
    assert processes.processes_here() == 1
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(
        processes.multihost_utils,
        "process_allgather",
        lambda host: np.array([host, host + 1, host]),
    )
    assert processes.processes_here() == 2
