"""How long does the exact search for neighbours take?

    python scripts/neighbours.py --rows 100000 --width 2048

Prints the median seconds of a batch of queries, for vectors kept in float32 and in float16, beside
those of the one matrix product that any exact search has to make.
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


def median(do: Callable[[], object], repeats: int) -> float:
    """Median seconds."""
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        do()
        found.append(time.perf_counter() - began)
    return float(np.median(found))


def main(arguments: list[str]) -> None:
    options = command_line(
        Arguments, arguments, program="python scripts/neighbours.py", default=Arguments()
    )
    random = np.random.default_rng(0)
    vectors = np.maximum(random.standard_normal((options.rows, options.width), np.float32), 0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    print("queries  float32 (s)  float16 (s)  product alone (s)")
    halves = vectors.astype(np.float16)
    for queries in (1, 8, 16, 64):
        asked = vectors[:queries]
        times = [
            median(
                lambda kept=kept, asked=asked: nearest(asked, kept, options.count), options.repeats
            )
            for kept in (vectors, halves)
        ]
        alone = median(lambda asked=asked: asked @ vectors.T, options.repeats)
        print(f"{queries:7}  {times[0]:11.3f}  {times[1]:11.3f}  {alone:17.3f}")


if __name__ == "__main__":
    prepare()
    run(main)
