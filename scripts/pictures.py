"""Draws the README's pictures of a report and of an explanation, from a run on the drawn birds.

    python -m fgvc_jax.train --workdir runs/sketchbirds
    python scripts/pictures.py --workdir runs/sketchbirds --output .github

The report is photographed by a Chromium that is installed; the explanation is of the test image, of
the first ones, whose members agree and are surest.
"""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import fgvc_jax
from fgvc_jax.commands import report, start
from fgvc_jax.commands.asked import Report
from fgvc_jax.data.sources import open_source
from fgvc_jax.utils.command_line import command_line
from fgvc_jax.utils.errors import UserError

BROWSERS = "chromium", "chromium-browser", "google-chrome"
SIDES = 1180, 900  # px of the page
LOOKED_AT = 60
COLOURS = 128  # of the palette: keeps a picture below 200 KB


@dataclass(frozen=True)
class Pictures:
    """Draw the README's pictures of a report and of an explanation."""

    workdir: str = "runs/sketchbirds"
    """A finished run on sketchbirds."""
    output: Path = Path(".github")
    """The folder for report.png and explanation.png."""


def main(arguments: list[str]) -> None:
    options = command_line(Pictures, arguments, program="python scripts/pictures.py")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        report.report(Report(options.workdir, str(page)))
        small(photograph(page), options.output / "report.png")
    model = fgvc_jax.load(options.workdir)
    birds = open_source("sketchbirds").test
    images = [birds[number]["image"] for number in range(LOOKED_AT)]
    said = model.predict(images)
    right = said.argmax(-1) == birds.labels[:LOOKED_AT]
    surest = int(np.argmax(said.max(-1) * right))
    small(model.explain(images[surest]).picture, options.output / "explanation.png")


def photograph(page: Path) -> Image.Image:
    """What a browser shows of the first part of a page."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise UserError(f"none of {', '.join(BROWSERS)} is installed")
    picture = page.with_suffix(".png")
    width, height = SIDES
    words = [
        "--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={width},{height}",
        f"--screenshot={picture}", page.as_uri(),
    ]  # fmt: skip
    subprocess.run([program, *words], check=True, capture_output=True, timeout=120)
    return Image.open(picture)


def small(picture: Image.Image, file: Path) -> None:
    picture.convert("RGB").quantize(COLOURS).save(file, optimize=True)
    print(f"written: {file} ({file.stat().st_size:,} bytes)")


if __name__ == "__main__":
    start.run(main)
