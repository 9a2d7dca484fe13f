"""The training step on one batch that is on the device."""

import time
from dataclasses import dataclass
from typing import Any

from benchmarks.common import Sliced, Table, Versus, measure, ratios, slices, spread
from benchmarks.experiments import experiment, torch_options
from benchmarks.ours import make_run, random_batch
from benchmarks.workers import Worker


@dataclass(frozen=True)
class Step(Versus, Sliced):
    """The training step on one batch that is on the device."""

    teachers: tuple[int, ...] = (1, 4)
    """Rows of KT with so many online teachers."""


def table(spec: Step, workers: dict[str, Worker]) -> Table:
    """Images per second: cross entropy, KT with precomputed maps, KT with online teachers."""
    plain = "cross entropy"
    rows = {
        plain: {"transfer": "none"},
        "KT, precomputed maps": {"maps": "precomputed"},
        **{f"KT, {n} online teachers": {"maps": "online", "members": n + 1} for n in spec.teachers},
    }
    published = [name for name, row in rows.items() if row.get("maps") != "precomputed"]
    for name, row in rows.items():
        dtype = workers["jax"].ask("build", "step", name, experiment=experiment(spec, **row))
    if "torch" in workers:
        for name in published:  # online teachers are all that the publication has
            teachers = rows[name].get("members", 1) - 1
            workers["torch"].ask(
                "build", "step", name, **torch_options(spec, dtype), teachers=teachers
            )

    sides = [("jax", name) for name in rows]
    sides += [("torch", name) for name in published if "torch" in workers]
    found = measure({side: slices(workers[side[0]], side[1], spec) for side in sides}, spec)
    seconds = {side: [value["seconds"] for value in values] for side, values in found.items()}

    def line(name: str) -> list[str]:
        ours, theirs = seconds["jax", name], seconds.get(("torch", name))
        rate = spread([spec.batch_size / value for value in ours], ".1f")
        cells = [name, rate, spread(ratios(ours, seconds["jax", plain]))]
        if "torch" in workers:
            cells.append(spread(ratios(theirs, ours)) if theirs else "-")
        return cells

    header = ["training step", "images/s", "time / cross entropy"]
    header += ["speed / torch's same step"] if "torch" in workers else []
    return header, [line(name) for name in rows]


class Ours:
    """The training step of the last member of an experiment."""

    def __init__(self, experiment: dict[str, Any]):
        import numpy as np

        run = make_run(experiment)
        spec = run.experiment
        frozen = [run.start.variables(number) for number in range(1, spec.members)]
        self._state = run.state(spec.members, frozen)
        member = run.plan(1)
        plan = member.architecture
        self._step, self.dtype = member.train_step, spec.network.dtype
        looked_up = {}
        if spec.transfer.name == "orthogonal" and spec.transfer.maps == "precomputed":
            looked_up["attention"] = np.ones((spec.batch_size, *plan.grid), np.float32)
        self._batch = random_batch(run, **looked_up)
        self._beside = None, *run.shared  # no images are stored on the devices

    def run(self, steps: int) -> dict[str, float]:
        import jax

        began = time.perf_counter()
        for _ in range(steps):
            self._state, metrics = self._step(self._state, self._batch, *self._beside)
        jax.block_until_ready(metrics)
        return {"seconds": (time.perf_counter() - began) / steps}

    def losses(self, steps: int) -> list[float]:
        """Of so many further steps."""
        found = []
        for _ in range(steps):
            self._state, metrics = self._step(self._state, self._batch, *self._beside)
            found.append(metrics["loss"])
        return [float(loss) for loss in found]

    def digest(self) -> str:
        """Of the variables as they are now."""
        from fgvc_jax.utils import digests

        return digests.of_arrays(self._state.variables)
