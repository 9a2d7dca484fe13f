"""A command line that fills a dataclass, with tyro: every mistake is one line."""

import contextlib
import difflib
import io
import re
from collections.abc import Iterator, Sequence

from fgvc_jax.utils import help, options
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.options import Config


def options_of(
    cls: type[Config],
    command: str,
    arguments: list[str],
    *,
    takes: str = "",
    common: Sequence[str] = (),
) -> Config:
    """The options of `python -m fgvc_jax.<command>`, a dataclass with defaults, checked; of what it
    `takes` beside them --help tells, and of the `common` ones."""
    program = f"python -m fgvc_jax.{command} {takes}".rstrip()
    found = command_line(cls, arguments, program=program, default=cls(), common=common)
    options.check(found)
    return found


def command_line(
    cls: type[Config],
    arguments: list[str],
    *,
    program: str,
    default: Config,
    also: Sequence[str] = (),
    common: Sequence[str] = (),
) -> Config:
    """Fill the dataclass `cls` from `arguments` with tyro, its complaints folded into one line.

    A boolean may be `--flag`, `--flag True`, `--flag=True`, or `--no-flag`. `also` are flags that
    the caller has taken out of the arguments, to be suggested with the others. `common` are those
    that --help tells of, where that is not all; it has a sentence of each, --help-all the rest.

    Raises:
        UserError: for arguments that do not fit.
        SystemExit: without a code, after printing what --help or --help-all asks for.
    """
    if asked := {*options.HELP} & {*arguments}:
        brief = "--help-all" not in asked
        print(help.text(default, program, common if brief else (), brief=brief))
        raise SystemExit
    import tyro

    switches = {flag for flag, _, value in options.fields(default) if isinstance(value, bool)}
    with complaints_in_one_line():
        value, unknown = tyro.cli(
            cls, args=_switched(arguments, switches), prog=program, default=default,
            return_unknown_args=True, config=(tyro.conf.FlagConversionOff,),
        )  # fmt: skip
    if unknown:
        found = [flag for flag, _, _ in options.fields(value)]
        flags = [flag for flag in found if "networks" not in flag]  # which are a config's alone
        raise UserError(_unknown(unknown[0], [*flags, *also]))
    return value


def take_config(arguments: list[str]) -> tuple[str, list[str]]:
    """Split `--config WORD` (or `--config=WORD`) off the other arguments."""
    config, rest, words = "", [], iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag != "--config":
            rest.append(word)
            continue
        config = value if equals else next(words, "")
        if not config:
            raise UserError("--config needs a file or a name, such as tiny or kt:cub,resnet50")
    return config, rest


def _switched(arguments: list[str], switches: set[str]) -> list[str]:
    """The arguments with every boolean flag in the form `--flag=True`."""
    words, rest = [], [*arguments]
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.replace("_", "-").partition("=")
        positive = flag.replace("--no-", "--", 1)
        if flag in switches:
            if not equals:
                value = rest.pop(0) if rest and rest[0].lower() in ("true", "false") else "True"
            word = f"{flag}={value.capitalize()}"
        elif positive in switches and not equals:
            word = f"{positive}=False"
        words.append(word)
    return words


def _unknown(word: str, flags: list[str]) -> str:
    name = word.split("=")[0].replace("_", "-")
    close = difflib.get_close_matches(name, [*options.HELP, *flags], n=1, cutoff=0.5) or [
        flag for flag in flags if flag.rpartition(".")[2] == name.lstrip("-")
    ]
    hint = f"did you mean {close[0]}?" if close else "--help lists the fields"
    return f"unknown argument {word!r}: {hint}"


@contextlib.contextmanager
def complaints_in_one_line() -> Iterator[None]:
    """A UserError instead of the box in which tyro complains of arguments."""
    words = io.StringIO()
    try:
        with contextlib.redirect_stderr(words):
            yield
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(_unboxed(words.getvalue())) from None


def _unboxed(text: str) -> str:
    """tyro's boxed message without its box, heading, help text, pointer to --help, and what each of
    several types said of a value."""
    text = text.partition("Argument helptext")[0].partition("For full helptext")[0]
    lines = [re.sub(r"[^\x20-\x7e]+", " ", line).strip(" -") for line in text.splitlines()]
    message = " ".join(line for line in lines[1:] if line).partition(" Got errors")[0].rstrip(".")
    return f"{message or 'the command line does not parse'}; --help lists the fields"
