"""How long does the exact search for neighbours take?

    python scripts/neighbours.py --rows 100000 --width 2048

Prints the fewest seconds of a batch of queries, beside those of the one matrix product that any
exact search has to make; of all cores together, too, where others work on the machine.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from fgvc_jax.commands.start import prepare, run
from fgvc_jax.inference.neighbours import nearest
from fgvc_jax.utils.command_line import command_line


@dataclass(frozen=True)
class Arguments:
    """Time the search for neighbours."""

    rows: int = 100_000
    """Vectors that are searched."""
    width: int = 2048
    """Numbers in a vector."""
    count: int = 5
    """Neighbours of each query."""
    repeats: int = 5
    """Times that each is done."""


def best(do: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Fewest seconds, and fewest of all cores together."""
    found = []
    for _ in range(repeats):
        began, worked = time.perf_counter(), time.process_time()
        do()
        found.append((time.perf_counter() - began, time.process_time() - worked))
    wall, work = zip(*found, strict=True)
    return min(wall), min(work)


def main(arguments: list[str]) -> None:
    options = command_line(
        Arguments, arguments, program="python scripts/neighbours.py", default=Arguments()
    )
    random = np.random.default_rng(0)
    vectors = random.random((options.rows, options.width), np.float32) - np.float32(0.5)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    print("queries    search (s)  of all cores   product (s)  of all cores")
    for queries in (1, 8, 16, 64):
        asked = vectors[:queries]
        searched = best(partial(nearest, asked, vectors, options.count), options.repeats)
        alone = best(partial(np.matmul, asked, vectors.T), options.repeats)
        print(f"{queries:7}" + "".join(f"{seconds:14.3f}" for seconds in (*searched, *alone)))


if __name__ == "__main__":
    prepare()
    run(main)
