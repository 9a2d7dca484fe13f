"""`bench.py device`: a dry run of all of it, and that a part's failure is its own."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from benchmarks import compiled, device, onboard  # noqa: E402


class Said:
    """A child that has said so."""

    def __init__(self, rows):
        self.rows = lambda: rows


class Call:
    """Starts children that say, by environment, what they are told to."""

    def __init__(self, ours, theirs):
        self._said = {"": ours, "cpu": theirs}

    def start(self, part, environment=None):
        return Said(self._said[(environment or {}).get("JAX_PLATFORMS", "")])


def row(name, losses, dtype="float32"):
    return {"row": name, "losses": losses, "dtype": dtype}


def test_losses_are_compared_within_what_the_precision_allows():
    call = Call(
        [row("a", [1.0, 2.001]), row("b", [1.01, 2.0]), row("c", [1.01, 2.0], "bfloat16"),
         row("d", [float("nan")]), row("e", [1.0]), {"row": "f", "error": "no memory"}],
        [row("a", [1.0, 2.0]), row("b", [1.0, 2.0]), row("c", [1.0, 2.0], "bfloat16"),
         row("d", [1.0]), row("f", [1.0]), {"error": "its process ended with 1"}],
    )  # fmt: skip
    found = device.losses(call)
    assert [line.get("equal") for line in found[:4]] == [True, False, True, False]
    assert [line.get("error") for line in found[4:]] == [
        "the CPU's is missing", "no memory", "its process ended with 1"
    ]  # fmt: skip
    text = device.section(device.PARTS["losses"], found, "cpu")
    assert "| a | 0.0e+00 | 5.0e-04 | yes |" in " ".join(text.split()) and "f: no memory" in text


def test_a_part_that_raises_says_so():
    def broken(call):
        raise ZeroDivisionError("of nothing")

    rows = device.measured(device.Part("Broken", broken, device.speed_table, 1.0), Call([], []))
    assert device.section(device.PARTS["speed"], rows, "cpu").endswith(
        "the part: ZeroDivisionError: of nothing"
    )


def test_a_process_says_what_is_wrong_and_is_killed_when_its_time_is_up():
    (row,) = device.Child("nothing", {}, 60, {}).rows()
    assert row == {"error": "KeyError: 'nothing'"}
    row = device.Child("describe", {}, 0, {}).rows()[-1]
    assert row == {"error": "stopped after 0 s, as its time was up"}


def test_shares_of_the_peak():
    rows = [
        {"row": "cross entropy", "network": "resnet50", "crop": 448, "batch": 64,
         "images_per_second": 1400.0, "seconds": 0.05, "flop": 989e12 * 0.01, "bytes": 3.35e10,
         "memory": 12e9},
        {"row": "PyTorch", "network": "resnet50", "crop": 448, "batch": 64,
         "images_per_second": 700.0, "seconds": 0.1},
    ]  # fmt: skip
    _, lines = device.speed_table(rows, "NVIDIA H100 80GB HBM3")
    assert [line[1:] for line in lines] == [
        ["1,400", "20%", "20%", "12.0"], ["700", "-", "-", "-"]
    ]  # fmt: skip
    assert device.speed_table(rows, "something new")[1][0][2:4] == ["-", "-"]


def test_the_same_bits_are_asked_of_the_deterministic_mode_alone():
    rows = [
        {"row": name, "digest": digest, "seconds": seconds, "images_per_second": 1 / seconds}
        for name, digest, seconds in (
            ("default", "a", 1.0), ("deterministic", "b", 1.5), ("once more", "c", 1.5)
        )
    ]  # fmt: skip
    _, lines = device.deterministic_table(rows, "")
    assert [line[2:] for line in lines] == [["1.000", "-"], ["1.500", "-"], ["1.500", "NO"]]
    rows[2]["digest"] = "b"
    assert device.deterministic_table(rows, "")[1][2][3] == "yes"


def test_every_row_of_training_steps_is_known():
    """An unknown one would be taken for the textbook's evaluation."""
    for _, _, _, rows in (*onboard.SPEEDS, *onboard.TINY_SPEEDS):
        assert {*rows} <= {*compiled.STEPS, compiled.TEXTBOOK}


@pytest.mark.slow
def test_steps_are_built_without_what_an_image_may_lack():
    lacking = "grain", "tyro", "tensorboardX", "tensorflow_datasets"
    line = (
        f"import sys; sys.modules |= dict.fromkeys({lacking}); sys.path.insert(0, 'scripts'); "
        "import fgvc_jax.training.run; from benchmarks import compiled, device, onboard, ours"
    )
    subprocess.run([sys.executable, "-c", line], cwd=ROOT, check=True)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_dry_run_of_all_of_it(tmp_path):
    words = ["device", "--tiny", "--minutes", "30", "--output", str(tmp_path)]
    subprocess.run(
        [sys.executable, ROOT / "scripts/bench.py", *words], cwd=ROOT, check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    found = json.loads((tmp_path / "device.json").read_text())
    assert list(found["parts"]) == list(device.PARTS) and found["tiny"]
    for name, part in found["parts"].items():
        wrong = [row["error"] for row in part["rows"] if "error" in row]
        if name == "torch" and wrong and "torch is not installed here" in wrong[0]:
            continue
        assert part["rows"] and not wrong, (name, wrong)
    assert all(row["equal"] for row in found["parts"]["losses"]["rows"])
    once, again = found["parts"]["deterministic"]["rows"][1:]
    assert once["digest"] == again["digest"]
    assert found["parts"]["training"]["rows"][-1]["nothing_to_do"]
    steps = [(row["network"], row["row"]) for row in found["parts"]["speed"]["rows"]]
    assert steps == [
        ("resnet50", "textbook flax"),
        ("vit_micro", "cross entropy"), ("vit_micro", "KT, 2 online teachers"),
    ]  # fmt: skip
    assert (tmp_path / "device.md").read_text().count("\n## ") == len(device.PARTS)
