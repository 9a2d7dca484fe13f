"""What the words of `train` name: a workdir, a config, a source, or photographs.

A word that could be two of these is refused, with a spelling for each.
"""

import difflib
import os
import shlex
from collections.abc import Iterable, Sequence

from fgvc_jax.utils import config_files
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.options import said

OWN_IMAGES = "folder:", "csv:", "coco:"  # the sources that the config `folder` is for
MOST = 1000  # names that a misspelt one is compared with


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

        raise UserError(f"{nothing(word, OPENERS)}: a source is a folder of images, or NAME:PATH")
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
    start = said(rest, "--network.start")
    # A config and a source may be spelt alike (folder:birds): what can be no source is tried first.
    for word in sorted(words, key=lambda word: (not is_workdir(word), _is_source(word))):
        # The experiment is that of the config, of the workdir, or of the run that is gone on from.
        configured = "--config" in given or "--workdir" in added or bool(start)
        flag, value = _reading(word, configured)
        if given.get(flag, value) != value:
            raise UserError(
                f"{word!r} is a second {_FLAGS[flag]} beside {given[flag]!r}: give one of them"
            )
        given[flag] = added[flag] = value
    if "--data.source" in added and not given.keys() & {"--config", "--workdir"}:
        word = added["--data.source"]
        kind = word.partition(":")[0]
        if kind != "sketchbirds" and not start and said(rest, "--kd.teacher") is None:
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
            f"{there if os.path.exists(path) else nothing(word, [*own, *OPENERS])}: train takes a "
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


def nothing(word: str, names: Iterable[str] = ()) -> str:
    """That there is nothing of a name, and what may have been meant."""
    if os.path.islink(os.path.expanduser(word)):
        return f"{word!r} is a link to what is not there"
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
    close |= {os.path.join(folder, each): _alike(name, each) for each in beside if each != name}
    best = max(close, key=close.__getitem__, default="")
    return f" (did you mean {best!r}?)" if best and close[best] >= 0.6 else ""


def _alike(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def like_an_image(word: str) -> bool:
    """Whether a word ends as the names of images do."""
    from fgvc_jax.data.formats import EXTENSIONS

    return word.lower().endswith(EXTENSIONS)


def has_images(folder: str) -> bool:
    """Whether there are images directly in a folder."""
    try:
        return any(map(like_an_image, os.listdir(folder)))
    except OSError:
        return False


def _has_classes(folder: str) -> bool:
    """Whether two of the folders in a folder have images, as classes have."""
    if not os.path.isdir(folder):
        return False
    with os.scandir(folder) as items:
        return sum(item.is_dir() and has_images(item.path) for item in items) > 1
