"""What a GPU or TPU at hand does: whether it computes what the CPU computes, how fast, and how much
of it is used. `onboard.py` has what the parts do."""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import Table
from fgvc_jax.utils.text import markdown_table

BENCH = Path(__file__).resolve().parents[1] / "bench.py"
Rows = list[dict[str, Any]]
# What is needed beside jax and flax, where it is imported, and by which part alone; "": by all.
PACKAGES = {
    "optax": "", "orbax-checkpoint": "", "numpy": "", "pillow": "", "safetensors": "",
    "scipy": "", "tqdm": "", "grain": "input training", "tyro": "training",
    "tensorboardX": "training",
}  # fmt: skip
# Largest relative difference of a loss: in the first step, and in ten. From the second on batch
# norm over eight images amplifies what the last bits say.
ALLOWED = {"float32": (1e-4, 1e-2), "bfloat16": (2e-2, 5e-2)}
# bfloat16 FLOP/s without sparsity and bytes/s, as the makers state them.
PEAKS = {
    "H200": (989e12, 4.8e12),
    "H100 PCIe": (756e12, 2.0e12),
    "H100": (989e12, 3.35e12),
    "A100-SXM4-80GB": (312e12, 2.04e12),
    "A100": (312e12, 1.56e12),
    "L4": (121e12, 0.3e12),
    "TPU v4": (275e12, 1.23e12),
    "TPU v5 lite": (197e12, 0.82e12),
    "TPU v5e": (197e12, 0.82e12),
    "TPU v5p": (459e12, 2.77e12),
    "TPU v5": (459e12, 2.77e12),
    "TPU v6": (918e12, 1.64e12),
}
DESCRIBED = 120.0  # seconds within which the devices must answer
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


@dataclass(frozen=True)
class Device:
    """What was asked for on the command line."""

    minutes: float
    parts: tuple[str, ...]
    tiny: bool
    torch_python: str
    output: Path


class Child:
    """A process that says rows as it finds them, and is killed when its time is up."""

    def __init__(self, part: str, options: dict[str, Any], seconds: float, environment: dict):
        self._seconds, self._late = max(seconds, 0.0), False
        self._process = subprocess.Popen(
            [sys.executable, str(BENCH), "part", part, json.dumps(options)],
            stdout=subprocess.PIPE, text=True, env=os.environ | environment,
            start_new_session=True,  # so that what it starts is killed as well
        )  # fmt: skip
        self._timer = threading.Timer(self._seconds, self._expire)
        self._timer.start()

    def _expire(self) -> None:
        self._late = True
        self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def rows(self) -> Rows:
        """All that it says until it ends; the last says why it ended, where that was too early."""
        found: Rows = []
        try:
            for line in self._process.stdout:
                with contextlib.suppress(ValueError):  # half a line of a process that was killed
                    found.append(json.loads(line))
            code = self._process.wait()
        finally:
            self._timer.cancel()
            self._kill()  # what is left of it, or all of it where this was interrupted
        if self._late:
            found.append({"error": f"stopped after {self._seconds:.0f} s, as its time was up"})
        elif code:
            found.append({"error": f"its process ended with {code}: what it said is above"})
        return found


@dataclass(frozen=True)
class Call:
    """What a part is given: how to start its processes, and until when they may run."""

    tiny: bool
    torch_python: str
    until: float  # of time.monotonic()

    def start(self, part: str, environment: dict[str, str] | None = None, **more: Any) -> Child:
        seconds = self.until - time.monotonic()
        return Child(part, {"tiny": self.tiny, **more}, seconds, environment or {})


# -- the parts: rows, and the table that they make -------------------------------------------------


def losses(call: Call) -> Rows:
    """Each row with what the CPU says, and whether they are equal within the precision."""
    ours = call.start("losses").rows()
    theirs = call.start("losses", {"JAX_PLATFORMS": "cpu"}).rows()
    expected = {row["row"]: row for row in theirs if "row" in row}
    for row in ours:
        other = expected.get(row.get("row"), {"error": "the CPU's is missing"})
        if "error" in row or "error" in other:
            row.setdefault("error", other.get("error"))
            continue
        differences = [
            abs(a - b) / max(abs(b), 1e-6)
            for a, b in zip(row["losses"], other["losses"], strict=True)
        ]
        first, most = ALLOWED[row["dtype"]]
        row |= {"cpu": other["losses"], "first": differences[0], "largest": max(differences)}
        row["equal"] = bool(row["first"] <= first and row["largest"] <= most)  # never for NaN
    return ours + [row for row in theirs if "row" not in row]


def losses_table(rows: Rows, _kind: str) -> Table:
    header = ["ten steps", "first loss off by", "largest", "equal to the CPU's"]
    return header, [
        [
            row["row"],
            f"{row['first']:.1e}",
            f"{row['largest']:.1e}",
            "yes" if row["equal"] else "NO",
        ]
        for row in rows
    ]


def speed(call: Call) -> Rows:
    return call.start("speed").rows()


def torch(call: Call) -> Rows:
    if not call.torch_python and importlib.util.find_spec("torch") is None:
        return [{"error": "torch is not installed here: name a Python that has it, --torch-python"}]
    leaving = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # the memory is torch's
    return call.start("torch", leaving, python=call.torch_python).rows()


def speed_table(rows: Rows, kind: str) -> Table:
    arithmetic, bandwidth = peak(kind)

    def share(row: dict[str, Any], what: str, most: float) -> str:
        used = row.get(what)
        return f"{used / row['seconds'] / most:.0%}" if used and most else "-"

    header = ["training step", "images/s", "of peak FLOP/s", "of peak bytes/s", "memory, GB"]
    return header, [
        [
            f"{row['network']}, {row['crop']} px, {row['batch']} images: {row['row']}",
            f"{row['images_per_second']:,.0f}",
            share(row, "flop", arithmetic),
            share(row, "bytes", bandwidth),
            f"{row['memory'] / 1e9:.1f}" if "memory" in row else "-",
        ]
        for row in rows
        if "row" in row
    ]


def peak(kind: str) -> tuple[float, float]:
    """(FLOP/s, bytes/s) of a kind of device; zeros for one that is not known."""
    return next((most for name, most in PEAKS.items() if name in kind), (0.0, 0.0))


def waiting(call: Call) -> Rows:
    return call.start("input").rows()


def waiting_table(rows: Rows, _kind: str) -> Table:
    return ["images are", "images/s", "of the time waiting"], [
        [row["row"], f"{row['images_per_second']:,.0f}", f"{row['waiting']:.1%}"] for row in rows
    ]


def deterministic(call: Call) -> Rows:
    """The same ten steps as they are, and twice in XLA's deterministic mode."""
    flags = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip()}
    found: Rows = []
    for name, environment in (("default", {}), ("deterministic", flags), ("once more", flags)):
        found += [{"row": name, **row} for row in call.start("deterministic", environment).rows()]
    return found


def deterministic_table(rows: Rows, _kind: str) -> Table:
    base = {row["row"]: row for row in rows}
    once, default = base.get("deterministic"), base.get("default")

    def line(row: dict[str, Any]) -> list[str]:
        same = once and row is not once and row["digest"] == once["digest"]
        price = f"{row['seconds'] / default['seconds']:.3f}" if default else "-"
        bits = "-" if row is once or row is default or not once else "yes" if same else "NO"
        return [row["row"], f"{row['images_per_second']:,.0f}", price, bits]

    return ["ten steps", "images/s", "time / default", "same bits"], [line(row) for row in rows]


def training(call: Call) -> Rows:
    return call.start("training").rows()


def training_table(rows: Rows, _kind: str) -> Table:
    def line(row: dict[str, Any]) -> list[str]:
        if row["row"] == "again":
            said = "nothing to do" if row["nothing_to_do"] else "IT TRAINED AGAIN"
            return [said, f"{row['seconds']:.0f}", "-", "-", "-"]
        rate = row["images_per_second"]
        return [
            f"two members, chance {row['chance']:.1%}",
            f"{row['seconds']:.0f}",
            " ".join(f"{accuracy:.1%}" for accuracy in row["members"]),
            f"{row['ensemble'][-1]:.1%}",
            f"{rate:,.0f}" if rate else "-",
        ]

    header = ["python -m fgvc_jax.train", "seconds", "members", "ensemble", "images/s"]
    return header, [line(row) for row in rows]


@dataclass(frozen=True)
class Part:
    title: str
    measure: Callable[[Call], Rows]
    table: Callable[[Rows, str], Table]
    share: float  # of the time; what one leaves goes to those after it


PARTS = {
    "losses": Part("Losses beside the CPU's", losses, losses_table, 0.24),
    "speed": Part("Training steps", speed, speed_table, 0.34),
    "torch": Part("PyTorch's training steps", torch, speed_table, 0.12),
    "input": Part("Waiting for images", waiting, waiting_table, 0.1),
    "deterministic": Part("Deterministic mode", deterministic, deterministic_table, 0.1),
    "training": Part("A run of KT", training, training_table, 0.1),
}


# -- the whole -------------------------------------------------------------------------------------


def main(arguments: list[str]) -> None:
    """Say what is missing, then measure part by part; what is known is written after each."""
    asked = parse(arguments)
    until = time.monotonic() + 60 * asked.minutes
    absent = missing()
    for package, parts in absent.items():
        print(f"missing: {package}, which {parts or 'every part'} needs (pip install {package})")
    about = Child("describe", {}, DESCRIBED, {}).rows()[0]
    if "error" in about:
        from fgvc_jax.utils.errors import UserError

        raise UserError(f"JAX finds no device ({about['error']})")
    tiny = asked.tiny or about["platform"] == "cpu"
    said = f"{about['count']} x {about['kind']}; {about['versions']}"
    said += "; tiny sizes: their numbers mean nothing" if tiny else ""
    print(said, flush=True)
    found: dict[str, Any] = {"device": about, "tiny": tiny, "missing": sorted(absent), "parts": {}}
    text = [f"# {said}"]
    left = math.fsum(PARTS[name].share for name in asked.parts)
    for name in asked.parts:
        part = PARTS[name]
        now = time.monotonic()
        share, left = part.share / left, left - part.share
        needs = [package for package, parts in absent.items() if name in (parts or name).split()]
        if needs:
            rows: Rows = [{"error": f"needs {', '.join(needs)}"}]
        else:
            rows = measured(part, Call(tiny, asked.torch_python, now + share * (until - now)))
        found["parts"][name] = {"rows": rows, "seconds": time.monotonic() - now}
        text.append(section(part, rows, about["kind"]))
        print(f"\n{text[-1]}", flush=True)
        write(asked.output, found, text)
    print(f"\nwritten: {asked.output / 'device.json'}, {asked.output / 'device.md'}")


def parse(arguments: list[str]) -> Device:
    """With argparse, since tyro may be what is missing."""
    from fgvc_jax.utils.errors import UserError

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> None:
            raise UserError(f"{message}; --help lists the options")

    parser = Parser("bench.py device", description=__doc__)
    parser.add_argument("--minutes", type=float, default=9.0, help="that all may take")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="which, in this order"
    )
    parser.add_argument("--tiny", action="store_true", help="a dry run, as always on a CPU")
    parser.add_argument("--torch-python", default="", help="a Python that has torch, if not this")
    parser.add_argument("--output", type=Path, default=Path("runs/device"), help="a folder")
    asked = Device(**vars(parser.parse_args(arguments)))
    if not 0 < asked.minutes < math.inf:
        raise UserError(f"--minutes is {asked.minutes}: it must be above 0")
    return asked


def missing() -> dict[str, str]:
    """Packages that are not installed: the parts that need them, "" for all."""
    installed = {
        (dist.name or "").lower().replace("_", "-") for dist in importlib.metadata.distributions()
    }
    return {name: parts for name, parts in PACKAGES.items() if name.lower() not in installed}


def measured(part: Part, call: Call) -> Rows:
    """A part's rows; a part that fails says so and leaves the others alone."""
    try:
        return part.measure(call)
    except Exception as error:  # of any kind
        return [{"error": f"{type(error).__name__}: {error}"}]


def section(part: Part, rows: Rows, kind: str) -> str:
    """A part's heading, its table and what went wrong."""
    lines = [f"## {part.title}"]
    lines += [f"{row['described']}" for row in rows if "described" in row]
    good = [row for row in rows if "row" in row and "error" not in row]
    if good:
        lines.append(markdown_table(*part.table(good, kind)))
    trouble = (row for row in rows if "error" in row)
    lines += [f"{row.get('row', 'the part')}: {row['error']}" for row in trouble]
    return "\n\n".join(lines)


def write(folder: Path, found: dict[str, Any], text: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "device.json").write_text(json.dumps(found, indent=2) + "\n")
    (folder / "device.md").write_text("\n\n".join(text) + "\n")
