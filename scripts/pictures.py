"""Draws the README's pictures of a report and of an explanation, from a run on the drawn birds.

    python -m fgvc_jax.train --workdir runs/sketchbirds
    python scripts/pictures.py --workdir runs/sketchbirds --output .github

The report is photographed by a Chromium that is installed; the explanation is of the test image, of
the first ones, whose members agree and are surest.
"""

import contextlib
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
SIDES = 960, 1380  # px of the page: as high for its width as an explanation of three members
LOOKED_AT = 60


@dataclass(frozen=True)
class Pictures:
    """Draw the README's pictures of a report and of an explanation."""

    workdir: str = "runs/sketchbirds"
    """A finished run on sketchbirds."""
    output: Path = Path(".github")
    """The folder for report.png and explanation.jpg."""


def main(arguments: list[str]) -> None:
    program = "python scripts/pictures.py"
    options = command_line(Pictures, arguments, program=program, default=Pictures())
    workdir, output = Path(options.workdir).resolve(), options.output.resolve()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        named = Path(Pictures.workdir)  # as it is called on the page
        named.parent.mkdir()
        named.symlink_to(workdir)
        report.report(Report(str(named), "report.html"))
        keep(photograph(Path(folder) / "report.html"), output / "report.png")
    model = fgvc_jax.load(workdir)
    birds = open_source("sketchbirds").test
    images = [birds[number]["image"] for number in range(LOOKED_AT)]
    said = model.predict(images)
    right = said.argmax(-1) == birds.labels[:LOOKED_AT]
    surest = int(np.argmax(said.max(-1) * right))
    keep(model.explain(images[surest]).picture, output / "explanation.jpg")


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


def keep(picture: Image.Image, file: Path) -> None:
    """As a small file: a page has few colours, an explanation many."""
    picture = picture.convert("RGB")
    picture = picture.quantize(256) if file.suffix == ".png" else picture
    picture.save(file, optimize=True, quality=70)
    print(f"written: {file} ({file.stat().st_size:,} bytes)")


if __name__ == "__main__":
    start.run(main)
