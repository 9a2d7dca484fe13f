"""Hand trained members on, as ONNX, StableHLO or a hub's folder."""

from dataclasses import dataclass
from typing import Literal

from fgvc_jax.inference.export import hub, onnx, stablehlo, writing
from fgvc_jax.inference.export.trained import Trained
from fgvc_jax.utils import command_line, compilation
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.options import option
from fgvc_jax.utils.text import printable

FORMATS = {"onnx": onnx.FORMAT, "stablehlo": stablehlo.FORMAT, "hub": hub.FORMAT}


@dataclass(frozen=True)
class Export:
    """Hand trained members on: a folder that answers for images elsewhere, with its classes, a
    README that tells how to load it, and a self-test. An earlier export there is replaced."""

    workdir: str = "runs/sketchbirds"
    """A run of python -m fgvc_jax.train."""
    format: Literal["onnx", "stablehlo", "hub"] = "onnx"
    """onnx: for onnxruntime; stablehlo: for JAX alone, on CPU, CUDA and TPU; hub: safetensors with
    torchvision's or timm's names, for fgvc_jax.load, and for timm where it has such a network."""
    output: str = ""
    """The folder to write."""
    members: int | str = option(0, at_least=0)
    """Export the first so many members, 0: all that are trained; or those of a list (2..3, 1,3)."""
    which: Literal["final", "selected"] = "final"
    """Members as they ended, or at the epoch that did best on the validation part."""


def main(arguments: list[str]) -> None:
    options = command_line.options_of(Export, "export", arguments)
    print(export(options))


def export(options: Export) -> str:
    """Write the folder; what was written, and what came out when it was tried.

    Raises:
        UserError: when something is missing to do it, or it does not answer as the members do.
    """
    if not options.output:
        raise UserError("--output is missing: name the folder to write")
    path = writing.target(options.output)
    compilation.use_compilation_cache()
    trained = Trained.of(options.workdir, which=options.which, members=options.members)
    tried = writing.write(trained, path, options.format, FORMATS[options.format])
    return f"written: {printable(str(path))}\n{tried}"
