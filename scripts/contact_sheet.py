"""Writes a contact sheet of the embedded dataset: a row of images for each of the first species.

    python scripts/contact_sheet.py --output docs/sketchbirds.png --masks

With --masks, a last row shows the parts of the first bird of each row as the renderer knows them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fgvc_jax.commands.start import run
from fgvc_jax.data.sketchbirds import SEED, Sketchbirds, open_sketchbirds
from fgvc_jax.utils.command_line import command_line

_CAPTION = 16
_GAP = 2
_COLOURS = 128  # of the palette: keeps the default sheet below 200 KB
_TINTS = {
    "crown": (230, 60, 60),
    "eye": (255, 255, 255),
    "bill_shape": (60, 140, 255),
    "bill_colour": (60, 140, 255),
    "breast": (60, 200, 90),
    "wing": (250, 200, 40),
    "tail": (200, 80, 220),
    "legs": (40, 220, 220),
}


@dataclass(frozen=True)
class Arguments:
    """A row of images for each of the first species of the embedded dataset."""

    output: Path = Path("sketchbirds.png")
    """The PNG file to write."""
    species: int = 6
    """Rows: the first so many species."""
    images: int = 6
    """Columns: the first so many training images of each."""
    size: int = 96
    """Width and height of an image in pixels."""
    masks: bool = False
    """Add a row that shows the masks of the parts."""


def overlay(birds: Sketchbirds, i: int) -> np.ndarray:
    """Image i in grey with each part in its colour: (H,W,3) uint8."""
    shown = np.repeat(birds[i]["image"].mean(axis=-1, keepdims=True), 3, axis=-1) * 0.5
    for part, mask in birds.masks(i).items():
        shown[mask] = 0.3 * shown[mask] + 0.7 * np.array(_TINTS[part])
    return shown.astype(np.uint8)


def contact_sheet(rows: list[tuple[str, list[np.ndarray]]]) -> Image.Image:
    """Rows of equally large images (H,W,3) uint8, each under its caption."""
    height, width = rows[0][1][0].shape[:2]
    pitch = height + _CAPTION + _GAP
    columns = max(len(images) for _, images in rows)
    sheet = Image.new("RGB", (columns * (width + _GAP) - _GAP, len(rows) * pitch), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for r, (caption, images) in enumerate(rows):
        draw.text((2, r * pitch + 1), caption, fill="black", font=font)
        for c, image in enumerate(images):
            sheet.paste(Image.fromarray(image), (c * (width + _GAP), r * pitch + _CAPTION))
    return sheet.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def main(arguments: Arguments) -> None:
    birds = open_sketchbirds(
        seed=SEED, species=arguments.species, train_per_class=arguments.images, size=arguments.size
    ).train
    rows = [
        (name, [birds[c * arguments.species + r]["image"] for c in range(arguments.images)])
        for r, name in enumerate(birds.species)
    ]
    if arguments.masks:
        shown = [overlay(birds, i) for i in range(min(arguments.species, arguments.images))]
        rows.append(("the parts of the first bird of each row", shown))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(rows).save(arguments.output, optimize=True)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e3:.0f} KB")


if __name__ == "__main__":
    program = "python scripts/contact_sheet.py"
    run(lambda words: main(command_line(Arguments, words, program=program, default=Arguments())))
