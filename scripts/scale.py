"""What a set of millions of files costs before and beside its training, measured and computed.

    python scripts/scale.py --classes 10000 --files 2700000 --measured 205000 --write

A folder of so many files is made of nothing (sparse files, each of a size of its own), opened, told
by names and sizes, and put into the order of an epoch; it takes processor seconds, which other work
on the machine changes little. Nothing here may grow faster than the number of files. What a run
keeps is computed for the whole set. Defaults are iNaturalist 2021's.
"""

import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks import record

from fgvc_jax.commands.start import run
from fgvc_jax.config import Data, Experiment, Network
from fgvc_jax.utils.text import markdown_table


@dataclass(frozen=True)
class Scale:
    """What a set of millions of files costs before and beside its training."""

    classes: int = 10_000
    files: int = 2_700_000
    """Training images of the set that sizes are computed for."""
    test: int = 100_000
    """Its test images."""
    measured: int = 205_000
    """Files that are made to be measured."""
    resize: int = 256
    crop: int = 224
    network: str = "resnet50"
    frozen: str = "stage4"
    write: bool = False
    """Keep the table in scripts/BENCHMARKS.md."""


def main(arguments: list[str]) -> None:
    import tyro

    spec = tyro.cli(Scale, args=arguments, description=__doc__)
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), spec)
        rows = [*measure(folder, spec), *sizes(spec)]
    table = markdown_table(["of", "what", "costs"], rows)
    print(table)
    if spec.write:
        record.write(f"scale: {record.options(spec)}", f"{record.processor()}.\n\n{table}")


def make(folder: Path, spec: Scale) -> None:
    """A folder dataset: one test image a class, the others to train."""
    each = spec.measured // spec.classes
    size = itertools.count(20_000)
    for label in range(spec.classes):
        for part, count in (("train", each - 1), ("test", 1)):
            place = folder / part / f"{label:05d}_species"
            place.mkdir(parents=True)
            for i in range(count):
                with open(place / f"{i:05d}.jpg", "wb") as file:
                    os.ftruncate(file.fileno(), next(size))


def measure(folder: str, spec: Scale) -> Iterator[tuple[str, str, str]]:
    """Processor seconds of what happens before the first step, and in the middle of an epoch."""
    from fgvc_jax.data import pipeline, sources
    from fgvc_jax.utils import digests

    def seconds(what: str, since: float) -> tuple[str, str, str]:
        return f"{spec.measured:,} files", what, f"{time.process_time() - since:.3f} s"

    began = time.process_time()
    splits = sources.open_source(f"folder:{folder}")
    yield seconds("opening", began)
    began = time.process_time()
    digests.of_data(splits, {})
    yield seconds("digest of names and sizes", began)

    def batches(start: int) -> Iterator[dict[str, np.ndarray]]:
        return pipeline.train_batches(
            splits.train, None, seed=0, member=1, batch_size=256, start=start, process=0,
            processes=1, views=range(1),
        )  # fmt: skip

    next(batches(0))  # imports
    for what, start in (
        ("order of an epoch, first batch", 0),
        ("resuming in its middle", len(splits.train) // 512),
    ):
        began = time.process_time()
        next(batches(start))
        yield seconds(what, began)


def sizes(spec: Scale) -> Iterator[tuple[str, str, str]]:
    """What a run keeps of the whole set."""
    from fgvc_jax.inference import architecture
    from fgvc_jax.utils import devices

    network = architecture.settle(Network(name=spec.network, frozen=spec.frozen))
    experiment = Experiment(network=network, data=Data(crop=spec.crop))
    plan = architecture.architectures(experiment, spec.classes, devices.create_mesh())[0]
    state = sum(int(np.prod(leaf.shape[1:])) for leaf in plan.features.values())
    pixels = 3 * spec.resize**2
    for what, count, size in (
        ("decoded images to train, in memory (else streamed)", spec.files, pixels),
        ("attention maps of a view", spec.files, 2 * int(np.prod(plan.grid))),
        (f"features of a view behind {spec.frozen}", spec.files, 2 * state),
        ("log-probabilities of a member on the test images", spec.test, 2 * spec.classes),
    ):
        yield f"{count:,} images", what, f"{count * size / 1e9:.1f} GB"


if __name__ == "__main__":
    run(main)
