"""Hand trained members on, as ONNX, StableHLO or a hub's folder."""

from fgvc_jax.commands import named
from fgvc_jax.commands.asked import Export
from fgvc_jax.inference.export import hub, onnx, stablehlo, writing
from fgvc_jax.inference.export.trained import Trained
from fgvc_jax.utils import compilation
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import printable

FORMATS = {"onnx": onnx.FORMAT, "stablehlo": stablehlo.FORMAT, "hub": hub.FORMAT}


def main(arguments: list[str]) -> None:
    options = named.read(Export, "export", arguments)
    print(export(options))


def export(options: Export) -> str:
    """Write the folder; what was written, and what came out when it was tried.

    Raises:
        UserError: when something is missing to do it, or it does not answer as the members do.
    """
    if not options.output:
        raise UserError("--output is missing: name the folder to write")
    path = writing.target(options.output)
    options = named.of_a_run(options)
    compilation.use_compilation_cache()
    trained = Trained.of(options.workdir, which=options.which, members=options.members)
    tried = writing.write(trained, path, options.format, FORMATS[options.format])
    return f"written: {printable(str(path))}\n{tried}"
