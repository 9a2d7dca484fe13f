"""What Python does in a step: the processor time of its threads, beside the device's work."""

import tempfile
import threading
import time
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.common import Sourced, Table, measure, spread
from benchmarks.experiments import experiment
from benchmarks.ours import make_run
from benchmarks.workers import Worker

STEP = 0.05  # seconds of a fast step on an accelerator, of which Python's part is told


@dataclass(frozen=True)
class Python(Sourced):
    """What Python does in a step: the processor time of the main thread and of the loader's."""

    network: str = "resnet_micro"
    """As --network.name of the training: a tiny one, so that Python has to keep up."""
    crop: int = 32
    resize: int = 36
    batch_size: int = 8
    classes: int = 4
    steps: int = 500
    """Steps that are timed in a repetition, after a fifth of them that are not."""


def table(spec: Python, workers: dict[str, Worker]) -> Table:
    """Milliseconds a step, and their share of one that takes STEP."""
    chosen = experiment(spec, transfer="none")
    workers["jax"].ask("build", "python", "", experiment=chosen)
    found = measure({"": partial(workers["jax"].ask, "run", "", steps=spec.steps)}, spec)[""]

    def line(name: str) -> list[str]:
        seconds = [value[name] for value in found]
        share = spread([100 * value / STEP for value in seconds], ".2f")
        return [name, spread([1000 * value for value in seconds]), share]

    return ["of a step", "milliseconds", f"% of {1000 * STEP:.0f} ms"], [*map(line, found[0])]


class Ours:
    """The loop that trains a member, batches, journal and all."""

    def __init__(self, experiment: dict[str, Any]):
        self._run = make_run(experiment)
        self.dtype = self._run.experiment.network.dtype

    def run(self, steps: int) -> dict[str, float]:
        """Seconds a step: of the main thread, of the other threads of Python that still live at the
        end (loader's, journal's), both on the processor, and by the clock."""
        from fgvc_jax.training import loop, summary
        from fgvc_jax.utils.signals import Deferred

        run, store = self._run, self._run.images["train"].store
        compiled, numbers, marks = run.plan(1).train_step, count(), []
        first = steps // 5

        def train_step(state, batch):
            if next(numbers) in (first, first + steps):
                marks.append((time.perf_counter(), time.thread_time(), others()))
            return compiled(state, run.cache.complete(batch), store)

        epochs = -(-(first + steps + 1) // run.steps_per_epoch)
        with tempfile.TemporaryDirectory() as folder, Deferred() as asked:
            loop.train_loop(
                run.state(1, []),
                folder=Path(folder),
                title="python",
                train_step=train_step,
                train_batches=lambda start: run.train_batches(1, start),
                evaluate=lambda variables, position: {},
                mesh=run.mesh,
                pace=loop.Pace(
                    epochs=epochs,
                    steps_per_epoch=run.steps_per_epoch,
                    batch_size=run.experiment.batch_size,
                    evaluate_every=epochs,
                    save_every=epochs * run.steps_per_epoch + 1,  # never: a save is no step's
                    log_every=run.experiment.log_every,
                ),
                report=summary.ignore,
                asked=asked,
            )
        (wall, main, before), (wall_after, main_after, after) = marks
        loader = sum(seconds - before.get(thread, 0.0) for thread, seconds in after.items())
        return {
            "main thread": (main_after - main) / steps,
            "loader's threads": loader / steps,
            "by the clock": (wall_after - wall) / steps,
        }


def others() -> dict[int, float]:
    """Processor seconds of every thread of Python but this one."""
    this = threading.get_ident()
    return {
        thread.ident: time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
        for thread in threading.enumerate()
        if thread.ident != this
    }
