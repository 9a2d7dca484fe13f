"""Name the classes of new photographs."""

import contextlib
import itertools
import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import jax
from tqdm import tqdm

import fgvc_jax
from fgvc_jax.commands import lists, named
from fgvc_jax.commands.asked import Prediction
from fgvc_jax.data import detections, grouped, inputs
from fgvc_jax.inference import listed, stream
from fgvc_jax.inference.model import Model
from fgvc_jax.inference.rows import AnswerRow, AnswerRows
from fgvc_jax.utils import compilation, devices, machine, paths, processes, progress
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import csv_table, printable
from fgvc_jax.workdir import storage

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> None:
    options = named.read(Prediction, "predict", arguments)
    predict(options)


def predict(options: Prediction) -> None:
    """Answer for the images and write or print the table.

    Raises:
        UserError: when something is not as it must be to begin; or at the end, when images could
            not be read, with their number.
    """
    output = _output(options)
    files = _files(options)
    chosen = {
        name: listed.read_list(file, f"--{name}")
        for name in ("classes", "exclude")
        if (file := getattr(options, name))
    }
    options = named.of_a_run(options)
    compilation.use_compilation_cache()
    if options.distributed:
        processes.join_processes()
        processes.check_alike(options, ("--workdir", "--images", "--output", "--boxes"))
    asked = fgvc_jax.load(
        options.workdir,
        which=options.which,
        members=options.members,
        mesh=devices.own(options.batch_size),
        members_at_once=options.members_at_once,
        **options.reading,
    )
    asked = asked.with_tta(options.tta)
    if chosen:
        asked = asked.among(chosen.get("classes"), exclude=chosen.get("exclude", ()))
    if options.label_next:
        counts = lists.to_label(asked, options, files)
    elif options.group:
        counts = lists.of_events(asked, options, files)
    else:
        counts = answer(asked, options, _share(files), output)
    count, problems = (processes.total(counts[name]) for name in ("files", "problems"))
    if problems:
        apart = options.label_next or options.group  # by a warning, in tables of other rows
        why = "they are named above" if apart or not output else "the column error says why"
        raise UserError(f"{problems:,} of {count:,} images could not be read: {why}")


def answer(
    asked: Model, options: Prediction, files: Iterable[inputs.InputFile], output: Path | None
) -> dict[str, int]:
    """Ask a model for this process's files and write the table, or print it; how many "files" there
    were, and how many "problems"."""
    rows = AnswerRows(
        asked,
        top=options.top,
        risk=options.risk,
        calibrated=options.calibrated,
        sets=options.sets,
        boxes=bool(options.boxes),
        coarsen=options.coarsen or None,
        unknown_rate=options.unknown_rate or None,
        neighbours=options.neighbours,
    )
    if options.unknown_rate:
        log.info(
            "--unknown-rate %g: %g %% of photographs of known classes are called unknown, too; %s",
            options.unknown_rate,
            100 * options.unknown_rate,
            asked.novelty.about,
        )
    if rows.coarsening:
        log.info("--coarsen %g: %s", options.coarsen, rows.coarsening.about)
    answered = stream.answer(
        asked,
        files,
        batch_size=options.batch_size,
        threads=machine.cores(processes.processes_here()),
        embed=options.neighbours > 0 or options.unknown_rate > 0,
    )
    counts, alone = {"files": 0, "problems": 0}, len(asked.numbers) == 1
    with _table(output, rows.columns, options.csv_safe, alone) as write, _progress(output) as shown:
        for some in answered:
            write(rows.of(some))
            counts["files"] += len(some.paths)
            counts["problems"] += sum(map(bool, some.problems))
            shown.update(len(some.paths))
    if rows.coarsening and counts["files"] > counts["problems"]:
        log.info(
            "--coarsen %g: of these photographs are answered: %s", options.coarsen, rows.shares
        )
    return counts


def _files(options: Prediction) -> Iterator[inputs.InputFile]:
    """What is asked for: photographs, boxes of some, or those of a list with their events."""
    if options.group:
        if len(options.images) != 1 or Path(options.images[0]).suffix.lower() != ".csv":
            raise UserError(
                "--group takes one list, such as photos.csv, with the columns path and "
                f"{options.group!r}"
            )
        file = paths.local(options.images[0], "list")
        # Its header is looked at before a model is opened.
        return inputs.with_a_first(
            grouped.listed(file, options.group), f"{str(file)!r} lists nothing"
        )
    if not options.boxes:
        return inputs.expand_some(options.images)
    boxes = paths.local(options.boxes, "--boxes")
    listed = detections.read(boxes, confidence=options.confidence)
    found = detections.photographs(boxes, listed, options.images)
    return inputs.with_a_first(
        detections.boxes(found, whole=options.whole),
        f"no photograph has a box of --confidence {options.confidence:g}: --whole answers all",
    )


def _output(options: Prediction) -> Path | None:
    """The table's file, refused before the work begins if it cannot be written."""
    alone = [name for name in ("label_next", "group") if getattr(options, name)]
    others = "group", "sets", "coarsen", "neighbours", "unknown_rate", "boxes", "distributed"
    asked = [name for name in others if getattr(options, name) and name not in alone[:1]]
    if alone and asked:
        one, other = (name.replace("_", "-") for name in (alone[0], asked[0]))
        raise UserError(f"--{other} says nothing of --{one}: leave it out")
    if options.label_next and Path(options.output).suffix.lower() != ".csv":
        raise UserError("--label-next needs --output, a list to fill in such as next.csv")
    if options.group and options.output and Path(options.output).suffix.lower() != ".csv":
        raise UserError(f"--output {options.output!r}: with --group end it in .csv")
    if not options.output:
        if options.distributed:
            raise UserError("--distributed needs --output, where each process writes its part")
        return None
    output = paths.output(options.output)
    if output.suffix.lower() not in _WRITERS:
        raise UserError(f"--output {options.output!r}: end it in {' or '.join(_WRITERS)}")
    if options.label_next:
        lists.check_unlabelled(output)
    return output


def _share(files: Iterable[inputs.InputFile]) -> Iterator[inputs.InputFile]:
    """Every n-th file, where there are n processes."""
    return itertools.islice(files, jax.process_index(), None, jax.process_count())


# -- the table -------------------------------------------------------------------------------------

Write = Callable[[Iterable[AnswerRow]], None]
WIDE = 100  # characters of a printed table that goes to a file or another program
CERTAIN = 0.9995  # probability from which on nobody is told that it is 100.0%
MATTERS = 0.01  # probability of a runner-up from which on people are told of it


@contextlib.contextmanager
def _table(output: Path | None, columns: Sequence[str], safe: bool, alone: bool) -> Iterator[Write]:
    """What writes rows to the output, or prints them; `safe`: see --csv-safe; `alone`: see
    `_Printed`."""
    if output is None:
        yield _Printed(columns, alone=alone)
        return
    if jax.process_count() > 1:
        part = f"{output.stem}-{jax.process_index() + 1}-of-{jax.process_count()}"
        output = output.with_name(part + output.suffix)
    with storage.new_text(output) as file:
        yield _WRITERS[output.suffix.lower()](file, columns, safe)
    print(f"written: {printable(str(output))}")


def _csv(file: IO[str], columns: Sequence[str], safe: bool) -> Write:
    """Rows as CSV with a header; lists as JSON, true and false in small letters."""
    write_text = csv_table(file, columns, safe=safe)

    def cell(value: object) -> object:
        return json.dumps(value, ensure_ascii=False) if isinstance(value, (bool, list)) else value

    def write(rows: Iterable[AnswerRow]) -> None:
        write_text({name: cell(value) for name, value in row.items()} for row in rows)

    return write


def _json_lines(file: IO[str], _columns: Sequence[str], _safe: bool) -> Write:
    """Rows as JSON objects, one a line."""

    def write(rows: Iterable[AnswerRow]) -> None:
        file.writelines(json.dumps(row) + "\n" for row in rows)

    return write


_WRITERS = {".csv": _csv, ".jsonl": _json_lines}


class _Printed:
    """A table on the terminal, with as many of the likeliest classes, and of the neighbours, as fit
    side by side, in a terminal or in `WIDE` characters; the first rows decide on the widths of the
    columns. `alone`: there is one member, which always agrees with itself."""

    def __init__(self, columns: Sequence[str], *, alone: bool):
        self._ranks = sum(column.startswith("class") for column in columns)
        self._sets = "set" in columns
        self._boxes = "box" in columns
        self._outside, self._coarser = "outside" in columns, "level" in columns
        self._unknown = "unknown" in columns
        self._neighbours = sum(column.startswith("similarity") for column in columns)
        self._alone = alone
        self._widths: list[int] = []

    def __call__(self, rows: Iterable[AnswerRow]) -> None:
        rows = list(rows)
        if not self._widths:
            self._decide([row for row in rows if not row["error"]])
        for row in rows:
            self._print(self._cells(row))
        sys.stdout.flush()

    def _decide(self, rows: Sequence[AnswerRow]) -> None:
        terminal = sys.stdout.isatty()
        room = shutil.get_terminal_size().columns if terminal else WIDE
        asked = self._ranks, self._neighbours
        while True:
            likeliest = [str(rank) for rank in range(1, self._ranks + 1)]
            header = [
                "path",
                *(["box"] if self._boxes else []),
                *likeliest,
                *([] if self._alone else ["agree"]),
                "unsure",
                *(["could be"] if self._sets else []),
                *(["outside"] if self._outside else []),
                *(["answer"] if self._coarser else []),
                *(["unknown"] if self._unknown else []),
                *(f"near {n}" for n in range(1, self._neighbours + 1)),
            ]
            lines = [header, *map(self._cells, rows)]
            self._widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
            most = max(self._ranks, self._neighbours)
            if most == 1 or sum(self._widths) + 2 * len(self._widths) <= room:
                if not terminal and asked != (self._ranks, self._neighbours):
                    log.info("what %d characters hold is printed: --output FILE.csv has all", WIDE)
                return self._print(header)
            self._ranks, self._neighbours = (
                min(count, most - 1) for count in (self._ranks, self._neighbours)
            )

    def _print(self, cells: Sequence[str]) -> None:
        padded = (f"{cell:<{width}}" for cell, width in zip(cells, self._widths, strict=False))
        print("  ".join(padded).rstrip())

    def _cells(self, row: AnswerRow) -> list[str]:
        if row["error"]:
            return [printable(row["path"]), f"error: {printable(row['error'])}"]
        ranks = range(1, self._ranks + 1)
        cells = [row["path"]]
        cells += [" ".join(f"{n:.2f}" for n in row["box"] or ())] if self._boxes else []
        cells += [_likely(row[f"class{n}"], row[f"probability{n}"], n) for n in ranks]
        cells += [] if self._alone else [f"{row['agreement']:.0%}"]
        cells += [{True: "unsure", False: "", None: "-"}[row["unsure"]]]
        cells += [f"1 of {len(row['set'])}"] if self._sets else []
        cells += [f"{row['outside']:.1%}"] if self._outside else []
        cells += [_coarser(row)] if self._coarser else []
        cells += ["unknown" if row["unknown"] else ""] if self._unknown else []
        cells += [_near(row, n) for n in range(1, self._neighbours + 1)]
        return [printable(cell) for cell in cells]


def _likely(name: str, probability: float, rank: int) -> str:
    """A class in a cell; empty for a runner-up that does not matter."""
    told = f"{probability:.1%}" if probability < CERTAIN else "over 99.9%"
    return f"{name} {told}" if rank == 1 or probability >= MATTERS else ""


def _coarser(row: AnswerRow) -> str:
    """What is said at a coarser level, in a cell."""
    if not row["level"]:
        return "left open"
    return f"{row['answer']} ({row['level']}) {row['answer_probability']:.1%}"


def _near(row: AnswerRow, n: int) -> str:
    """The n-th nearest training photograph, in a cell."""
    file = row[f"neighbour{n}"].rpartition("/")[2] or row[f"neighbour{n}"]
    return f"{row[f'neighbour_class{n}']} {row[f'similarity{n}']:.2f} ({file})"


def _progress(output: Path | None) -> tqdm:
    """A bar beside a table that is written; a table that is printed tells by itself."""
    off = True if output is None or jax.process_index() else None
    return progress.bar(desc="answered", unit=" images", disable=off)
