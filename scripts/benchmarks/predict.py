"""How fast python -m fgvc_jax.predict answers for files, beside the bare forward pass.

On a CPU reading and decoding takes the same cores as the networks: predict cannot be faster there
than one after the other, and on an accelerator not faster than the slower of both.
"""

import itertools
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.common import Sliced, Table, measure, ratios, slices, spread
from benchmarks.experiments import experiment
from benchmarks.ours import make_run
from benchmarks.workers import Worker

BARE, DECODING = "bare forward", "reading and decoding"
EXACTLY = ", exactly"  # of a row, beside the same where photographs are decoded at a fraction


@dataclass(frozen=True)
class Predict(Sliced):
    """How fast python -m fgvc_jax.predict answers for files, beside the bare forward pass."""

    members: int = 1
    """Networks in the ensemble."""
    pixels: int = 500
    """Side of the JPEG files that are read."""
    files: int = 64
    """So many files, read again and again."""
    decode: Literal["exact", "scaled"] = "exact"
    """As --data.decode of the training; scaled is measured beside exact."""


def table(spec: Predict, workers: dict[str, Worker]) -> Table:
    """Images per second, and milliseconds for one image in memory on a warm model."""
    names = [BARE, DECODING, "predict", "one image"]
    if spec.decode == "scaled":
        names[1:3] = [word + how for word in names[1:3] for how in ("", EXACTLY)]
    for name in names:
        decode = "exact" if name.endswith(EXACTLY) else spec.decode
        chosen = experiment(spec, transfer="none", members=spec.members, decode=decode)
        row = name.removesuffix(EXACTLY)
        workers["jax"].ask(
            "build", "predict", name,
            experiment=chosen, row=row, pixels=spec.pixels, files=spec.files,
        )  # fmt: skip
    found = measure({name: slices(workers["jax"], name, spec) for name in names}, spec)
    seconds = {name: [value["seconds"] for value in values] for name, values in found.items()}
    lines = []
    for name in names[:-1]:
        rate = spread([spec.batch_size / value for value in seconds[name]], ".1f")
        lines.append([name, rate, spread(ratios(seconds[BARE], seconds[name])), ""])
    latency = spread([1000 * value for value in seconds["one image"]], ".1f")
    lines.append(["one image", "", "", latency])
    return ["answers", "images/s", "speed / bare forward", "milliseconds"], lines


class Ours:
    """One of the table's rows, on random weights."""

    def __init__(self, experiment: dict[str, Any], row: str, pixels: int, files: int):
        from fgvc_jax.utils import devices

        run = make_run(experiment)
        numbers = range(1, run.experiment.members + 1)
        members = [
            run.member(n, devices.replicate(run.mesh, run.start.variables(n))) for n in numbers
        ]
        self._model = run.model(members, [str(number) for number in numbers])
        self._batch_size = run.experiment.batch_size
        self._folder = tempfile.TemporaryDirectory()
        self._pictures = pictures(Path(self._folder.name), pixels, files)
        rows = {BARE: self._bare, DECODING: self._decode}
        self._run = (rows | {"predict": self._predict, "one image": self._one})[row]
        self.dtype = run.experiment.network.dtype

    def run(self, steps: int) -> dict[str, float]:
        began = time.perf_counter()
        self._run(steps)
        return {"seconds": (time.perf_counter() - began) / steps}

    def _bare(self, steps: int) -> None:
        """Batches that are on the device already, the next one under way as in predict."""
        import jax

        squares = self._model.squares(self._batch_size)
        before = None
        for _ in range(steps):
            this = self._model.ask(squares)
            jax.block_until_ready(before)
            before = this
        jax.block_until_ready(before)

    def _decode(self, steps: int) -> None:
        """The files alone, on all cores as predict does."""
        from concurrent.futures import ThreadPoolExecutor

        from fgvc_jax.utils import machine

        files = itertools.islice(itertools.cycle(self._pictures), steps * self._batch_size)
        with ThreadPoolExecutor(machine.cores()) as pool:
            for _ in pool.map(self._model.square, files):
                pass

    def _predict(self, steps: int) -> None:
        from fgvc_jax.commands import predict
        from fgvc_jax.data import inputs

        files = itertools.islice(itertools.cycle(self._pictures), steps * self._batch_size)
        options = predict.Prediction(batch_size=self._batch_size)
        output = Path(self._folder.name) / "answers.csv"
        predict.answer(self._model, options, map(inputs.InputFile, files), output)

    def _one(self, steps: int) -> None:
        import numpy as np

        for number in range(steps):
            self._model.predict(np.full((400, 500, 3), number % 256, np.uint8))


def pictures(folder: Path, pixels: int, count: int) -> list[str]:
    """Files that are as much work to decode as photographs: smooth, with some noise."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    paths = []
    for number in range(count):
        coarse = Image.fromarray(random.integers(256, size=(16, 16, 3)).astype(np.uint8))
        picture = np.asarray(coarse.resize((pixels, pixels), Image.Resampling.BICUBIC), float)
        picture += random.normal(scale=6, size=picture.shape)
        paths.append(str(folder / f"{number}.jpg"))
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths
