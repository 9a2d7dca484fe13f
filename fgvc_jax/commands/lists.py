"""Other tables than one of all photographs, for `predict`: what to label next, and events."""

import csv
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from fgvc_jax.commands.asked import Prediction
from fgvc_jax.data.images import in_one_line
from fgvc_jax.data.inputs import InputFile
from fgvc_jax.inference import stream
from fgvc_jax.inference.events import Events
from fgvc_jax.inference.labelling import ToLabel
from fgvc_jax.inference.model import Model
from fgvc_jax.inference.stream import Answered
from fgvc_jax.utils import machine, paths, processes, progress
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import csv_table, is_utf8, no_formula_path, printable, table
from fgvc_jax.workdir import storage

LABELS = "path", "label", "suggestion", "probability", "uncertainty"  # of a list to fill in
log = logging.getLogger(__name__)


def check_unlabelled(output: Path) -> None:
    """Raise a UserError where there is a list already, in which somebody has begun to write
    labels."""
    if not output.is_file():
        return
    with output.open(newline="", encoding="utf-8", errors="replace") as file:
        try:
            filled = any((row.get("label") or "").strip() for row in csv.DictReader(file))
        except csv.Error:
            filled = False
    if filled:
        raise UserError(
            f"--output {str(output)!r} has labels that somebody filled in, which --label-next "
            "would replace: name another list"
        )


def to_label(asked: Model, options: Prediction, files: Iterable[InputFile]) -> dict[str, int]:
    """Write a list of the files that are worth a label, see --label-next; how many "files" there
    were, and how many "problems"."""
    output, found = paths.output(options.output), ToLabel(asked, options.label_next)
    counts = _answered(asked, options, _below(files, output), found.add, embed=True)
    chosen = found.chosen()
    with storage.new_text(output) as file:
        csv_table(file, LABELS, safe=options.csv_safe)(
            {
                "path": _relative(each.path, output),
                "label": "",
                "suggestion": each.suggestion,
                "probability": f"{each.probability:.4f}",
                "uncertainty": f"{each.uncertainty:.4f}",
            }
            for each in chosen
        )
    log.info(
        "%s: %s photographs to label, the most useful first; with the column label filled in it is "
        "the source csv:%s",
        output,
        f"{len(chosen):,}",
        output,
    )
    return counts


def of_events(asked: Model, options: Prediction, files: Iterable[InputFile]) -> dict[str, int]:
    """Write or print one row an event, see --group; counts as of `to_label`."""
    found = Events(asked, top=options.top, risk=options.risk)
    counts = _answered(asked, options, files, found.add)
    if options.output:
        with storage.new_text(paths.output(options.output)) as file:
            csv_table(file, found.columns, safe=options.csv_safe)(
                {name: _small(value) for name, value in row.items()} for row in found.rows()
            )
        print(f"written: {printable(options.output)}")
        return counts
    header = "event", "images", "class", "probability", "agreement", "", ""
    rows = [
        [row["event"], row["images"], row["class1"] or "", _percent(row["probability1"]),
         _percent(row["agreement"]), "unsure" if row["unsure"] else "", row["error"] or ""]
        for row in found.rows()
    ]  # fmt: skip
    print(table(header, rows))
    return counts


def _answered(
    asked: Model,
    options: Prediction,
    files: Iterable[InputFile],
    add: Callable[[Answered], None],
    *,
    embed: bool = False,
) -> dict[str, int]:
    """Hand answers for files on to `add`; counts as of `to_label`. A warning names what cannot be
    read, which has no row of its own."""
    count = 0
    problems: list[str] = []
    answered = stream.answer(
        asked,
        files,
        batch_size=options.batch_size,
        threads=machine.cores(processes.processes_here()),
        embed=embed,
    )
    with progress.bar(desc="answered", unit=" images") as shown:
        for some in answered:
            add(some)
            count += len(some.paths)
            problems += filter(None, some.problems)
            shown.update(len(some.paths))
    if problems:
        log.warning("warning: %s", in_one_line(problems, count))
    return {"files": count, "problems": len(problems)}


def _below(files: Iterable[InputFile], output: Path) -> Iterator[InputFile]:
    """The files, all of them below the folder of a list; one whose name a list in UTF-8 cannot hold
    has this for its problem, so that the list can be read."""
    for file in files:
        if _relative(file.path, output).split("/")[0] in ("..", ""):
            raise UserError(
                f"--output {str(output)!r}: {file.path!r} is not below its folder, as a csv: "
                "source asks for: write the list above the photographs, as --output "
                f"{paths.above(output.parent, file.path) / output.name}"
            )
        if not (file.problem or is_utf8(file.path)):
            why = f"the name of image {file.path!r} is not UTF-8, as a list is: rename it"
            file = file._replace(problem=why)
        yield file


def _relative(path: str, output: Path) -> str:
    """A path as a list in the file `output` has it."""
    path = os.path.relpath(
        os.path.abspath(os.path.expanduser(path)), os.path.abspath(output.parent)
    )
    # With an apostrophe before it, see --csv-safe, it would be the path of no file.
    return no_formula_path(Path(path).as_posix())


def _small(value: object) -> object:
    """True and false in small letters, as in the other tables."""
    return str(value).lower() if isinstance(value, bool) else value


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
