"""Measures what training and inference cost, as ratios with their spread.

    python scripts/bench.py step --network resnet50 --crop 160 --resize 176 --versus torch
    python scripts/bench.py job --source cub:CUB_200_2011 --classes 20 --members 5 --versus torch
    python scripts/bench.py input --source cub:CUB_200_2011 --classes 20
    python scripts/bench.py ensemble --members 5

What is compared runs in turn, every row once in each repetition, and ratios are taken within a
repetition: a machine that others use as well, or that grows hot, slows all rows alike. Each
framework has a process of its own, which waits at a pipe while it is not its turn. Cells are the
median over the repetitions, with the first and third quartile in brackets.
"""

import contextlib
import dataclasses
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

TORCH_NETWORKS = "resnet18", "resnet50", "resnet50_v1"
LEARNING_RATES = {"learning_rate": 0.001, "head_learning_rate": 0.01}

# --------------------------------------------------------------------------------- command line


@dataclass(frozen=True)
class Common:
    network: str = "resnet18"
    """As --network.name of the training; torch has resnet18, resnet50 and resnet50_v1."""
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


@dataclass(frozen=True)
class Step(Versus, Sliced):
    """The training step on one batch that is on the device."""

    teachers: tuple[int, ...] = (1, 4)
    """Rows of KT with so many online teachers."""


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


@dataclass(frozen=True)
class Input(Sourced):
    """How long a step waits for its batch after the first epoch, by placement of the images."""


@dataclass(frozen=True)
class Ensemble(Sliced):
    """Inference of N members together, by how many are vectorised at a time."""

    members: int = 5
    """N."""


def main(arguments: list[str]) -> None:
    import tyro

    from fgvc_jax.study.pages import markdown_table

    tables = {"step": step, "job": job, "input": input_, "ensemble": ensemble}
    specs = {"step": Step, "job": Job, "input": Input, "ensemble": Ensemble}
    spec = tyro.extras.subcommand_cli_from_dict(
        specs, args=arguments, prog="bench.py", description=__doc__
    )
    name = type(spec).__name__.lower()
    print(f"{name}: {options(spec)}\n{processor()}, {os.cpu_count()} cores")
    with processes(spec) as workers:
        print("\n" + markdown_table(*tables[name](spec, workers)))


def options(spec: Common) -> str:
    """What was asked for, without where things are on this machine."""
    chosen = dataclasses.asdict(spec)
    chosen.pop("torch_python", None)
    if "source" in chosen:
        chosen["source"] = chosen["source"].partition(":")[0]
    return " ".join(f"{key}={value}" for key, value in chosen.items())


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


# --------------------------------------------------------------------------------------- tables

Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # header, rows


def step(spec: Step, workers: dict[str, "Worker"]) -> Table:
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


def job(spec: Job, workers: dict[str, "Worker"]) -> Table:
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


def input_(spec: Input, workers: dict[str, "Worker"]) -> Table:
    """Share of an epoch that the device had nothing to do, and images/s beside a resident batch."""
    rows = ["resident batch", "stream", "host", "device"]
    for name in rows:
        placement = {"placement": name} if name != rows[0] else {}
        chosen = experiment(spec, transfer="none", **placement)
        workers["jax"].ask("build", "input", name, experiment=chosen, resident=name == rows[0])
    found = measure({name: partial(workers["jax"].ask, "run", name) for name in rows}, spec)
    base = [value["seconds"] for value in found[rows[0]]]

    def line(name: str) -> list[str]:
        waits = spread([100 * value["waiting"] for value in found[name]], ".2f")
        seconds = [value["seconds"] for value in found[name]]
        return [name, waits, spread(ratios(seconds, base))]

    return ["images are", "% of the time waiting", "time / resident batch"], [*map(line, rows)]


def ensemble(spec: Ensemble, workers: dict[str, "Worker"]) -> Table:
    """Speed of N members together relative to N calls of one."""
    rows = {"one member": (1, 1)}
    rows |= {f"{spec.members} members, {m} at a time": (spec.members, m)
             for m in range(1, spec.members + 1)}  # fmt: skip
    for name, (members, at_once) in rows.items():
        chosen = experiment(spec, transfer="none", members=members, members_per_pass=at_once)
        workers["jax"].ask("build", "ensemble", name, experiment=chosen)
    found = measure({name: slices(workers["jax"], name, spec) for name in rows}, spec)
    one = [value["seconds"] for value in found["one member"]]

    def line(name: str) -> list[str]:
        seconds = [value["seconds"] for value in found[name]]
        rate = spread([spec.batch_size / value for value in seconds], ".1f")
        return [name, rate, spread([rows[name][0] * x for x in ratios(one, seconds)])]

    return ["inference", "images/s", "speed / one by one"], [*map(line, rows)]


# ------------------------------------------------------------------------ measuring and writing


def measure(calls: dict[Any, Callable[[], dict]], spec: Common) -> dict[Any, list[dict]]:
    """Call every row once per repetition, back and forth: {row: its results but the first}."""
    found: dict[Any, list[dict]] = {row: [] for row in calls}
    for repetition in range(spec.repetitions + 1):
        for row in list(calls)[:: -1 if repetition % 2 else 1]:
            found[row].append(calls[row]())
        print(f"repetition {repetition} of {spec.repetitions}", file=sys.stderr)
    return {row: results[1:] for row, results in found.items()}


def slices(worker: "Worker", row: str, spec: Sliced) -> Callable[[], dict]:
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


# ------------------------------------------------------------------------------ what is measured


def experiment(
    spec: Common,
    *,
    transfer: str = "orthogonal",
    maps: str = "precomputed",
    views: int = 0,
    members: int = 1,
    members_per_pass: int = 1,
    epochs: int = 1,
    placement: str = "auto",
) -> dict[str, Any]:
    """The Experiment of a row, as a dictionary for the other process."""
    from fgvc_jax import config

    data = config.Data(crop=spec.crop, resize=spec.resize, pad=0, placement=placement, classes=20)
    if isinstance(spec, Sourced):
        data = dataclasses.replace(
            data, source=spec.source, classes=spec.classes, images_per_class=spec.images_per_class
        )
    chosen = config.Experiment(
        members=members,
        epochs=epochs,
        batch_size=spec.batch_size,
        data=data,
        network=config.Network(name=spec.network, dtype=spec.dtype),
        transfer=config.Transfer(name=transfer, maps=maps),
        optimizer=config.Optimizer(**LEARNING_RATES),
        evaluate_every=epochs,
        members_per_pass=members_per_pass,
    )
    return config.to_dict(config.check(chosen))


def torch_options(spec: Step | Job, dtype: str) -> dict[str, Any]:
    """The same for torch_kt.py."""
    chosen = experiment(spec)
    data = ("crop", "resize", "pad", "flip", "normalize")
    return {
        "network": spec.network,
        "classes": chosen["data"]["classes"],
        "head_width": chosen["network"]["head_width"],
        "dtype": dtype,
        "alpha": chosen["transfer"]["alpha"],
        **{name: chosen["data"][name] for name in data},
        **{name: chosen[name] for name in ("batch_size", "evaluation_batch_size")},
        **{name: chosen["optimizer"][name] for name in ("momentum", "weight_decay")},
        **LEARNING_RATES,
    }


def write_images(spec: Job, folder: Path) -> None:
    """The training and test images of a source as files INDEX_LABEL, encoded as they were."""
    from PIL import Image

    from fgvc_jax.data import sources

    splits = sources.restrict(
        sources.open_source(spec.source), classes=spec.classes,
        images_per_class=spec.images_per_class, validation=0.0, seed=0,
    )  # fmt: skip
    for name, part in (("train", splits.train), ("test", splits.test)):
        (folder / name).mkdir()
        for index in range(len(part)):
            record = part[index]
            path = folder / name / f"{index:06d}_{record['label']}"
            if isinstance(record["image"], bytes):
                path.write_bytes(record["image"])
            else:
                Image.fromarray(record["image"]).save(path, format="png")


# ---------------------------------------------------------------------- a process per framework


class Worker:
    """A process of one framework that answers one question at a time and sleeps in between."""

    def __init__(self, framework: str, python: str, environment: dict[str, str]):
        self._framework = framework
        self._process = subprocess.Popen(
            [python, __file__, "worker", framework],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        """The result of `method` over there; see `serve`."""
        from fgvc_jax.errors import UserError

        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps([method, arguments, options]) + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise UserError(f"the {self._framework} process ended: what it said is above")
        return json.loads(answer)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


@contextlib.contextmanager
def processes(spec: Common) -> Iterator[dict[str, Worker]]:
    """One worker for each framework that is asked for; ours is "jax"."""
    from fgvc_jax.errors import UserError

    pythons, environment = {"jax": sys.executable}, dict(os.environ)
    if isinstance(spec, Versus) and spec.versus == "torch":
        if spec.network not in TORCH_NETWORKS:
            raise UserError(f"torch_kt.py has {', '.join(TORCH_NETWORKS)}, not {spec.network!r}")
        pythons["torch"] = spec.torch_python or sys.executable
        # Both live on the same accelerator: JAX must not take most of its memory at once.
        environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | environment
    with contextlib.ExitStack() as stack:
        workers = {}
        for framework, python in pythons.items():
            workers[framework] = Worker(framework, python, environment)
            stack.callback(workers[framework].close)
            print(workers[framework].ask("describe"))
        yield workers


def serve(framework: str) -> None:
    """The other end of a Worker: builds rows and runs them, by name, until stdin ends.

    Answers go to what was stdout; everything that is printed goes to stderr.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if framework == "torch":
        try:
            import torch_kt
        except ImportError as error:
            raise SystemExit(f"{error}: name a Python that has it with --torch-python") from None
        makers, describe = torch_kt.BENCHES, torch_kt.describe
    else:
        makers, describe = BENCHES, describe_jax
    rows: dict[str, Any] = {}

    def build(kind: str, name: str, **options: Any) -> str:
        rows[name] = makers[kind](**options)
        return rows[name].dtype

    def run(name: str, **options: Any) -> dict[str, float]:
        return rows[name].run(**options)

    methods = {"describe": describe, "build": build, "run": run}
    for question in sys.stdin:
        method, arguments, options = json.loads(question)
        print(json.dumps(methods[method](*arguments, **options)), file=answers, flush=True)


# --------------------------------------------------------------------------- our side: the rows


def describe_jax() -> str:
    import jax

    return f"jax {jax.__version__} on {jax.device_count()} x {jax.devices()[0].device_kind}"


def make_run(chosen: dict[str, Any]) -> Any:
    from fgvc_jax import command, config
    from fgvc_jax.build import Run

    command.use_compilation_cache()
    return Run(config.from_dict(chosen))


def random_batch(run: Any, **more: Any) -> dict[str, Any]:
    """A batch on the devices, of noise, as the pipeline gives it where there is no store."""
    import numpy as np

    from fgvc_jax.engine import mesh

    spec = run.experiment
    rng, count, size = np.random.default_rng(0), spec.batch_size, spec.data.resize
    batch = {
        "row": np.arange(count, dtype=np.int32),
        "id": np.arange(count, dtype=np.int32),
        "label": rng.integers(len(run.splits.classes), size=count, dtype=np.int32),
        "image": rng.integers(256, size=(count, size, size, 3), dtype=np.uint8),
    }
    return mesh.shard_batch(run.mesh, batch | more)


class OurStep:
    """The training step of the last member of an experiment."""

    def __init__(self, experiment: dict[str, Any]):
        import jax
        import jax.numpy as jnp
        import numpy as np

        run = make_run(experiment)
        spec = run.experiment
        frozen = [run.variables(number) for number in range(1, spec.members)]
        self._state = run.state(spec.members, frozen)
        self._step, self.dtype = run.train_step, run.dtype
        looked_up = {}
        if spec.transfer.name == "orthogonal" and spec.transfer.maps == "precomputed":
            images = jnp.zeros((spec.batch_size, spec.data.crop, spec.data.crop, 3))
            taps = jax.eval_shape(
                lambda v: run.network.apply(v, images, False, method="taps"), run.abstract_variables
            )
            looked_up["attention"] = np.ones(taps["stage5"].shape[:3], np.float32)
        self._batch = random_batch(run, **looked_up)

    def run(self, steps: int) -> dict[str, float]:
        import jax

        began = time.perf_counter()
        for _ in range(steps):
            self._state, metrics = self._step(self._state, self._batch, None)
        jax.block_until_ready(metrics)
        return {"seconds": (time.perf_counter() - began) / steps}


class OurJob:
    """The command `train` on a new workdir."""

    def __init__(self, experiment: dict[str, Any]):
        self._experiment = experiment
        self.dtype = make_run(experiment).dtype

    def run(self) -> dict[str, float]:
        from fgvc_jax import config
        from fgvc_jax.train import train
        from fgvc_jax.workdir import Workdir

        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            chosen = config.from_dict(self._experiment | {"workdir": folder})
            began = time.perf_counter()
            train(chosen, Workdir(folder))
            return {"seconds": time.perf_counter() - began}


class OurInput:
    """Epochs of training as the loop has them, each from its own place in the pipeline."""

    def __init__(self, experiment: dict[str, Any], resident: bool):
        self._run = make_run(experiment)
        self._state = self._run.state(1, [])
        self._resident = random_batch(self._run) if resident else None
        self._epoch = 0
        self.dtype = self._run.dtype

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
            store = None if self._resident else run.train_images.store
            self._state, metrics = run.train_step(self._state, batch, store)
            asked = time.perf_counter()
            batch = next(batches)
            if metrics["loss"].is_ready():
                waited += time.perf_counter() - asked
            jax.block_until_ready(metrics)
        seconds = time.perf_counter() - began
        self._epoch += 1
        return {"seconds": seconds / run.steps_per_epoch, "waiting": waited / seconds}

    def _batches(self) -> Iterator[dict[str, Any]]:
        from fgvc_jax.engine.loop import ahead
        from fgvc_jax.engine.mesh import shard_batch

        if self._resident:
            while True:
                yield self._resident
        start = self._epoch * self._run.steps_per_epoch
        yield from ahead(
            self._run.train_batches(1, start, None), partial(shard_batch, self._run.mesh)
        )


class OurEnsemble:
    """The joint evaluation of all members on one batch."""

    def __init__(self, experiment: dict[str, Any]):
        import jax
        import jax.numpy as jnp
        import numpy as np

        run = make_run(experiment)
        members = [run.variables(number) for number in range(1, run.experiment.members + 1)]
        self._stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
        self._step, self.dtype = run.judge_step, run.dtype
        self._batch = random_batch(run, mask=np.ones(run.experiment.batch_size, bool))

    def run(self, steps: int) -> dict[str, float]:
        import jax

        began = time.perf_counter()
        for _ in range(steps):
            sums = self._step(self._stacked, self._batch, None)
        jax.block_until_ready(sums)
        return {"seconds": (time.perf_counter() - began) / steps}


BENCHES = {"step": OurStep, "job": OurJob, "input": OurInput, "ensemble": OurEnsemble}


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        serve(sys.argv[2])
    else:
        from fgvc_jax.command import run

        run(main)
