"""The classes that answers are among: those of a list, as of the species that live somewhere."""

import difflib
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from fgvc_jax.data.names import Spellings, same_words, words
from fgvc_jax.utils import paths
from fgvc_jax.utils.errors import UserError

NAMED = 5  # names that a message tells, at the most
log = logging.getLogger(__name__)


def read_list(text: str, what: str) -> list[str]:
    """The names in a text file of UTF-8, one a line; blank lines are none.

    Args:
        text: the file's path, as typed.
        what: the option that names it.

    Raises:
        UserError: where it cannot be read, or is empty.
    """
    file = paths.local(text, what)
    try:
        content = paths.readable(file).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{what} {text!r} is not UTF-8 text: save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"{what} {text!r} cannot be read: {error.strerror}") from error
    # What Unicode calls a line separator may be within a name.
    names = [line.strip() for line in re.split(r"[\r\n]", content) if line.strip()]
    if not names:
        raise UserError(f"{what} {text!r} is empty: name a class a line")
    return names


def numbers(
    classes: Sequence[str], names: Iterable[str] | None, without: Iterable[str] = ()
) -> tuple[int, ...]:
    """Numbers of the classes that are left, in order.

    Names match whatever the form of their accents, and, where that is one class alone, however they
    are spaced: `Black-footed albatross` is 001.Black_footed_Albatross. How often one is there does
    not matter. Those that are no class are told in a warning, with what may have been meant: a
    checklist has more species than a model knows.

    Args:
        classes: all that there are.
        names: to be left; None for all.
        without: of these, not to be left.

    Raises:
        UserError: where fewer than two classes are left.
    """
    kept = set(range(len(classes))) if names is None else _found(classes, names)
    kept -= _found(classes, without)
    if len(kept) < 2:
        left = "none" if not kept else f"one, {classes[min(kept)]!r}"
        other = next((name for n, name in enumerate(classes) if n not in kept), classes[0])
        raise UserError(
            f"of {len(classes):,} classes {left} is left, and there is nothing to tell apart: list "
            f"at least 2 by their names, such as {other!r}, or exclude fewer"
        )
    return tuple(sorted(kept))


def _found(classes: Sequence[str], names: Iterable[str]) -> set[int]:
    """Numbers of the classes that names are; a warning tells of those that are none."""
    if isinstance(names, (str, Path)):
        raise UserError(f"{str(names)!r} is one name: give a list of names of classes")
    places = {name: number for number, name in enumerate(classes)}
    meant, found = _Meant(classes), set[int]()
    unknown: list[str] = []
    for name in dict.fromkeys(names):
        same = meant.by(name)
        found |= {places[each] for each in same}
        unknown += [] if same else [name]
    if unknown:
        told = ", ".join(_meant(name, classes) for name in unknown[:NAMED])
        more = f" and {len(unknown) - NAMED:,} more" if len(unknown) > NAMED else ""
        log.warning(
            "warning: %s no class of these members: %s%s",
            "a listed name is" if len(unknown) == 1 else f"{len(unknown):,} listed names are",
            told,
            more,
        )
    return found


def known(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Numbers of the names that are those of classes, which match as in `numbers`."""
    meant = _Meant(classes)
    return [number for number, name in enumerate(names) if meant.by(name)]


class _Meant:
    """Which classes names are."""

    def __init__(self, classes: Sequence[str]):
        self._spellings, self._spaced = Spellings(classes), same_words(classes)

    def by(self, name: str) -> list[str]:
        """Those of a name; none where it is of none, or of several however they are spaced."""
        same = self._spaced.get(words(name))
        return self._spellings.find(name) or ([same] if same is not None else [])


def _meant(name: str, classes: Sequence[str]) -> str:
    """A name that is no class, and the class that it seems to mean."""
    known = {words(each): each for each in classes}
    near = difflib.get_close_matches(words(name), known, n=1, cutoff=0.8)
    hint = f" (did you mean {known[near[0]]!r}?)" if near else ""
    return f"{name!r}{hint}"
