"""Cuts the black bars off a letterboxed dataset, and makes sets of disjoint classes of it.

    python scripts/cut_bars.py --source cub:data/cub200_2010 --output data/cub200_2010_cut

Writes OUTPUT/1 to OUTPUT/SETS, each a `folder:` dataset with the same parts: class k is in set
1 + k % SETS. The images are PNG, so that what is left of them is what it was.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fgvc_jax.commands.start import run
from fgvc_jax.data import images, sources
from fgvc_jax.utils.command_line import command_line
from fgvc_jax.utils.errors import UserError

BLACK = 24  # of 255: what JPEG leaves of black stays below


@dataclass(frozen=True)
class Arguments:
    """Cut the black bars off a letterboxed dataset."""

    source: str = "cub:data/cub200_2010"
    """As --data.source of the training."""
    output: Path = Path("data/cub200_2010_cut")
    """A folder to make."""
    sets: int = 3
    """So many sets of disjoint classes."""


def inside(pixels: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) uint8 without the rows and columns at its edges that are all black; where
    nothing else is, as it is."""
    bright = pixels.max(-1) >= BLACK
    for axis in (1, 0):
        lines = np.flatnonzero(bright.any(axis))
        if lines.size:
            kept = slice(lines[0], lines[-1] + 1)
            pixels, bright = ((x[kept] if axis == 1 else x[:, kept]) for x in (pixels, bright))
    return pixels


def main(arguments: list[str]) -> None:
    chosen = command_line(
        Arguments, arguments, program="python scripts/cut_bars.py", default=Arguments()
    )
    if chosen.output.exists():
        raise UserError(f"{str(chosen.output)!r} is there already: remove it, or name another")
    splits = sources.open_source(chosen.source)
    try:
        for name, part in splits.parts.items():
            for i in range(len(part)):
                label = int(part.labels[i])
                title = splits.classes[label].replace("/", "_")
                folder = chosen.output / str(1 + label % chosen.sets) / name / title
                folder.mkdir(parents=True, exist_ok=True)
                picture = images.read(part[i], orientation="stored")
                Image.fromarray(inside(np.asarray(picture))).save(folder / f"{part.ids[i]}.png")
    except BaseException:
        shutil.rmtree(chosen.output, ignore_errors=True)  # part of a set is none
        raise


if __name__ == "__main__":
    run(main)
