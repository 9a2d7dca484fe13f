"""Measures what training and inference cost, as ratios with their spread.

    python scripts/bench.py step --network resnet50 --crop 160 --resize 176 --versus torch
    python scripts/bench.py job --source cub:CUB_200_2011 --classes 20 --members 5 --versus torch
    python scripts/bench.py input --source cub:CUB_200_2011 --classes 20
    python scripts/bench.py python
    python scripts/bench.py ensemble --network resnet50 --crop 160 --resize 176 --members 5
    python scripts/bench.py predict --network resnet50 --crop 448 --resize 512
    python scripts/bench.py compiled --topology v5e:2x2 --network resnet50
    python scripts/bench.py device --minutes 9

What is compared runs in turn, every row once in each repetition, and ratios are taken within a
repetition: a machine that others use as well, or that grows hot, slows all rows alike. Each
framework has a process of its own, which waits at a pipe while it is not its turn. Cells are the
median over the repetitions, with the first and third quartile in brackets.

`compiled` runs nothing: it compiles the steps for a TPU or GPU that need not be there, and counts.
`device` says within minutes what a GPU or TPU at hand does: whether losses are the CPU's, images/s
and shares of the peak, waiting for images, determinism and its price, a run of KT.
"""

import json
import math
import sys
from typing import Any

from benchmarks import (
    compiled,
    device,
    ensemble,
    job,
    onboard,
    predict,
    python,
    record,
    step,
    topologies,
    workers,
)
from benchmarks import input as waiting
from benchmarks.common import Table

from fgvc_jax.utils.text import markdown_table

BENCHMARKS = {
    "step": step,
    "job": job,
    "input": waiting,
    "ensemble": ensemble,
    "predict": predict,
    "python": python,
}
SPECS = {
    "step": step.Step,
    "job": job.Job,
    "input": waiting.Input,
    "ensemble": ensemble.Ensemble,
    "predict": predict.Predict,
    "python": python.Python,
}
ALL_BY_0 = "classes", "images_per_class"


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["device"]:
        return device.main(arguments[1:])
    spec = parse(arguments)
    name = type(spec).__name__.lower()
    title = f"{name}: {record.options(spec)}"
    if name == "compiled":
        topologies.use_cpu(spec.network)
        described = topologies.compilers()
        rows = []
        for row in compiled.measure(spec):
            rows.append(row)
            if spec.write:  # what took minutes is kept, whatever comes later
                keep(title, described, compiled.table(rows))
        if spec.json:
            print(json.dumps({"rows": rows}))
            return
        table = compiled.table(rows)
    elif getattr(spec, "json", False):
        with workers.processes(spec) as started:
            print(json.dumps({"rows": BENCHMARKS[name].rows(spec, started)}))
        return
    else:
        described = record.processor()
        print(f"{title}\n{described}")
        with workers.processes(spec) as started:
            frameworks = [worker.ask("describe") for worker in started.values()]
            print("\n".join(frameworks), end="\n\n")
            table = BENCHMARKS[name].table(spec, started)
        described = "; ".join([described, *frameworks])
        if spec.write:
            keep(title, described, table)
    print(markdown_table(*table))


def parse(arguments: list[str]) -> Any:
    """What is asked of a benchmark; JAX is not imported."""
    import tyro

    from fgvc_jax.utils.command_line import complaints_in_one_line
    from fgvc_jax.utils.errors import UserError

    with complaints_in_one_line():
        spec = tyro.extras.subcommand_cli_from_dict(
            {**SPECS, "compiled": compiled.Compiled},
            args=arguments,
            prog="bench.py",
            description=__doc__,
        )
    for name, value in vars(spec).items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if number and name not in ALL_BY_0 and not 0 < value < math.inf:
            raise UserError(f"--{name.replace('_', '-')} is {value}: it must be above 0")
    return spec


def keep(title: str, described: str, table: Table) -> None:
    record.write(title, f"{described}.\n\n{markdown_table(*table)}")


def serve(framework: str) -> None:
    """Be the process that a `Worker` starts, with the malloc of our commands."""
    from fgvc_jax.commands.start import keep_freed_memory

    keep_freed_memory()
    if framework == "torch":
        try:
            import torch_kt
        except ImportError as error:
            raise SystemExit(f"{error}: name a Python that has it with --torch-python") from None
        workers.serve(torch_kt.BENCHES, torch_kt.describe)
    else:
        from benchmarks import ours

        from fgvc_jax.utils.errors import UserError

        try:
            workers.serve({name: module.Ours for name, module in BENCHMARKS.items()}, ours.describe)
        except UserError as error:
            raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        serve(sys.argv[2])
    elif sys.argv[1:2] == ["part"]:
        onboard.serve(sys.argv[2], json.loads(sys.argv[3]))
    else:
        from fgvc_jax.commands.start import run

        run(main)
