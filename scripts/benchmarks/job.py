"""Whole ensembles, as the command `train` makes them."""

import contextlib
import io
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import Sourced, Table, Versus, measure, ratios, spread
from benchmarks.experiments import experiment, torch_options, write_images
from benchmarks.ours import make_run
from benchmarks.workers import Worker


@dataclass(frozen=True)
class Job(Versus, Sourced):
    """Whole ensembles: reading, training, transfer, evaluation, checkpoints. Programs come compiled
    from the cache; what is left of starting up is counted."""

    members: tuple[int, ...] = (5,)
    """Sizes of the ensembles."""
    epochs: int = 5
    """Epochs per member."""
    online: bool = True
    """A row with online teachers, the one that takes longest."""
    views: tuple[int, ...] = (0, 1)
    """Rows with precomputed maps of so many views; 0 is one per epoch, which is exact."""


def table(spec: Job, workers: dict[str, Worker]) -> Table:
    """Wall time of ensembles, relative to as many plain members and to torch's KT ensemble."""
    kinds = {
        "cross entropy": {"transfer": "none"},
        **({"KT, online teachers": {"maps": "online"}} if spec.online else {}),
        **{views_name(n): {"maps": "precomputed", "views": n} for n in spec.views},
    }
    rows = {(n, kind): row for n in spec.members for kind, row in kinds.items()}
    for (members, kind), row in rows.items():
        chosen = experiment(spec, members=members, epochs=spec.epochs, **row)
        dtype = workers["jax"].ask("build", "job", f"{members} {kind}", experiment=chosen)
    calls = {row: partial(workers["jax"].ask, "run", f"{row[0]} {row[1]}") for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        if "torch" in workers:
            write_images(spec, Path(folder))
            for members in spec.members:
                workers["torch"].ask(
                    "build", "job", str(members), **torch_options(spec, dtype), folder=folder,
                    members=members, epochs=spec.epochs,
                )  # fmt: skip
                calls[members, "torch"] = partial(workers["torch"].ask, "run", str(members))
        found = measure(calls, spec)
    seconds = {row: [value["seconds"] for value in values] for row, values in found.items()}

    def line(row: tuple[int, str]) -> list[str]:
        members, kind = row
        cells = [f"{members} x {kind}", spread(seconds[row], ".1f")]
        cells.append(spread(ratios(seconds[row], seconds[members, "cross entropy"])))
        if "torch" in workers:
            cells.append(spread(ratios(seconds[row], seconds[members, "torch"])))
        return cells

    header = ["job", "seconds", "time / plain members"]
    header += ["time / torch's KT"] if "torch" in workers else []
    return header, [line(row) for row in calls]


def views_name(views: int) -> str:
    return f"KT, precomputed, V={views}" if views else "KT, precomputed, exact"


class Ours:
    """The command `train` on a new workdir."""

    def __init__(self, experiment: dict[str, Any]):
        self._experiment = experiment
        self.dtype = make_run(experiment).experiment.network.dtype

    def run(self) -> dict[str, float]:
        from fgvc_jax import config
        from fgvc_jax.training.members import train

        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            chosen = config.from_dict(self._experiment | {"workdir": folder})
            began = time.perf_counter()
            train(chosen)
            return {"seconds": time.perf_counter() - began}
