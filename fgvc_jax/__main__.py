"""fgvc-jax, or python -m fgvc_jax: start a command, or list them."""

import ast
import difflib
import sys
from pathlib import Path

from fgvc_jax.commands import start
from fgvc_jax.utils import options
from fgvc_jax.utils.errors import UserError


def command() -> None:
    """What `fgvc-jax ...` and `python -m fgvc_jax ...` do: `train ...` as `fgvc_jax.train` does."""
    name, *arguments = sys.argv[1:] or [""]
    if name in commands():
        start.begin(name, arguments)
    else:
        start.run(main)


def main(arguments: list[str]) -> None:
    """Without the name of a command: list them, or say the version."""
    word = arguments[0] if arguments else "--help"
    if word == "--version":
        start.version(arguments)
    elif word in options.HELP:
        print("The commands, also typed fgvc-jax NAME; each with --help tells its options:")
        for name, summary in commands().items():
            print(f"  {f'python -m fgvc_jax.{name}':<28} {summary}")
    else:
        close = difflib.get_close_matches(word.removeprefix("fgvc_jax."), commands(), n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(commands())}"
        raise UserError(f"unknown command {word!r}: {hint}")


def commands() -> dict[str, str]:
    """{name: what `python -m fgvc_jax.NAME` does} of every file whose docstring begins so."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("[!_]*.py")):
        words = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        name, _, summary = words.partition("\n")[0].partition(": ")
        if name == f"python -m fgvc_jax.{file.stem}":
            found[file.stem] = summary
    return found


if __name__ == "__main__":
    command()
