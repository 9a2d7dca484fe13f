"""What the words of a command name: a workdir, photographs, a config or a source.

A word that could be two of these is refused, with a spelling for each.
"""

import difflib
import logging
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from fgvc_jax.commands import asked
from fgvc_jax.utils import config_files
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.options import positional, said
from fgvc_jax.utils.text import printable

T = TypeVar("T")
RUNS = "runs"  # where runs are, unless a workdir says otherwise
OWN_IMAGES = "folder:", "csv:"  # the sources that the config `folder` is for
MOST = 1000  # names that a misspelt one is compared with
DEEPEST = 3  # folders below it: those of a study are FOLDER/ROW/SEED

log = logging.getLogger(__name__)


# -- commands that ask a run -----------------------------------------------------------------------


def read(cls: type[T], command: str, arguments: list[str]) -> T:
    """The options of a command that asks a run: the one that comes first, or that --workdir names;
    its workdir is empty where none is (`of_a_run`)."""
    default: Any = cls()
    words, rest = positional(arguments, default)
    takes_images = "images" in {field.name for field in fields(default)}
    workdir = said(rest, "--workdir")
    if workdir == "":
        raise UserError("--workdir is empty: name a run, or leave it out to ask the newest one")
    if takes_images and workdir is None:
        words, workdir = _before_images(words, command)
        if len(words) == 1 and _is_missing(words[0]):  # of several, the others are answered
            raise UserError(_nothing(words[0]))
    elif words and not takes_images:
        words, workdir = [], _only(words, workdir, command)
    given = [] if workdir is None else ["--workdir", workdir]
    return asked.read(command, [*words, *rest, *given])


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
        if _is_missing(first) and not _like_an_image(first):
            raise UserError(f"{_nothing(first)}: {command} takes a workdir first, then images")
        return words, None
    if not images and _has_images(os.path.expanduser(first)):
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
        what = f"{first!r} is no workdir (it has no config.json)" if there else _nothing(first)
        raise UserError(f"{what}: {command} takes the workdir of a run")
    if workdir not in (None, first):
        others = [workdir or "", *others]
    if others:
        more = ", and --against others" if command == "report" else ""
        raise UserError(f"{first!r} and {others[0]!r} are two: {command} takes one workdir{more}")
    return first


def of_a_run(found: T) -> T:
    """The options with the newest finished run below `runs/`, which is told, where they name no
    workdir.

    Raises:
        UserError: where there is none.
    """
    if found.workdir:  # type: ignore[attr-defined]
        return found
    run = newest()
    log.info("%s: the newest finished run, since no workdir is named", printable(run))
    return replace(found, workdir=run)  # type: ignore[type-var]


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


# -- words -----------------------------------------------------------------------------------------


def is_workdir(word: str) -> bool:
    """Whether a word names a run: on a hub, in a bucket, or a folder with a config.json."""
    here = os.path.join(os.path.expanduser(word), "config.json")
    return word.startswith(("hf:", "gs://")) or ("\0" not in word and os.path.isfile(here))


def source_of(word: str) -> str:
    """The data source that a word names: as it is, a folder of images, or a .csv with a list.

    Raises:
        UserError: where it names none.
    """
    if is_workdir(word) and not _has_classes(os.path.expanduser(word)):
        raise UserError(f"{word!r} is a workdir, and a source is a folder of images, or NAME:PATH")
    readings = {"--data.source": word} if _is_source(word) else {}
    if os.path.lexists(os.path.expanduser(word)):
        readings["path"] = _source_at(word)
    if not readings:
        from fgvc_jax.data.sources import OPENERS

        raise UserError(f"{_nothing(word, OPENERS)}: a source is a folder of images, or NAME:PATH")
    _, source = _the_one(word, readings)
    return source


def _source_at(path: str) -> str:
    return f"csv:{path}" if path.lower().endswith(".csv") else f"folder:{path}"


def of_training(words: Sequence[str], rest: Sequence[str]) -> list[str]:
    """The words of `train` as options: a config, a source and a workdir, at most one of each.

    Args:
        words: a config as --config takes it; a folder of images or a .csv, which is for the config
            `folder`; a source; a workdir that is there.
        rest: the other arguments.

    Raises:
        UserError: for a word that is none of these, or could be two.
    """
    given = {flag: value for flag in _FLAGS if (value := said(rest, flag)) is not None}
    added: dict[str, str] = {}
    # A config and a source may be spelt alike (folder:birds): what can be no source is read first.
    for word in sorted(words, key=lambda word: (not is_workdir(word), _is_source(word))):
        flag, value = _reading(word, "--config" in given or "--workdir" in added)
        if given.get(flag, value) != value:
            raise UserError(
                f"{word!r} is a second {_FLAGS[flag]} beside {given[flag]!r}: give one of them"
            )
        given[flag] = added[flag] = value
    if "--data.source" in added and not given.keys() & {"--config", "--workdir"}:
        word = added["--data.source"]
        kind = word.partition(":")[0]
        if kind != "sketchbirds" and said(rest, "--kd.teacher") is None:
            known = {"cub", "cars", "aircraft"}
            config = f"kt:{kind},resnet50" if kind in known else "kt:SET,NETWORK"
            raise UserError(
                f"{word!r} says what to learn from, and not how: name a config, too, as in "
                f"train {config} {shlex.quote(word)}"
            )
    return [part for flag, value in added.items() for part in (flag, value)]


_FLAGS = {"--config": "config", "--data.source": "source", "--workdir": "workdir"}


def _reading(word: str, configured: bool) -> tuple[str, str]:
    """(option, its value) that a word of `train` stands for; `configured`: there is a config."""
    own = config_files.projects()
    named = word.partition(":")[0] in own
    path = os.path.expanduser(word)
    readings: dict[str, str] = {}
    if is_workdir(word):
        readings["--workdir"] = word
        if _has_classes(path):
            readings["--config"] = f"folder:{word}"
    elif os.path.isdir(path) or (os.path.isfile(path) and word.lower().endswith(".csv")):
        readings["path"] = _source_at(word)
    elif word.partition(":")[0].endswith(".py"):
        return "--config", word
    if _is_source(word) and (configured or not named):
        readings["--data.source"] = word
    elif named:
        readings["--config"] = word
    if not readings:
        from fgvc_jax.data.sources import OPENERS

        there = f"{word!r} is a file, and neither a config (.py) nor a list (.csv)"
        raise UserError(
            f"{there if os.path.exists(path) else _nothing(word, [*own, *OPENERS])}: train takes a "
            f"config ({', '.join(own)}), a source, a folder of images, or a workdir that is there; "
            "a new one is named by --workdir"
        )
    flag, value = _the_one(word, readings)
    if flag in ("path", "--data.source") and not configured and value.startswith(OWN_IMAGES):
        return "--config", f"folder:{value.removeprefix('folder:')}"
    return "--data.source" if flag == "path" else flag, value


def _the_one(word: str, readings: dict[str, str]) -> tuple[str, str]:
    """The reading of a word, as (option, its value); a UserError where there are two."""
    if len(readings) > 1:
        spelt = [
            shlex.quote(f"./{word}") if flag == "path" else f"{flag} {shlex.quote(value)}"
            for flag, value in readings.items()
        ]
        raise UserError(f"{word!r} could be two things: write {' or '.join(spelt)}")
    return next(iter(readings.items()))


def _is_source(word: str) -> bool:
    from fgvc_jax.data.sources import OPENERS, PATHLESS

    return word in PATHLESS or (":" in word and word.partition(":")[0] in OPENERS)


def _nothing(word: str, names: Iterable[str] = ()) -> str:
    return f"there is no {word!r}{hint(word, names)}"


def hint(word: str, names: Iterable[str] = ()) -> str:
    """What may have been meant by a word for which there is nothing: one of the names, with what
    follows its colon, or what is where the word says; empty for nothing like it."""
    folder, name = os.path.split(word.rstrip("/"))
    try:
        beside = os.listdir(os.path.expanduser(folder) or ".")[:MOST]
    except (OSError, ValueError):
        beside = []
    start, colon, after = word.partition(":")
    close = {each + colon + after: _alike(start, each) for each in names}
    close |= {os.path.join(folder, each): _alike(name, each) for each in beside}
    best = max(close, key=close.__getitem__, default="")
    return f" (did you mean {best!r}?)" if best and close[best] >= 0.6 else ""


def _alike(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _is_missing(word: str) -> bool:
    """Whether a word names neither a list nor anything that is there."""
    return not word.startswith("@") and not os.path.lexists(os.path.expanduser(word))


def _like_an_image(word: str) -> bool:
    from fgvc_jax.data.images import EXTENSIONS

    return word.lower().endswith(EXTENSIONS)


def _has_images(folder: str) -> bool:
    """Whether there are images directly in a folder."""
    try:
        return any(map(_like_an_image, os.listdir(folder)))
    except OSError:
        return False


def _has_classes(folder: str) -> bool:
    """Whether two of the folders in a folder have images, as classes have."""
    if not os.path.isdir(folder):
        return False
    with os.scandir(folder) as items:
        return sum(item.is_dir() and _has_images(item.path) for item in items) > 1
