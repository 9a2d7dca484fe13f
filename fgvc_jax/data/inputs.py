"""The image files that people name on a command line: files, folders, and lists of these."""

import itertools
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from fgvc_jax.data.files import is_folder, listing
from fgvc_jax.data.formats import EXTENSIONS, HEIF
from fgvc_jax.data.framing import Box
from fgvc_jax.data.names import Spellings
from fgvc_jax.utils import paths
from fgvc_jax.utils.errors import UserError

LONGEST_LINE = 2**16  # characters, more than a path has anywhere

log = logging.getLogger(__name__)


class InputFile(NamedTuple):
    """A path as it was given, joined with what is below it, and why there is no image there; of
    what a detector found, the box that is meant, and how sure it is; the event that it is of."""

    path: str
    problem: str = ""
    box: Box | None = None
    confidence: float | None = None
    event: str = ""


def expand_some(words: Sequence[str]) -> Iterator[InputFile]:
    """As `expand`, of which there must be some.

    Raises:
        UserError: also where there is none.
    """
    if not words:
        raise UserError("no image is named: give files, folders, or @LIST")
    return with_a_first(expand(words), f"no image was found in {', '.join(map(repr, words[:5]))}")


def with_a_first(files: Iterator[InputFile], problem: str) -> Iterator[InputFile]:
    """The same files, once there is a first one; else a UserError of the `problem`."""
    first = next(files, None)
    if first is None:
        raise UserError(problem)
    return itertools.chain([first], files)


def expand(words: Iterable[str]) -> Iterator[InputFile]:
    """The images that words name, one by one, so that any number of them takes little memory.

    A word is a file of any name; or a folder, whose images and folders follow sorted by name, but
    for what is hidden and, with a warning at the end, what by its suffix is no image; or @LIST, a
    text file with a file or folder a line.

    Raises:
        UserError: for a list that cannot be read.
    """
    ignored: list[str] = []
    for word in words:
        for path in map(spelt, _listed(word[1:])) if word.startswith("@") else (word,):
            folder = os.path.expanduser(path)
            if os.path.isdir(folder):
                yield from _in_folder(folder, ignored)
            else:
                yield InputFile(path)
    if ignored:
        log.warning(
            "warning: ignored %s without the suffix of an image, such as %r: images are %s",
            "a file" if len(ignored) == 1 else f"{len(ignored):,} files",
            ignored[0],
            ", ".join(EXTENSIONS),
        )


def _listed(name: str) -> Iterator[str]:
    """The lines of a list that are not empty."""
    path = paths.local(name, "list")
    try:
        with paths.readable(path).open(
            encoding="utf-8-sig", errors="surrogateescape", newline="\n"
        ) as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), ""), start=1):
                if len(line) == LONGEST_LINE or "\0" in line:
                    raise UserError(f"line {number} of {name!r} is no path: is it a list?")
                if line := line.removesuffix("\n").removesuffix("\r"):
                    yield line
    except OSError as error:
        raise UserError(f"list {name!r} cannot be read ({error.strerror})") from error


def spelt(path: str) -> str:
    """A path as the disk has it, where its names are there with accents in another form only: a
    list may come from another system."""
    whole = os.path.expanduser(path)
    if path.isascii() or os.path.lexists(whole):
        return path
    folder, name = os.path.split(whole.rstrip("/"))
    folder = spelt(folder)
    found = _spellings(folder or ".").find(name) if os.path.isdir(folder or ".") else []
    return os.path.join(folder, found[0]) if len(found) == 1 else path


@lru_cache(maxsize=16)
def _spellings(folder: str) -> Spellings:
    return Spellings([item.name for item in listing(Path(folder))])


def _in_folder(top: str, ignored: list[str]) -> Iterator[InputFile]:
    """What is below a folder. A link back to a folder that it is in is not followed."""
    open_folders = [(os.path.realpath(top), _items(top))]
    while open_folders:
        item = next(open_folders[-1][1], None)
        if item is None:
            open_folders.pop()
        elif isinstance(item, InputFile):
            yield item
        elif is_folder(item):
            real = os.path.realpath(item.path)
            if any(real == above for above, _ in open_folders):
                log.warning("warning: %r leads back to a folder that it is in", item.path)
            else:
                open_folders.append((real, _items(item.path)))
        elif item.name.lower().endswith((*EXTENSIONS, *HEIF)):  # of which HEIC may need a package
            yield InputFile(item.path)
        else:
            ignored.append(item.path)


def _items(folder: str) -> Iterator[os.DirEntry[str] | InputFile]:
    """What is in a folder, sorted; that it cannot be listed counts as an image that is broken."""
    try:
        yield from listing(Path(folder))
    except UserError as error:
        yield InputFile(folder, str(error))
