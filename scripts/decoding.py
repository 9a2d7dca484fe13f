"""How long does a telephone's photograph take to become a square, decoded whole and scaled?

    python scripts/decoding.py --photograph bird.jpg

The photograph is enlarged to 12 megapixels (4000 x 3000), with grain of several strengths, since a
JPEG that says more takes longer to read at any scale. Printed: processor time as the median over
repetitions, in turn, the ratio as the median of their ratios, and how far the squares differ.
"""

import io
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fgvc_jax.commands.start import prepare, run
from fgvc_jax.data.images import decode
from fgvc_jax.utils.command_line import command_line
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import markdown_table

SIDES = 4000, 3000
HEADER = "file (MB)", "square", "exact (ms)", "scaled (ms)", "scaled / exact", "mean difference"


@dataclass(frozen=True)
class Arguments:
    """Time decoding."""

    photograph: str = ""
    """A JPEG or PNG."""
    grain: tuple[float, ...] = (0.0, 4.0, 8.0)
    """Standard deviations of the grain, of 255."""
    sizes: tuple[int, ...] = (512, 256)
    """Sides of the squares."""
    repetitions: int = 9
    """Times that each is decoded."""


def enlarged(photograph: Image.Image, grain: float) -> bytes:
    """A JPEG of SIDES, as a telephone writes it."""
    large = np.asarray(photograph.convert("RGB").resize(SIDES, Image.Resampling.LANCZOS))
    noise = np.random.default_rng(0).normal(0, grain, (*large.shape[:2], 1))
    image = Image.fromarray((large + noise).clip(0, 255).astype(np.uint8))
    image.save(file := io.BytesIO(), "JPEG", quality=90)
    return file.getvalue()


def row(data: bytes, size: int, repetitions: int) -> list[str]:
    """What is printed of a file and a size."""
    seconds: dict[str, list[float]] = {"exact": [], "scaled": []}
    squares = {}
    for _ in range(repetitions):
        for decoding, found in seconds.items():
            began = time.process_time()
            squares[decoding] = decode(
                {"image": data, "name": "photograph"}, size, orientation="exif", decoding=decoding
            )
            found.append(time.process_time() - began)
    exact, scaled = seconds.values()
    ratios = [few / all_ for all_, few in zip(exact, scaled, strict=True)]
    difference = np.abs(np.subtract(*map(np.int16, squares.values()))).mean()
    times = (f"{1000 * statistics.median(each):.0f}" for each in (exact, scaled))
    share = f"{statistics.median(ratios):.2f}"
    return [f"{len(data) / 1e6:.1f}", f"{size}", *times, share, f"{difference:.2f}"]


def main(arguments: list[str]) -> None:
    options = command_line(
        Arguments, arguments, program="python scripts/decoding.py", default=Arguments()
    )
    if not Path(options.photograph).is_file():
        raise UserError(f"--photograph {options.photograph!r} is no file: name a JPEG or PNG")
    with Image.open(options.photograph) as photograph:
        files = [enlarged(photograph, grain) for grain in options.grain]
    rows = [row(data, size, options.repetitions) for data in files for size in options.sizes]
    print(markdown_table(HEADER, rows))


if __name__ == "__main__":
    prepare()
    run(main)
