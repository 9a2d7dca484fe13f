"""python -m fgvc_jax: list the commands."""

import ast
from pathlib import Path

from fgvc_jax.commands import start
from fgvc_jax.utils.errors import UserError


def main(arguments: list[str]) -> None:
    if arguments and arguments[0] not in ("-h", "--help"):
        raise UserError(
            f"unknown argument {arguments[0]!r}: a command is started with a dot, as "
            "python -m fgvc_jax.train; python -m fgvc_jax lists them"
        )
    print("The commands of fgvc_jax; each with --help tells its options:")
    for name, summary in commands().items():
        print(f"  {name:<28} {summary}")


def commands() -> dict[str, str]:
    """{"python -m fgvc_jax.NAME": what it does} of every file whose docstring begins so."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("[!_]*.py")):
        words = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        name, _, summary = words.partition("\n")[0].partition(": ")
        if name == f"python -m fgvc_jax.{file.stem}":
            found[name] = summary
    return found


if __name__ == "__main__":
    start.run(main)
