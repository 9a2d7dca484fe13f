"""python -m fgvc_jax.export: hand trained members on, as ONNX, StableHLO or a hub's folder."""

from fgvc_jax import command

if __name__ == "__main__":
    command.prepare()

from dataclasses import dataclass
from typing import Literal

from fgvc_jax import config
from fgvc_jax.errors import UserError
from fgvc_jax.formats import folder, hub, onnx, stablehlo
from fgvc_jax.formats.trained import Trained
from fgvc_jax.options import option
from fgvc_jax.text import printable

FORMATS = {"onnx": onnx.FORMAT, "stablehlo": stablehlo.FORMAT, "hub": hub.FORMAT}


@dataclass(frozen=True)
class Export:
    """Hand trained members on: a folder that answers for images elsewhere, with its classes, a
    README that tells how to load it, and a self-test. An earlier export there is replaced."""

    workdir: str = "runs/sketchbirds"
    """A run of python -m fgvc_jax.train."""
    format: Literal[tuple(FORMATS)] = "onnx"
    """onnx: for onnxruntime; stablehlo: for JAX alone, on CPU, CUDA and TPU; hub: safetensors with
    torchvision's or timm's names, for fgvc_jax.load, and for timm where it has such a network."""
    output: str = ""
    """The folder to write."""
    members: int = option(0, at_least=0)
    """The first so many members; 0: all that are trained."""
    which: Literal["final", "selected"] = "final"
    """Members as they ended, or at the epoch that did best on the validation part."""


def main(arguments: list[str]) -> None:
    options = config.command_line(
        Export, arguments, program="python -m fgvc_jax.export", default=Export()
    )
    config.options.check(options)
    print(export(options))


def export(options: Export) -> str:
    """Write the folder; what was written, and what came out when it was tried.

    Raises:
        UserError: when something is missing to do it, or it does not answer as the members do.
    """
    if not options.output:
        raise UserError("--output is missing: name the folder to write")
    path = folder.target(options.output)
    command.use_compilation_cache()
    trained = Trained.of(options.workdir, which=options.which, members=options.members)
    tried = folder.write(trained, path, options.format, FORMATS[options.format])
    return f"written: {printable(str(path))}\n{tried}"


if __name__ == "__main__":
    command.run(main)
