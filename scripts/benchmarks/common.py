"""Options that benchmarks share, and how rows are measured beside each other."""

import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # header, rows


class Asking(Protocol):
    """Another process, see `workers.Worker`."""

    def ask(self, method: str, *arguments: Any, **options: Any) -> Any: ...


@dataclass(frozen=True)
class Common:
    network: str = "resnet18"
    """As --network.name of the training; torch has resnet18, resnet50, resnet50_v1 and timm's."""
    crop: int = 112
    """Side of the square that the network sees."""
    resize: int = 128
    """Side of the decoded images."""
    batch_size: int = 32
    """Images per step."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Precision; auto is bfloat16 on accelerators and float32 on the CPU."""
    repetitions: int = 7
    """Repetitions that count; one before them does not."""
    write: bool = False
    """Put the table into scripts/BENCHMARKS.md, in the place of the one with the same options."""


@dataclass(frozen=True)
class Sliced(Common):
    seconds: float = 3.0
    """Length of a timed slice."""


@dataclass(frozen=True)
class Sourced(Common):
    source: str = "sketchbirds"
    """As --data.source of the training, as the next two."""
    classes: int = 20
    images_per_class: int = 0


@dataclass(frozen=True)
class Versus:
    versus: Literal["none", "torch"] = "none"
    """Measure the published training in PyTorch (scripts/torch_kt.py) as well."""
    torch_python: str = ""
    """Python that has torch, if it is not this one."""


def measure(calls: dict[Any, Callable[[], dict]], spec: Common) -> dict[Any, list[dict]]:
    """Call every row once per repetition, back and forth: {row: its results but the first}."""
    found: dict[Any, list[dict]] = {row: [] for row in calls}
    for repetition in range(spec.repetitions + 1):
        for row in list(calls)[:: -1 if repetition % 2 else 1]:
            found[row].append(calls[row]())
        print(f"repetition {repetition} of {spec.repetitions}", file=sys.stderr)
    return {row: results[1:] for row, results in found.items()}


def slices(worker: Asking, row: str, spec: Sliced) -> Callable[[], dict]:
    """Runs of a row that last about `spec.seconds`; compiles it first. Seconds are per step."""
    worker.ask("run", row, steps=1)
    seconds = worker.ask("run", row, steps=2)["seconds"]
    return partial(worker.ask, "run", row, steps=max(1, round(spec.seconds / seconds)))


def ratios(values: Iterable[float], base: Iterable[float]) -> list[float]:
    """values / base, repetition by repetition."""
    return [value / other for value, other in zip(values, base, strict=True)]


def spread(values: Sequence[float], form: str = ".3f") -> str:
    """median [first quartile, third quartile]."""
    several = values if len(values) > 1 else [*values, *values]
    low, middle, high = statistics.quantiles(several, n=4, method="inclusive")
    return f"{middle:{form}} [{low:{form}}, {high:{form}}]"
