"""What an ensemble answers for a batch of images, one by one and in one program."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.common import Sliced, Table, measure, ratios, slices, spread
from benchmarks.experiments import experiment
from benchmarks.ours import make_run, random_batch
from benchmarks.workers import Worker

ONE, TOGETHER = "one network", "in one program: "


@dataclass(frozen=True)
class Ensemble(Sliced):
    """What an ensemble answers for a batch of images: whole networks, and behind a shared trunk;
    one by one, and in one program."""

    members: tuple[int, ...] = (2, 5)
    """Networks in the ensemble."""
    frozen: tuple[str, ...] = ("", "stage4")
    """As --network.frozen of the training: where a trunk that they share ends; empty: they share
    none."""
    json: bool = False
    """Print one JSON object instead of a table."""

    @property
    def cases(self) -> dict[str, tuple[int, str]]:
        """(members, frozen) of each row."""
        return {
            f"{members} {f'behind {frozen}' if frozen else 'whole networks'}": (members, frozen)
            for frozen in self.frozen
            for members in self.members
        }


def rows(spec: Ensemble, workers: dict[str, Worker]) -> list[dict[str, Any]]:
    """{"row", "time": median seconds a batch, one by one, "ratio": that to one network's,
    "together": seconds of one program to those, "flop": of a batch, "bytes", "auto": how members
    are asked where nobody says it} of each."""
    worker = workers["jax"]

    def build(row: str, members: int, frozen: str, at_once: int) -> str:
        options = experiment(spec, transfer="none", members=members)
        options["network"]["frozen"] = frozen
        worker.ask("build", "ensemble", row, experiment={**options, "members_at_once": at_once})
        return row

    built = [build(ONE, 1, "", 1)]
    for name, (members, frozen) in spec.cases.items():
        built.append(build(name, members, frozen, 1))
        built.append(build(TOGETHER + name, members, frozen, members))
    found = measure({name: slices(worker, name, spec) for name in built}, spec)
    seconds = {name: [value["seconds"] for value in values] for name, values in found.items()}
    return [
        {
            "row": name,
            "time": statistics.median(seconds[name]),
            "ratio": ratios(seconds[name], seconds[ONE]),
            "together": ratios(seconds.get(TOGETHER + name, seconds[name]), seconds[name]),
            **{counted: found[name][0][counted] for counted in ("flop", "bytes", "auto")},
        }
        for name in (ONE, *spec.cases)
    ]


def table_of(found: Sequence[dict[str, Any]]) -> Table:
    """Rows as text."""
    one = found[0]
    relative = [f"{what} / one network" for what in ("time", "FLOP", "variables")]
    header = ["answers", "seconds a batch", *relative, "in one program / one by one", "auto"]
    return header, [
        [
            row["row"],
            f"{row['time']:.4f}",
            spread(row["ratio"]),
            *(f"{row[counted] / one[counted]:.2f}" for counted in ("flop", "bytes")),
            *((spread(row["together"]), row["auto"]) if row is not one else "--"),
        ]
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

        from fgvc_jax.inference.together import at_once
        from fgvc_jax.utils import devices

        run = make_run(experiment)
        numbers = range(1, run.experiment.members + 1)
        members = [
            run.member(n, devices.replicate(run.mesh, run.start.variables(n))) for n in numbers
        ]
        self._model = run.model(members, [str(number) for number in numbers])
        mask = np.ones(run.experiment.batch_size, bool)
        self._batch, self.dtype = random_batch(run, mask=mask), run.experiment.network.dtype
        kept = [self._model.trunk, *(member.variables for member in members)]
        self._bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(kept))
        self._flop = flop(run)
        several = at_once("auto", run.plan(1).architecture.network, run.mesh) > 1
        self._auto = TOGETHER.strip(": ") if several else "one by one"

    def run(self, steps: int) -> dict[str, Any]:
        import jax

        began = time.perf_counter()
        for _ in range(steps):
            jax.block_until_ready(list(self._model.answers([self._batch], None)))
        seconds = (time.perf_counter() - began) / steps
        counted = {"flop": self._flop, "bytes": self._bytes, "auto": self._auto}
        return {"seconds": seconds, **counted}


def flop(run: Any) -> float:
    """Of the answers for a batch as they are written: the trunk once, every member's part."""
    import jax
    import jax.numpy as jnp

    plan, spec = run.plan(1).architecture, run.experiment
    images = jax.ShapeDtypeStruct((spec.batch_size, *2 * (spec.data.crop,), 3), jnp.float32)

    def trunk(variables, images):
        return plan.network.apply(variables, images, method="features")

    def member(variables, inputs):
        return plan.network.apply(variables, inputs, False)

    def cost(part, *shapes):
        return jax.jit(part).lower(*shapes).cost_analysis()["flops"]

    shared = cost(trunk, plan.trunk, images) if plan.trunk else 0.0
    inputs = jax.eval_shape(trunk, plan.trunk, images)
    return shared + spec.members * cost(member, plan.variables, inputs)
