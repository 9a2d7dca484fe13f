"""What our steps cost on accelerators that are not there, beside textbook Flax's."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

from benchmarks import topologies
from benchmarks.common import Common, Table
from benchmarks.experiments import experiment

TEXTBOOK, FORWARD = "textbook flax", "textbook flax, evaluation"
EVALUATION = "evaluation"
# Of several members in one program.
TOGETHER = {f"evaluation of {members} members": members for members in (2, 5)}
PASS = "one online teacher's pass"
# The experiment of each step of ours. The head is the textbook's, so that methods alone differ.
STEPS: dict[str, dict[str, Any]] = {
    "cross entropy": {"transfer": "none"},
    "KT, precomputed maps": {"maps": "precomputed"},
    "KT, 1 online teacher": {"maps": "online", "members": 2},
    "KT, 2 online teachers": {"maps": "online", "members": 3},
    "KT, 3 online teachers": {"maps": "online", "members": 4},
    "KT, 4 online teachers": {"maps": "online", "members": 5},
    "HSD": {"transfer": "none", "objective": "hsd"},
    "CSDNet": {"transfer": "none", "objective": "csdnet"},
    "adapters": {"transfer": "none", "lora_rank": 8},
}
# What training shows of a batch, alone: the sets that --data.augment names, mixing included.
VIEWS = {f"{name} views": name for name in ("published", "standard", "strong")}
KNOWN = (*STEPS, EVALUATION, *TOGETHER, TEXTBOOK, FORWARD, *VIEWS)
# By name alone.
ASKED = "KT, 2 online teachers", "KT, 3 online teachers", "adapters", *VIEWS, *TOGETHER
ROWS = tuple(row for row in KNOWN if row not in ASKED)


@dataclass(frozen=True)
class Compiled:
    """Bytes, temporaries, kernels and collectives of steps compiled for a TPU or GPU."""

    topology: tuple[str, ...] = ("v5e:2x2",)
    """Devices, as v5e:2x2, v5e:16x16, h100 or h100:8; of several each has a line in every row."""
    network: str = "resnet50"
    """As --network.name of the training; textbook Flax has resnet50, vit_b16, dinov2_s14,
    dinov3_s16, bioclip2_l14, siglip2_b16, convnext_tiny and swin_tiny."""
    crop: int = 448
    """Side of the square that the network sees."""
    images_per_device: int = 32
    frozen: str = ""
    """As --network.frozen of the training, of rows of evaluation: what is behind the trunk."""
    rows: tuple[str, ...] = ROWS
    """Which rows, by name."""
    json: bool = False
    """Print JSON instead of a table."""
    write: bool = False
    """Put the table into scripts/BENCHMARKS.md, in the place of the one with the same options."""


def measure(spec: Compiled) -> Iterator[dict[str, Any]]:
    """Each row's name and topology with what `topologies.counted` says of it, as it comes.

    Online teachers are asked in a loop whose length is not in the program. Of that a TPU's compiler
    counts one pass, and a GPU's entry computation has none: what lacks is counted by itself.
    """
    from fgvc_jax.utils.errors import UserError

    unknown = set(spec.rows) - set(KNOWN)
    if unknown:
        raise UserError(f"--rows knows no {sorted(unknown)[0]!r}: choose from {', '.join(KNOWN)}")
    meshes = {topology: topologies.mesh(topology) for topology in spec.topology}
    for row, (topology, devices) in product(spec.rows, meshes.items()):
        if not (built := program(row, spec, devices)):
            continue
        step, arguments = built
        print(f"compiling: {row}, {topology}", file=sys.stderr)
        counted = topologies.counted(step.lower(*arguments))
        if teachers := online(row):
            step, arguments = program(PASS, spec, devices)
            one = topologies.counted(step.lower(*arguments))
            gpu = counted["kernels"] is not None
            counted["bytes"] += one["bytes"] * (teachers if gpu else teachers - 1)
            counted["kernels"] = counted["kernels"] + one["kernels"] * teachers if gpu else None
        yield {"row": row, "topology": topology, "flop": flop(row, spec), **counted}


def online(row: str) -> int:
    """Number of online teachers."""
    return STEPS.get(row, {}).get("members", 1) - 1


@cache
def flop(row: str, spec: Compiled) -> float:
    """Of a row's program as it is written, per device: lowered for one, with an accelerator's forms
    of what has a CPU's."""
    import jax
    import numpy as np
    from jax.sharding import Mesh

    cpu = Mesh(np.array(jax.devices("cpu")[:1]), ("data",))
    step, arguments = program(row, spec, cpu)
    lowered = step.trace(*arguments).lower(lowering_platforms=("cuda",))
    # One pass of the loop over online teachers is in it.
    more = online(row) - 1
    return lowered.cost_analysis()["flops"] + (more * flop(PASS, spec) if more > 0 else 0)


def program(row: str, spec: Compiled, devices: Any) -> tuple[Callable, tuple] | None:
    """A row's compiled function and the shapes of its arguments; None if there is no such one."""
    from benchmarks import ours, textbook

    common = Common(
        network=spec.network,
        crop=spec.crop,
        resize=spec.crop * 8 // 7,
        batch_size=spec.images_per_device,
        dtype="bfloat16",
    )
    chosen = STEPS.get(row, STEPS["cross entropy"])
    if row in VIEWS:
        chosen = {**chosen, "augment": VIEWS[row]}
    options = experiment(common, head="linear", **chosen)
    if row == EVALUATION or row in TOGETHER:
        options["network"]["frozen"] = spec.frozen
    run = ours.make_run(options)
    if row in STEPS:
        return ours.abstract_step(run, online(row), devices)
    if row in VIEWS:
        return ours.abstract_views(run, devices)
    if row == PASS:
        return ours.abstract_pass(run, devices)
    step, arguments = ours.abstract_evaluation(run, devices, TOGETHER.get(row, 1))
    if row == EVALUATION or row in TOGETHER:
        return step, arguments
    if spec.network not in textbook.NETWORKS:
        return None
    make = textbook.training if row == TEXTBOOK else textbook.forward
    return make(spec.network, len(run.splits.classes), arguments[1], devices, crop=spec.crop)


def table(rows: list[dict[str, Any]]) -> Table:
    """Rows per device, with bytes also as a ratio to the first line's."""
    header = [
        "per device",
        "topology",
        "GB moved",
        "ratio",
        "GFLOP",
        "temporaries, GB",
        "kernels",
        "collectives",
        "their MB",
    ]
    first = rows[0]["bytes"]

    def line(row: dict[str, Any]) -> list[str]:
        counts = [f"{number} {kind}" for kind, number in row["collectives"].items()]
        return [
            row["row"],
            row["topology"],
            f"{row['bytes'] / 1e9:.1f}",
            f"{row['bytes'] / first:.3f}",
            f"{row['flop'] / 1e9:.0f}",
            f"{row['temporaries'] / 1e9:.1f}",
            str(row["kernels"] or "-"),
            ", ".join(counts) or "-",
            f"{row['collective_bytes'] / 1e6:.1f}" if counts else "-",
        ]

    return header, [line(row) for row in rows]
