"""The road of somebody with photographs, walked by a program: what is found, and how long it takes.

    python scripts/walk.py --source cub:data/cub200_2010 --output runs/walk

Makes a folder of 12 species with 25 photographs each, and plants faults in it: a copy of one
species among another, one photograph moved to a wrong folder, a doubled one, a broken file, a text
called .jpg, one that is turned by its EXIF tag. Then inspects it, writes a clean list, trains,
reports, predicts, explains, trains a student and exports, each as a command of its own, and says
the seconds of each, what was found of what was planted, and how large the workdir is.
"""

import csv
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from fgvc_jax.commands.start import run
from fgvc_jax.data import images, sources
from fgvc_jax.utils.command_line import command_line
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import table

TURNED = 0x0112, 6  # the EXIF tag of orientation, and a quarter turn


@dataclass(frozen=True)
class Walk:
    """Walk from a folder of photographs to a page to hand around."""

    source: str = "cub:data/cub200_2010"
    """Where the photographs are taken from, as --data.source of train."""
    output: Path = Path("runs/walk")
    """A folder to make: the photographs, workdirs and pages."""
    species: int = 12
    """So many classes, the first that have enough photographs."""
    photographs: int = 25
    """Of each."""
    asked: int = 8
    """Photographs that are predicted and explained, which are not among those that are learned."""


def main(arguments: list[str]) -> None:
    options = command_line(Walk, arguments, program="python scripts/walk.py", default=Walk())
    if options.output.exists():
        raise UserError(f"{str(options.output)!r} is there already: remove it, or name another")
    planted = plant(options)
    seconds = walk(options.output)
    found = found_of(planted, options.output)
    print(table(("step", "seconds"), [[name, f"{taken:.1f}"] for name, taken in seconds.items()]))
    print(table(("planted", "found"), [[what, str(where)] for what, where in found.items()]))
    results = json.loads((options.output / "run/results.json").read_text())
    print(f"accuracy {results['ensemble'][-1]:.1%} of {results['images']['test']} test images")
    size = sum(file.stat().st_size for file in (options.output / "run").rglob("*.*"))
    print(f"workdir {size / 1e6:.0f} MB; {sum(seconds.values()):.0f} s in all")


def plant(options: Walk) -> dict[str, str]:
    """Make the photographs; of what was planted the file's name, by what it is."""
    splits = sources.open_source(options.source)
    each = options.photographs + 1
    parts = [(part, i) for part in splits.parts.values() for i in range(len(part))]
    of_class: dict[int, list[int]] = {}
    for number, (part, i) in enumerate(parts):
        of_class.setdefault(int(part.labels[i]), []).append(number)
    chosen = [label for label in sorted(of_class) if len(of_class[label]) >= each]
    if len(chosen) < options.species:
        raise UserError(f"{options.source!r} has {len(chosen)} classes of {each} photographs")
    chosen = chosen[: options.species]
    birds, asked = options.output / "birds", options.output / "asked"
    folders = []
    for label in chosen:
        folder = birds / splits.classes[label].replace("/", "_")
        folder.mkdir(parents=True)
        folders.append(folder)
        for number in of_class[label][: options.photographs]:
            part, i = parts[number]
            save(images.read(part[i], orientation="stored"), folder / f"{number:05}.jpg")
    asked.mkdir()
    for label in chosen[: options.asked]:
        part, i = parts[of_class[label][options.photographs]]
        save(images.read(part[i], orientation="stored"), asked / f"{label:03}.jpg")
    return planted_in(folders)


def planted_in(folders: list[Path]) -> dict[str, str]:
    """Plant the faults; of each the file's name, by what it is."""
    first, second, third, *_, last = folders
    files = [sorted(folder.iterdir()) for folder in folders]
    shutil.copy(files[0][0], second / "copied.jpg")
    shutil.move(files[2][1], last / "moved.jpg")
    shutil.copy(files[1][2], second / "doubled.jpg")
    (third / "broken.jpg").write_bytes(files[2][2].read_bytes()[:2000])
    (first / "words.jpg").write_text("This is no photograph.\n")
    turned = Image.Exif()
    turned[TURNED[0]] = TURNED[1]
    sideways = Image.open(files[3][0]).rotate(90, expand=True)
    save(sideways, files[3][0], exif=turned)
    return {
        "a copy in another species": "copied.jpg",
        "a photograph in a wrong folder": "moved.jpg",
        "a doubled photograph": "doubled.jpg",
        "a broken file": "broken.jpg",
        "a text called .jpg": "words.jpg",
    }


def save(picture: Image.Image, file: Path, **more: object) -> None:
    picture.convert("RGB").save(file, quality=92, **more)


def walk(folder: Path) -> dict[str, float]:
    """Seconds of each command.

    Raises:
        UserError: when one fails.
    """
    # What the user's cache has of an earlier walk would shorten this one.
    cache = "--data.cache precomputed"
    steps = {
        "inspect": "inspect birds --output inspect.html --clean birds.csv",
        "train": f"train csv:birds.csv --workdir run {cache}",
        "report": "report run --output report.html",
        "predict": "predict run asked --output answers.csv",
        "explain": "explain run asked --output pictures",
        "student": f"train csv:birds.csv --objective kd --kd.teacher run --workdir student {cache}",
        "export": "export run --format onnx --output exported",
    }
    seconds = {}
    for name, words in steps.items():
        command, *rest = words.split()
        print(f"python -m fgvc_jax.{words}", flush=True)
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", f"fgvc_jax.{command}", *rest],
            cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
        seconds[name] = time.perf_counter() - began
        if done.returncode:
            raise UserError(f"{name} failed: {done.stderr.strip().splitlines()[-1]}")
    return seconds


def found_of(planted: dict[str, str], folder: Path) -> dict[str, str]:
    """By what and where each planted file was told: the clean list, or doubted labels."""
    with open(folder / "birds.csv", newline="", encoding="utf-8") as file:
        reasons = {
            Path(row["path"]).name: row.get("left_out_because") for row in csv.DictReader(file)
        }
    report = json.loads((folder / "report.json").read_text())
    doubted = [*report["doubted_training_labels"], *report["doubted_labels"]]
    ranks = {Path(each["name"]).name: number for number, each in enumerate(doubted, start=1)}
    found = {}
    for what, name in planted.items():
        rank = f"doubted label {ranks[name]} of {len(doubted)}" if name in ranks else "not found"
        found[what] = reasons.get(name) or rank
    return found


if __name__ == "__main__":
    run(main)
