"""What the words of a command that asks a run name: a workdir, then photographs.

A word that could be two of these is refused, with a spelling for each.
"""

import logging
import os
import shlex
from dataclasses import fields, replace
from pathlib import Path

from fgvc_jax.commands import asked
from fgvc_jax.training.words import has_images, is_workdir, like_an_image, nothing
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.options import Config, positional, said
from fgvc_jax.utils.text import printable

RUNS = "runs"  # where runs are, unless a workdir says otherwise
DEEPEST = 3  # folders below it: those of a study are FOLDER/ROW/SEED

log = logging.getLogger(__name__)


def read(cls: type[Config], command: str, arguments: list[str]) -> Config:
    """The options of a command that asks a run: the one that comes first, or that --workdir names;
    its workdir is empty where none is (`of_a_run`)."""
    default = cls()
    words, rest = positional(arguments, default)
    takes_images = "images" in {field.name for field in fields(default)}
    workdir = said(rest, "--workdir")
    if workdir == "":
        raise UserError("--workdir is empty: name a run, or leave it out to ask the newest one")
    if takes_images and workdir is None:
        words, workdir = _before_images(words, command)
        if len(words) == 1 and _is_missing(words[0]):  # of several, the others are answered
            raise UserError(nothing(words[0]))
    elif words and not takes_images:
        words, workdir = [], _only(words, workdir, command)
    if (workdir or "").startswith("hf:") and not (takes_images or command == "demo"):
        raise UserError(
            f"{workdir!r} is an export on a hub, which predict, explain, embed and demo ask: "
            f"{command} takes the workdir that it was made of"
        )
    given = [] if workdir is None else ["--workdir", workdir]
    return asked.read(cls, command, [*words, *rest, *given])


def _before_images(words: list[str], command: str) -> tuple[list[str], str | None]:
    """(the images, the workdir before them where there is one)."""
    for other in words[1:]:
        if is_workdir(other):
            raise UserError(
                f"{other!r} is a workdir, of which a command takes one, before all images: "
                f"{command} {shlex.quote(other)} IMAGES; with --workdir all others are images"
            )
    if not words:
        return words, None
    first, *images = words
    if not is_workdir(first):
        if _is_missing(first) and not like_an_image(first):
            raise UserError(f"{nothing(first)}: {command} takes a workdir first, then images")
        return words, None
    if not images and has_images(os.path.expanduser(first)):
        quoted = shlex.quote(first)
        raise UserError(
            f"{first!r} could be two things: write --workdir {quoted} IMAGES to ask the run in it, "
            f"or --workdir RUN {quoted} for its images"
        )
    return images, first


def _only(words: list[str], workdir: str | None, command: str) -> str:
    """The workdir of a command that takes nothing else."""
    first, *others = words
    if not is_workdir(first):
        there = os.path.lexists(os.path.expanduser(first))
        what = f"{first!r} is no workdir (it has no config.json)" if there else nothing(first)
        raise UserError(f"{what}: {command} takes the workdir of a run")
    if workdir not in (None, first):
        others = [workdir or "", *others]
    if others:
        more = ", and --against others" if command == "report" else ""
        raise UserError(f"{first!r} and {others[0]!r} are two: {command} takes one workdir{more}")
    return first


def of_a_run(found: Config) -> Config:
    """The options with the newest finished run below `runs/`, which is told, where they name no
    workdir.

    Raises:
        UserError: where there is none.
    """
    if found.workdir:  # type: ignore[attr-defined]
        return found
    run = newest()
    log.info("%s: the newest finished run, since no workdir is named", printable(run))
    return replace(found, workdir=run)


def newest() -> str:
    """The finished run below `runs/` whose results were written last.

    Raises:
        UserError: where there is none.
    """
    from fgvc_jax.workdir.folder import Workdir

    depths = ("*/" * depth for depth in range(1, DEEPEST + 1))
    begun = {file.parent for depth in depths for file in Path(RUNS).glob(f"{depth}config.json")}
    results = [(_written(folder / "results.json"), str(folder)) for folder in begun]
    for _, folder in sorted((each for each in results if each[0]), reverse=True):
        try:
            workdir = Workdir(folder)
            if workdir.finished(workdir.record().experiment.members):
                return folder
        except UserError:  # of a newer version, or damaged
            continue
    some = f"none of the {len(begun)} below {RUNS}/ is finished" if begun else f"none is in {RUNS}/"
    raise UserError(
        f"no workdir is named, and {some}: name one first, or train one (python -m fgvc_jax.train)"
    )


def _written(file: Path) -> int:
    """When a file was written, in nanoseconds; 0 where there is none."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def _is_missing(word: str) -> bool:
    """Whether a word names neither a list nor anything that is there."""
    return not word.startswith("@") and not os.path.lexists(os.path.expanduser(word))
