"""Draw what members look at, and why A rather than B."""

import csv
import logging
import os
import re
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import fgvc_jax
from fgvc_jax.commands import named
from fgvc_jax.commands.asked import Explanation
from fgvc_jax.data import inputs, left_out, regions, sources
from fgvc_jax.data.inputs import InputFile
from fgvc_jax.figures import explained, explanation, nearest, panels
from fgvc_jax.figures.framed import framed
from fgvc_jax.figures.page import address
from fgvc_jax.inference import gradcam, pointing
from fgvc_jax.inference.gradcam import AT_ONCE, Evidence
from fgvc_jax.inference.model import Model
from fgvc_jax.utils import compilation, devices, paths, progress
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import counted, csv_table, printable, table
from fgvc_jax.workdir import storage, unread
from fgvc_jax.workdir.folder import Workdir

FIGURE_MOST = 24  # images side by side and below each other
LONGEST_STEM = 60  # letters of an image's name that its picture keeps
PICTURE = re.compile(r"[0-9]{4,}-[A-Za-z0-9_-]+\.png")  # a name that pictures have
INDEX = "pictures.csv"
PAGE = "index.html"  # which shows them
SHOWN, SMALL = 200, 480  # on it, and their longest side in pixels; the others are named
COLUMNS = "path", "picture", "class", "probability", "against", "probability_against", "error"

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> None:
    options = named.read(Explanation, "explain", arguments)
    _check(options)
    options = named.of_a_run(options)
    if options.score:
        print(_report(score(options)))
    elif options.figure:
        figure(options)
    else:
        write_pictures(options)


def _check(options: Explanation) -> None:
    """Raise a UserError where options do not fit together."""
    if options.score and options.images:
        raise UserError("--score takes the test images by itself: leave the others out")
    if options.score and options.figure:
        raise UserError("--score and --figure are two things: ask for one of them")
    if options.source and not options.score:
        raise UserError("--source names where --score takes its images from: add --score 200")
    if options.against and (options.score or options.figure):
        raise UserError("--against is for pictures of single images: leave it out")
    if options.independent and not options.figure:
        raise UserError("--independent names a run to show in a figure: add --figure")
    if options.figure and not options.independent:
        raise UserError("--figure needs --independent, a run of independently trained networks")
    if not options.score and not options.output:
        raise UserError("name a folder for the pictures: --output pictures")


def _open(options: Explanation, workdir: str = "") -> Model:
    asked = fgvc_jax.load(
        workdir or options.workdir,
        which=options.which,
        members=0 if workdir else options.members,
        mesh=devices.own(AT_ONCE),
        **options.reading,
    )
    if options.calibrated:
        for doubt in asked.calibration.doubts:
            log.warning("warning: %s", doubt)
    return asked


# -- one picture an image --------------------------------------------------------------------------


def write_pictures(options: Explanation) -> None:
    """Write the pictures.

    Raises:
        UserError: before anything is written, for what does not fit; or at the end, with the number
            of images that could not be read.
    """
    files = inputs.expand_some(options.images)
    output = _folder(options.output)
    files = inputs.with_a_first(
        _outside(files, output),
        f"all images are in --output {options.output!r} itself, whose pictures are not explained "
        "again: name another folder",
    )
    earlier, drawn = _earlier(output), set()
    cards: list[dict[str, Any]] = []
    compilation.use_compilation_cache()
    asked = _open(options)
    against = gradcam.class_number(asked, options.against)
    readable = _Readable(asked, files)
    found = gradcam.find_evidence(
        asked, readable, against=against, calibrated=options.calibrated, decoded=True
    )
    with (
        storage.new_text(output / INDEX) as file,
        progress.bar(desc="explained", unit=" images") as shown,
    ):
        write = csv_table(file, COLUMNS, safe=options.csv_safe)
        for e in found:
            broken, number, path = readable.next()
            write(broken)
            name = f"{number:04d}-{_stem(path)}.png"
            drawn.add(name)
            near = nearest.panel_rows(asked, e.seen, [e.predicted, e.against])
            whole = framed(asked, path, panels.SIDE, panels.PAPER)
            end = explanation.end(path)
            page = explanation.page(asked.classes, e, end, asked.numbers, near, whole)
            explained.write(page, output / name)
            row = {"path": path, "picture": name} | _said(asked, e)
            write([row])
            small = address(page, SMALL) if len(cards) < SHOWN else None
            cards.append({"name": name, "path": path, "class": row["class"], "small": small,
                          "probability": float(row["probability"])})  # fmt: skip
            shown.update(1 + len(broken))
        write(readable.broken)
    if drawn:
        storage.write_text(output / PAGE, explanation.gallery(cards))
    gone = earlier if drawn else set()  # a misspelt path costs nobody the pictures that are there
    for name in gone - drawn:
        storage.remove(output / name)
    place = f", in place of {len(gone):,} of an earlier run" if gone else ""
    print(f"written: {counted(len(drawn), 'picture')} in {printable(str(output))}{place}")
    readable.tell()


class _Readable:
    """The squares of files one by one, past those that cannot be read: a warning names these.

    Args:
        asked: whose squares they are.
        files: to read.
    """

    def __init__(self, asked: Model, files: Iterator[InputFile]):
        self._asked = asked
        self._files = files
        self._waiting: deque[tuple[list[dict[str, str]], int, str]] = deque()
        self.count = 0
        self.problems = 0
        self.broken: list[dict[str, str]] = []  # behind the last that was read

    def __iter__(self) -> Iterator[np.ndarray]:
        for found in self._files:
            self.count += 1
            try:
                if found.problem:
                    raise UserError(found.problem)
                square = self._asked.square(found.path)
            except UserError as error:
                self.problems += 1
                self.broken.append({"path": found.path, "error": str(error)})
                log.warning("warning: %s", printable(str(error)))
                continue
            self._waiting.append((self.broken, self.count, found.path))
            self.broken = []
            yield square

    def next(self) -> tuple[list[dict[str, str]], int, str]:
        """On the earliest image that was not asked for yet: the rows of broken images before it,
        its number from 1, and its path."""
        return self._waiting.popleft()

    def tell(self) -> None:
        """Raise a UserError that counts what could not be read, if there was something."""
        if self.problems:
            raise UserError(
                f"{self.problems:,} of {self.count:,} images could not be read: a line above and "
                f"{INDEX} say why"
            )


def _earlier(output: Path) -> set[str]:
    """Names of the pictures that an earlier run drew in a folder, as its table says.

    Raises:
        UserError: when the table is somebody else's.
    """
    path = output / INDEX
    if not path.exists():
        if (output / PAGE).exists():
            raise UserError(
                f"{str(output / PAGE)!r} is no page of this command, which would replace it: name "
                "another --output"
            )
        return set()
    try:
        with paths.readable(path).open(
            encoding="utf-8", errors="surrogateescape", newline=""
        ) as file:
            rows = csv.DictReader(file)
            if tuple(rows.fieldnames or ()) == COLUMNS:
                return {row["picture"] for row in rows if PICTURE.fullmatch(row["picture"] or "")}
    except (OSError, csv.Error) as error:
        raise UserError(f"{str(path)!r} cannot be read ({error}): move it away") from error
    raise UserError(
        f"{str(path)!r} is no table of this command, which would replace it: name another --output"
    )


def _said(asked: Model, e: Evidence) -> dict[str, Any]:
    chance, less = np.exp(e.log_probabilities[[e.predicted, e.against]])
    return {
        "class": asked.classes[e.predicted],
        "probability": f"{chance:.6g}",
        "against": asked.classes[e.against],
        "probability_against": f"{less:.6g}",
    }


# -- the publication's figure ----------------------------------------------------------------------


def figure(options: Explanation) -> None:
    """Write figure.png of all images.

    Raises:
        UserError: as `write_pictures`.
    """
    files = list(inputs.expand_some(options.images))
    if len(files) > FIGURE_MOST:
        raise UserError(f"--figure of {len(files):,} images: choose {FIGURE_MOST} at the most")
    _ = Workdir(options.independent, "--independent")
    output = _folder(options.output)
    compilation.use_compilation_cache()
    asked, alone = _open(options), _open(options, options.independent)
    if asked.numbers[:2] not in ((1,), (1, 2)):
        raise UserError("--figure shows a teacher and its first student: leave --members out")
    if len(asked.members) < 2:
        raise UserError(f"workdir {options.workdir!r} has one member, and no student to show")
    if set(asked.classes) != set(alone.classes):
        raise UserError(f"{options.independent!r} was trained on other classes: name another run")
    readable = _Readable(asked, iter(files))
    squares = list(readable)
    images = [readable.next()[2] for _ in squares]
    if squares:
        drawn = explanation.comparison(
            [os.path.basename(image) for image in images],
            theirs=list(gradcam.find_evidence(alone, images)),
            ours=list(gradcam.find_evidence(asked, squares, decoded=True)),
            runs=(options.independent, options.workdir),
            kind=options.map,
        )
        explained.write(drawn, output / "figure.png")
        print(f"written: {printable(str(output / 'figure.png'))}")
    readable.tell()


# -- scores ----------------------------------------------------------------------------------------


def score(options: Explanation) -> dict[str, Any]:
    """`pointing.score_maps` of test images; where an output is named, score.json there has it, too.

    Raises:
        UserError: when there is no such run or dataset, or it does not say where things are.
    """
    output = _folder(options.output) if options.output else None
    workdir = Workdir(options.workdir)
    experiment = workdir.record().experiment
    spec = options.source or experiment.data.source
    splits = sources.open_source(spec, to_train=False)
    if not options.source:
        splits = left_out.without(splits, {each.name for each in unread.left_out(workdir)})
    compilation.use_compilation_cache()
    asked = _open(options)
    some = experiment.data.classes > 0
    source = sources.with_classes(splits.test, splits.classes, asked.classes, spec, some=some)
    known = regions.find_regions(spec, source, len(asked.classes), asked.view)
    count = min(options.score, len(source))
    chosen = np.sort(np.random.default_rng(pointing.SEED).permutation(len(source))[:count])
    shown = partial(progress.bar, desc="scored", total=count, unit=" images", leave=False)
    found = {"workdir": options.workdir, "source": spec, "which": options.which}
    found |= pointing.score_maps(asked, source, chosen.tolist(), known, shown)
    if output:
        storage.write_json(output / "score.json", found)
    return found


def _report(found: dict[str, Any]) -> str:
    """What the terminal shows."""
    shown = [name for name, region in found["regions"].items() if region["images"]]
    header = ["map", *(f"{kind} {name}" for name in shown for kind in pointing.SCORES)]
    rows = []
    for each in found["maps"]:
        cells = [
            _interval(each["scores"][name][kind]) for name in shown for kind in pointing.SCORES
        ]
        rows.append([" of ".join(filter(None, (each["map"], each["of"]))), *cells])
    lines = [table(header, rows), ""]
    for name, region in found["regions"].items():
        lines.append(
            f"{name}: {region['about']}, in {region['images']:,} of {found['images']:,} images, "
            f"{region['area']:.1%} of the image"
        )
    return "\n".join(lines)


def _interval(score: dict[str, float]) -> str:
    return f"{score['value']:.1%} ({score['low']:.1%} to {score['high']:.1%})"


# -- files -----------------------------------------------------------------------------------------


def _folder(text: str) -> Path:
    """The folder that `--output` names, made where it is missing."""
    path = paths.local(text, "--output")
    try:
        path.mkdir(exist_ok=True)
    except FileNotFoundError:
        raise UserError(
            f"--output {text!r}: there is no folder {str(path.parent)!r}; make it first"
        ) from None
    except OSError as error:
        raise UserError(f"--output {text!r} is no folder to write to: {error.strerror}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"--output {text!r} cannot be written: name another folder")
    return path


def _outside(files: Iterator[InputFile], output: Path) -> Iterator[InputFile]:
    """The files that are not in the folder of the pictures, which may be among those to explain;
    in folders below it there are none of ours."""
    ours = os.path.realpath(output)
    for found in files:
        if os.path.realpath(os.path.dirname(os.path.expanduser(found.path))) != ours:
            yield found


def _stem(path: str) -> str:
    """A part of a file name that is safe everywhere, to know an image by."""
    stem = Path(path).stem.encode("ascii", "replace").decode()
    return re.sub(r"[^A-Za-z0-9_]+", "-", stem)[:LONGEST_STEM].strip("-") or "image"
