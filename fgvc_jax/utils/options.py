"""How options are declared: a frozen dataclass beside what reads them, each field with its bounds.

    @dataclass(frozen=True)
    class Transfer:
        alpha: float = option(0.5, at_least=0)
        \"\"\"Weight of the orthogonal loss.\"\"\"

The string under a field is its line of `--help`. Nothing here knows of an experiment.
"""

import contextlib
import dataclasses
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    TypeGuard,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from fgvc_jax.utils.errors import ArgumentError, UserError

try:
    from tyro.conf import Suppress
except ImportError:  # an image that has no tyro can build experiments, and has no command line
    Suppress = "not on a command line"  # type: ignore[misc]  # a mark of any kind

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
Config = TypeVar("Config", bound="DataclassInstance")
_RANGE = re.compile(r"(\d{1,9})(?:\.\.(\d{1,9}))?")  # of members
HELP = "-h", "--help", "--help-all"  # of every command
LARGEST = 2**31 - 1  # what an int32 holds: steps and counts live in such

_BOUNDS = {
    "at_least": (lambda value, bound: value >= bound, "at least"),
    "above": (lambda value, bound: value > bound, "above"),
    "below": (lambda value, bound: value < bound, "below"),
    "at_most": (lambda value, bound: value <= bound, "at most"),
}


def option(
    default: T,
    *,
    at_least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    free: bool = False,
    automatic: bool = False,
    later: bool = False,
    before: object = None,
) -> T:
    """A dataclass field with bounds, which hold for every number of a tuple.

    Args:
        default: of the field.
        at_least: smallest value.
        above: what every value is larger than.
        below: what every value is smaller than.
        at_most: largest value.
        free: the field may differ when a run is continued, since it changes no number of a run.
        automatic: the default is no value but leaves it to the run, which keeps what it settled on.
        later: the field came when there were runs already; its default is what those did.
        before: what those did where it is not the default of a later field, as of an automatic one.
    """
    bounds = {"at_least": at_least, "above": above, "below": below, "at_most": at_most}
    metadata: dict[str, object]
    metadata = {name: bound for name, bound in bounds.items() if bound is not None}
    metadata |= {"free": free, "automatic": automatic, "later": later, "before": before}
    return dataclasses.field(default=default, metadata=metadata)


def digested(field: dataclasses.Field, value: object) -> bool:
    """Whether a digest of what a run depends on has a field: a later one at its default, or at
    what runs did before there was the field, would change the digests of those."""
    before = field.default, field.metadata.get("before")
    return not (field.metadata.get("later") and value in before)


def configs_in(value: object, name: str) -> list[tuple[str, "DataclassInstance"]]:
    """(name, config) of what a field holds: of a config itself, of a tuple of configs each by its
    number from 1; nothing for a plain value."""
    if _is_config(value):
        return [(name, value)]
    several = value if isinstance(value, tuple) else ()
    numbered = enumerate(several, start=1)
    return [(f"{name}.{n}", each) for n, each in numbered if _is_config(each)]


def _is_config(value: object) -> "TypeGuard[DataclassInstance]":
    return dataclasses.is_dataclass(value)


def fields(
    config: "DataclassInstance", prefix: str = "--"
) -> Iterator[tuple[str, dataclasses.Field, Any]]:
    """(flag, dataclass field, value) of every leaf of a nested config."""
    for spec in dataclasses.fields(config):
        value = getattr(config, spec.name)
        nested = configs_in(value, prefix + spec.name)
        for name, group in nested:
            yield from fields(group, f"{name}.")
        if not nested:
            yield prefix + spec.name.replace("_", "-"), spec, value


def groups(
    config: "DataclassInstance", prefix: str = "--"
) -> Iterator[tuple[str, "DataclassInstance"]]:
    """(what its flags begin with, config) of a nested config and all configs inside it."""
    yield prefix, config
    for spec in dataclasses.fields(config):
        for name, group in configs_in(getattr(config, spec.name), prefix + spec.name):
            yield from groups(group, f"{name}.")


def check(config: "DataclassInstance") -> None:
    """Raise a UserError that names the first field whose value is no choice or out of bounds."""
    for group_flag, group in groups(config):
        hints = get_type_hints(type(group))
        for spec in dataclasses.fields(group):
            value = getattr(group, spec.name)
            if not configs_in(value, spec.name):
                flag = group_flag + spec.name.replace("_", "-")
                _check_value(flag, spec, hints[spec.name], value)


def _check_value(flag: str, spec: dataclasses.Field, kind: object, value: object) -> None:
    choice = next((each for each in (kind, *get_args(kind)) if get_origin(each) is Literal), None)
    alone = choice is kind  # beside a number it says what strings there are
    if choice and value not in get_args(choice) and (alone or isinstance(value, str)):
        words = ", ".join(map(str, get_args(choice))) + ("" if alone else ", or a number")
        raise UserError(f"{flag} is {value!r}: choose one of {words}")
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, float) and not math.isfinite(number):
            raise UserError(f"{flag} is {number}: it must be a finite number")
        if isinstance(number, int) and abs(number) > LARGEST:
            raise UserError(f"{flag} is {number}: it must be at most {LARGEST}")
        for name, (holds, words) in _BOUNDS.items():
            bound = spec.metadata.get(name)
            if bound is not None and not (isinstance(number, str) or holds(number, bound)):
                raise UserError(f"{flag} is {number}: it must be {words} {bound}")


@contextlib.contextmanager
def flagged(
    config: "DataclassInstance", *, nearest: str, called: Mapping[str, str]
) -> Iterator[None]:
    """Make a UserError of an ArgumentError from below, with the flags of the arguments it names.

    Args:
        config: nested; an argument is a field of that name, of several in the `nearest` group's,
            else the first. What is no field stays as it is.
        nearest: group of fields.
        called: {argument of another name: its flag without dashes}.
    """
    try:
        yield
    except ArgumentError as error:
        leaves = [(spec.name, flag) for flag, spec, _ in fields(config)]
        own = [(name, flag) for name, flag in leaves if flag.startswith(f"--{nearest}.")]
        others = [(name, f"--{flag}") for name, flag in called.items()]
        flags = dict([*others, *reversed(leaves), *own])
        line = re.sub(r"`(\w+)`", lambda found: flags.get(found[1], found[0]), str(error))
        raise UserError(line) from error


def chosen_members(members: int | str | Sequence[int], most: int, there: str) -> tuple[int, ...]:
    """Numbers, from 1, of the members that an option asks for, which is checked.

    Args:
        members: the first so many, 0 for all; or a list of numbers and ranges of them as text
            ("2..2", "1,3..5"), or numbers.
        most: how many there are.
        there: says so, for the message.

    Raises:
        UserError: for what is no such list, a number twice, and members that are not there.
    """
    shown = members if isinstance(members, (int, str)) else ",".join(map(str, members))
    if isinstance(members, str):
        parts = members.split(",")
        ranges = [found for part in parts if (found := _RANGE.fullmatch(part.strip()))]
        if len(ranges) < len(parts):
            raise UserError(
                f"--members is {members!r}: give how many from the first, or which (2..3, or 1,3)"
            )
        ends = [(int(found[1]), int(found[2] or found[1])) for found in ranges]
        ends = [(first, min(last, most + 1)) for first, last in ends]
        numbers = [n for first, last in ends for n in range(first, last + 1)]
    elif isinstance(members, int):
        numbers = list(range(1, (members or most) + 1)) if members <= most else [members]
    else:
        numbers = list(members)
    if not numbers or not all(1 <= number <= most for number in numbers):
        raise UserError(f"--members is {shown}: {there}")
    if len(set(numbers)) < len(numbers):
        raise UserError(f"--members is {shown}: it names a member twice")
    return tuple(numbers)


def positional(
    arguments: Sequence[str], config: "DataclassInstance"
) -> tuple[list[str], list[str]]:
    """(what is neither an option of `config` nor a value of one, the other arguments), in order."""
    values = {flag: value for flag, _, value in fields(config)}
    first, rest, words = [], [], list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            first.append(word)
            continue
        rest.append(word)
        flag, equals, _ = word.replace("_", "-").replace("--no-", "--", 1).partition("=")
        default = values.get(flag)
        boolean = bool(words) and words[0].lower() in ("true", "false")
        if equals or flag in (*HELP, "--version") or (isinstance(default, bool) and not boolean):
            continue
        rest += [words.pop(0)] if words else []
        while isinstance(default, tuple) and words and not words[0].startswith("-"):
            rest.append(words.pop(0))
    return first, rest


def said(arguments: Sequence[str], flag: str) -> str | None:
    """The value of an option as arguments say it at last; None where they do not."""
    found = None
    for word, following in zip(arguments, [*arguments, ""][1:], strict=True):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == flag:
            found = value if equals else following
    return found


# -- values ----------------------------------------------------------------------------------------


def converted(value: Any, kind: Any, name: str = "") -> Any:
    """`value` as a field of type `kind` holds it: a tuple for a list, an int for 3.0, and so on.

    Raises UserError for a value that is nothing of that type."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, kind):
        fields = {
            field: converted(getattr(value, field), hint, f"{name}.{field}".lstrip("."))
            for field, hint in get_type_hints(kind).items()
        }
        return dataclasses.replace(value, **fields)
    if get_origin(kind) is tuple and isinstance(value, (list, tuple)):
        inner, *rest = get_args(kind)
        if rest == [...] or len(value) == 1 + len(rest):
            return tuple(converted(item, inner, name) for item in value)
    if get_origin(kind) in (Union, UnionType):
        for either in get_args(kind):
            with contextlib.suppress(UserError):
                return converted(value, either, name)
    if kind is int and number and value % 1 == 0:
        return int(value)
    if kind is float and number:
        return float(value)
    if kind is bool and isinstance(value, bool):
        return value
    if (kind is str or get_origin(kind) is Literal) and isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    words = [_called(each) for each in get_args(kind)]
    wanted = " or ".join(words) if get_origin(kind) in (Union, UnionType) else _called(kind)
    raise UserError(f"--{name.replace('_', '-')} is {value!r}: it must be of type {wanted}")


def _called(kind: object) -> str:
    """A type, in a message."""
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)


def from_dict(values: dict[str, Any], cls: type[Config]) -> Config:
    """The inverse of `dataclasses.asdict`; a field that a class does not have is a UserError, and a
    later one that is missing is what runs did before there was it."""
    hints = get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise UserError(f"unknown field {unknown[0]!r} in the saved {cls.__name__.lower()}")

    def read(value: Any, kind: object) -> object:
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            return from_dict(value, kind)
        if isinstance(value, (list, tuple)):
            inner, *_ = get_args(kind) or (None,)
            return tuple(read(item, inner) for item in value)
        return value

    before = {spec.name: spec.metadata.get("before") for spec in dataclasses.fields(cls)}
    missing = {name: value for name, value in before.items() if value is not None}
    return cls(**missing | {name: read(value, hints[name]) for name, value in values.items()})


def unsettled(config: T) -> T:
    """Options with every automatic value as it is before it is settled: what `adopt` fills."""
    values: dict[str, Any] = {}
    for spec in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, spec.name)
        if dataclasses.is_dataclass(value):
            values[spec.name] = unsettled(value)
        elif configs_in(value, spec.name):
            values[spec.name] = tuple(map(unsettled, value))
        elif spec.metadata.get("automatic"):
            values[spec.name] = spec.default
    return dataclasses.replace(config, **values)  # type: ignore[type-var]


def adopt(saved: T, new: T) -> T:
    """Options with every automatic value as others of the same class have settled it."""

    def fill(new: Any, old: Any) -> Any:
        values = {}
        for spec in dataclasses.fields(new):
            value, before = getattr(new, spec.name), getattr(old, spec.name)
            if dataclasses.is_dataclass(value):
                values[spec.name] = fill(value, before)
            elif configs_in(value, spec.name):
                pairs = zip(value, before, strict=False)
                values[spec.name] = tuple(fill(*pair) for pair in pairs) + value[len(before) :]
            elif spec.metadata.get("automatic") and value == spec.default:
                values[spec.name] = before
        return dataclasses.replace(new, **values)

    return fill(new, saved)
