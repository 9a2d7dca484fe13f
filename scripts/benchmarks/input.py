"""How long a step waits for its batch."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.common import Sourced, Table, measure, ratios, spread
from benchmarks.experiments import experiment
from benchmarks.ours import make_run, random_batch
from benchmarks.workers import Worker


@dataclass(frozen=True)
class Input(Sourced):
    """How long a step waits for its batch after the first epoch, by placement of the images."""


def table(spec: Input, workers: dict[str, Worker]) -> Table:
    """Share of an epoch that the device had nothing to do, and images/s beside a resident batch."""
    rows = ["resident batch", "stream", "store", "host", "device"]
    with tempfile.TemporaryDirectory() as cache:
        for name in rows:
            placement = {"placement": name} if name != rows[0] else {}
            chosen = experiment(spec, transfer="none", cache=cache, **placement)
            workers["jax"].ask("build", "input", name, experiment=chosen, resident=name == rows[0])
        found = measure({name: partial(workers["jax"].ask, "run", name) for name in rows}, spec)
    base = [value["seconds"] for value in found[rows[0]]]

    def line(name: str) -> list[str]:
        waits = spread([100 * value["waiting"] for value in found[name]], ".2f")
        seconds = [value["seconds"] for value in found[name]]
        speed = spread([spec.batch_size / each for each in seconds], ".0f")
        return [name, waits, speed, spread(ratios(seconds, base))]

    header = ["images are", "% of the time waiting", "images/s", "time / resident batch"]
    return header, [*map(line, rows)]


class Ours:
    """Epochs of training as the loop has them, each from its own place in the pipeline."""

    def __init__(self, experiment: dict[str, Any], resident: bool):
        self._run = make_run(experiment)
        self._run.cache.prepare(1, None, print)  # the store, where images are there
        self._state = self._run.state(1, [])
        self._resident = random_batch(self._run) if resident else None
        self._epoch = 0
        self.dtype = self._run.experiment.network.dtype

    def run(self, settle: int = 8) -> dict[str, float]:
        """One epoch, timed after `settle` steps that fill the queues.

        Returns seconds per step, and the share of the time that went into waiting for a batch which
        came after the device had finished the step before: an upper bound of its idleness.
        """
        import jax

        run, waited = self._run, 0.0
        batches = self._batches()
        batch = next(batches)
        for index in range(settle + run.steps_per_epoch):
            if index == settle:
                began, waited = time.perf_counter(), 0.0
            store = None if self._resident else run.images["train"].store
            self._state, metrics = run.plan(1).train_step(self._state, batch, store)
            asked = time.perf_counter()
            batch = next(batches)
            if metrics["loss"].is_ready():
                waited += time.perf_counter() - asked
            jax.block_until_ready(metrics)
        seconds = time.perf_counter() - began
        self._epoch += 1
        return {"seconds": seconds / run.steps_per_epoch, "waiting": waited / seconds}

    def _batches(self) -> Iterator[dict[str, Any]]:
        from fgvc_jax.data.feed import ahead
        from fgvc_jax.utils.devices import shard_batch

        if self._resident:
            while True:
                yield self._resident
        start = self._epoch * self._run.steps_per_epoch
        yield from ahead(self._run.train_batches(1, start), partial(shard_batch, self._run.mesh))
