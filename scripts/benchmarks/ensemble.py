"""What an ensemble answers for a batch of images, with whole networks and on a shared trunk."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.common import Sliced, Table, measure, ratios, slices, spread
from benchmarks.experiments import experiment
from benchmarks.ours import make_run, random_batch
from benchmarks.workers import Worker

ONE = "one network"


@dataclass(frozen=True)
class Ensemble(Sliced):
    """What an ensemble answers for a batch of images, with whole networks and on a shared trunk."""

    members: int = 5
    """Networks in the ensemble."""
    frozen: str = "stage4"
    """As --network.frozen of the training: where the shared trunk ends."""
    json: bool = False
    """Print one JSON object instead of a table."""


def rows(spec: Ensemble, workers: dict[str, Worker]) -> list[dict[str, Any]]:
    """{"row", "time": median seconds a batch, "ratio": that to one network's, "bytes"} of each."""
    chosen = {
        ONE: (1, ""),
        "whole networks": (spec.members, ""),
        "shared trunk": (spec.members, spec.frozen),
    }
    worker = workers["jax"]
    for name, (members, frozen) in chosen.items():
        options = experiment(spec, transfer="none", members=members)
        options["network"]["frozen"] = frozen
        worker.ask("build", "ensemble", name, experiment=options)
    found = measure({name: slices(worker, name, spec) for name in chosen}, spec)
    seconds = {name: [value["seconds"] for value in values] for name, values in found.items()}
    return [
        {
            "row": name,
            "time": statistics.median(seconds[name]),
            "ratio": ratios(seconds[name], seconds[ONE]),
            "bytes": found[name][0]["bytes"],
        }
        for name in chosen
    ]


def table_of(found: Sequence[dict[str, Any]]) -> Table:
    """Rows as text."""
    one = found[0]["bytes"]
    header = ["answers", "seconds a batch", "time / one network", "variables / one network"]
    return header, [
        [row["row"], f"{row['time']:.3f}", spread(row["ratio"]), f"{row['bytes'] / one:.2f}"]
        for row in found
    ]


def table(spec: Ensemble, workers: dict[str, Worker]) -> Table:
    """The same, measured now."""
    return table_of(rows(spec, workers))


class Ours:
    """The answers of all members of an experiment for one batch, on random weights."""

    def __init__(self, experiment: dict[str, Any]):
        import jax
        import numpy as np

        from fgvc_jax.engine import mesh

        run = make_run(experiment)
        numbers = range(1, run.experiment.members + 1)
        members = [run.member(n, mesh.replicate(run.mesh, run.start.variables(n))) for n in numbers]
        self._model = run.model(members, [str(number) for number in numbers])
        mask = np.ones(run.experiment.batch_size, bool)
        self._batch, self.dtype = random_batch(run, mask=mask), run.experiment.network.dtype
        kept = [self._model.trunk, *(member.variables for member in members)]
        self._bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(kept))

    def run(self, steps: int) -> dict[str, float]:
        import jax

        began = time.perf_counter()
        for _ in range(steps):
            jax.block_until_ready(list(self._model.answers([self._batch], None)))
        return {"seconds": (time.perf_counter() - began) / steps, "bytes": self._bytes}
