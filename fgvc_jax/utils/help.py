"""What --help prints of a dataclass of options: as wide as the terminal, from the strings under its
fields."""

import ast
import contextlib
import dataclasses
import inspect
import re
import shutil
import textwrap
from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal, get_args, get_origin, get_type_hints

from fgvc_jax.utils import options

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PIPED = 100  # columns, where there is no terminal
INDENT = 26  # columns of an option and its value, beside the text


def text(
    config: "DataclassInstance", program: str, common: Collection[str] = (), *, brief: bool = False
) -> str:
    """The help of the options `config`, whose values are the defaults.

    Args:
        config: a dataclass, in which may be others.
        program: that takes them.
        common: flags to tell of, in the first sentence of each, beside what has no flag; none for
            all flags.
        brief: to tell of all flags so, too.
    """
    brief = brief or bool(common)
    width = max(shutil.get_terminal_size((PIPED, 24)).columns, 2 * INDENT)
    parts = [f"usage: {program} [OPTIONS]", _paragraphs(_about(type(config)), width)]
    told, hidden = [], 0
    for prefix, group in options.groups(config):
        lines: list[str] = []
        strings = _strings(type(group))
        for flag, field in _fields(prefix, group):
            if common and flag.startswith("-") and flag not in common:
                hidden += 1
                continue
            about = strings.get(field.name, "")
            if brief and flag.startswith("-"):  # what has no flag is what it is all about
                about = re.split(r"(?<=[^.])\.(?: |$)|; ", about)[0]
            kind, value = get_type_hints(type(group))[field.name], getattr(group, field.name)
            lines.append(_option(flag, kind, value, about, width))
        if lines and prefix != "--" and not brief:
            told.append("\n" + _paragraphs(f"{prefix}*: {_about(type(group))}", width))
        told += lines
    parts.append("\n".join(told).strip("\n"))
    if hidden:
        parts.append(f"--help-all tells of {hidden} options more.")
    elif brief:
        parts.append("--help-all tells more of each.")
    return "\n\n".join(parts)


def _fields(prefix: str, group: "DataclassInstance") -> Iterator[tuple[str, dataclasses.Field]]:
    """(flag, field) of what a command line can say of a group itself; what has no flag comes first,
    in capitals."""
    hints = get_type_hints(type(group), include_extras=True)
    marks = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    for field in sorted(dataclasses.fields(group), key=lambda field: not marks[field.name]):
        if options.configs_in(getattr(group, field.name), field.name):
            continue
        if not marks[field.name]:
            yield prefix + field.name.replace("_", "-"), field
        elif len(marks[field.name]) > 1:  # a positional, and what it is called
            yield field.name.upper(), field


def _option(flag: str, kind: object, value: object, about: str, width: int) -> str:
    """An option, what it takes, what it is about, and its default."""
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    default = f" (default {shown})" if shown else ""
    start = f"  {flag} {_kind(kind)}".rstrip() if flag.startswith("-") else f"  {flag}"
    lines = textwrap.wrap((about + default).strip(), width - INDENT, break_on_hyphens=False) or [""]
    if len(start) >= INDENT - 1:
        return "\n".join([start, *(" " * INDENT + line for line in lines)])
    first, *others = lines
    return "\n".join([f"{start:<{INDENT}}{first}", *(" " * INDENT + line for line in others)])


def _kind(kind: object) -> str:
    """What a value of a type looks like."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        inner, *others = get_args(kind)
        return f"{_kind(inner)} ..." if others == [...] else " ".join(map(_kind, (inner, *others)))
    if get_args(kind):
        return "|".join(map(_kind, get_args(kind)))
    plain: dict[object, str] = {bool: "True|False", str: "TEXT", int: "N", float: "X"}
    return plain.get(kind, str(kind))


def _about(cls: type) -> str:
    return inspect.cleandoc(cls.__doc__ or "")


def _paragraphs(about: str, width: int) -> str:
    parts = [" ".join(part.split()) for part in about.split("\n\n")]
    return "\n\n".join(textwrap.fill(part, width, break_on_hyphens=False) for part in parts)


def _strings(cls: type) -> dict[str, str]:
    """{field: the string under it} of a dataclass and what it inherits from."""
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        with contextlib.suppress(OSError, TypeError):  # made by a program, or built in
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
            body = tree.body if isinstance(tree, ast.ClassDef) else []
            for field, below in pairwise(body):
                name = getattr(getattr(field, "target", None), "id", "")
                match below:
                    case ast.Expr(ast.Constant(str(words))) if name:
                        found[name] = " ".join(words.split())
    return found
