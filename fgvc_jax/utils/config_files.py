"""Config files: Python whose `get_config` makes a value, found by path or by name."""

import difflib
import inspect
import os
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from fgvc_jax.utils import options
from fgvc_jax.utils.errors import UserError

Made = TypeVar("Made")
PACKAGE = Path(__file__).parents[1]


def made(word: str, kind: type[Made], *, beside: Mapping[str, str | None]) -> Made:
    """What `get_config` gives of `FILE[:ARGUMENTS]`, or of `NAME[:ARGUMENTS]` for one of the
    project's own files. The file is run.

    Args:
        word: see there; the arguments, separated by commas, are passed as strings.
        kind: the dataclass that it must be; lists become tuples where that has tuples.
        beside: keywords. It gets those that it declares as keyword-only and that are not None.

    Raises:
        UserError: for a file that is missing or fails, arguments or values that do not fit.
    """
    file, arguments = _find(word)
    try:
        get_config = runpy.run_path(file).get("get_config")
        if not callable(get_config):
            raise UserError("it has no function get_config()")
        signature = inspect.signature(get_config)
        if not _takes(signature, arguments):
            raise UserError(f"{','.join(arguments)!r} does not fit get_config{signature}")
        said = {name: value for name, value in beside.items() if value is not None}
        known = {name: value for name, value in said.items() if _has(signature, name)}
        value = get_config(*arguments, **known)
        if not isinstance(value, kind):
            raise UserError(f"its get_config() returned no {kind.__module__}.{kind.__name__}")
        return options.converted(value, kind)
    except UserError as error:
        raise UserError(f"config {word!r}: {error}") from error
    except Exception as error:
        raise UserError(f"config {word!r} failed: {type(error).__name__}: {error}") from error


def _find(word: str) -> tuple[str, list[str]]:
    """The file and the arguments of `FILE[:ARGUMENTS]` or `NAME[:ARGUMENTS]`."""
    own = projects()
    colons = [place for place, letter in enumerate(word) if letter == ":"]
    for end in (len(word), *reversed(colons)):  # a path may have colons too
        file, arguments = own.get(word[:end]) or os.path.expanduser(word[:end]), word[end + 1 :]
        if os.path.isfile(file):
            return file, arguments.split(",") if arguments else []
    name, colon, after = word.partition(":")
    close = difflib.get_close_matches(name, own, n=1)
    hint = f"did you mean {close[0] + colon + after}? Else " if close else ""
    raise UserError(
        f"config {word!r} does not exist: {hint}name a file, or one of the project's own, "
        f"{', '.join(own)}, with arguments after a colon"
    )


def projects() -> dict[str, str]:
    """{name: file} of the project's own."""
    installed, checkout = PACKAGE / "configs", PACKAGE.parent / "configs"
    folder = installed if installed.is_dir() else checkout
    return {file.stem: str(file) for file in sorted(folder.glob("*.py"))}


def _takes(signature: inspect.Signature, arguments: list[str]) -> bool:
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def _has(signature: inspect.Signature, name: str) -> bool:
    """Whether it is taken by keyword alone."""
    found = signature.parameters.get(name)
    return found is not None and found.kind is inspect.Parameter.KEYWORD_ONLY
