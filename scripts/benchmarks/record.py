"""Tables in scripts/BENCHMARKS.md, one section for each benchmark and its options."""

import dataclasses
import os
import platform
import re
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parents[1] / "BENCHMARKS.md"
HEADING = "# Benchmarks\n\nWritten by `scripts/bench.py ... --write`, a section for each call.\n"


def options(spec: Any) -> str:
    """What was asked for, without where things are on this machine."""
    chosen = dataclasses.asdict(spec)
    for name in ("torch_python", "write", "json", "folder", "minutes"):
        chosen.pop(name, None)
    if "source" in chosen:
        chosen["source"] = chosen["source"].partition(":")[0]
    for name, value in chosen.items():
        if isinstance(value, tuple):
            chosen[name] = "; ".join(map(str, value))
    return " ".join(f"{key}={value}" for key, value in chosen.items())


def processor() -> str:
    """The name of this machine's CPU, and its number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def write(title: str, body: str, path: Path = BENCHMARKS) -> None:
    """Put a section into the file: in the place of the one with the same title, else at the end."""
    text = path.read_text() if path.exists() else HEADING
    parts = re.split(r"^## ", text, flags=re.MULTILINE)
    sections = dict(part.split("\n", 1) for part in parts[1:])
    sections[title] = f"\n{body}\n"
    rest = [f"## {name}\n{content.rstrip()}\n" for name, content in sections.items()]
    path.write_text("\n".join([parts[0].rstrip() + "\n", *rest]))
