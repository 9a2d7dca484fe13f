"""Hand trained members on, as ONNX, StableHLO, a hub's folder or a site."""

import functools
from dataclasses import fields

from fgvc_jax.commands import named
from fgvc_jax.commands.asked import Export
from fgvc_jax.figures import site
from fgvc_jax.figures.examples import Examples
from fgvc_jax.inference.export import hub, onnx, onnxruntime_web, readme, stablehlo, web, writing
from fgvc_jax.inference.export.precision import Smaller
from fgvc_jax.inference.export.trained import Trained
from fgvc_jax.utils import compilation
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import printable
from fgvc_jax.workdir.folder import Workdir

FORMATS = {"stablehlo": stablehlo.FORMAT, "hub": hub.FORMAT}
# The formats that an option is for.
ONLY = {"batch": ("onnx",)}
ONLY |= dict.fromkeys(("precision", "tolerance"), ("onnx", "web"))
ONLY |= dict.fromkeys(("runtime", "with_thumbnails", "risk", "calibrated"), ("web",))


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
    _check(options)
    path = writing.target(options.output)
    runtime = _runtime(options)
    options = named.of_a_run(options)
    compilation.use_compilation_cache()
    trained = Trained.of(options.workdir, which=options.which, members=options.members)
    smaller = _smaller(options)
    if options.format == "onnx":
        format = onnx.format_of(options.batch, smaller)
    elif options.format == "web":
        format = _site(options, trained, runtime, smaller)
    else:
        format = FORMATS[options.format]
    tried = writing.write(trained, path, options.format, format)
    return f"written: {printable(str(path))}\n{tried}"


def _check(options: Export) -> None:
    """Raise a UserError for an option of another format."""
    for field in fields(options):
        formats = ONLY.get(field.name, (options.format,))
        if options.format not in formats and getattr(options, field.name) != field.default:
            flag = field.name.replace("_", "-")
            raise UserError(f"--{flag} is for --format {' and '.join(formats)} alone")


def _runtime(options: Export) -> dict[str, bytes]:
    """What a site answers with, before the work begins; nothing for another format."""
    if options.format != "web":
        return {}
    onnx.check()
    return onnxruntime_web.runtime(options.runtime)


def _smaller(options: Export) -> Smaller | None:
    if options.precision == "float32":
        return None
    return Smaller.of(Workdir(options.workdir), options.precision, options.tolerance)


def _site(
    options: Export, trained: Trained, runtime: dict[str, bytes], smaller: Smaller | None
) -> writing.Format:
    model, pictures = trained.model, None
    if options.with_thumbnails:
        kept = Examples.of(options.workdir, model.view)
        pictures = {label: kept.addresses(label) for label in range(len(model.classes))}
        if not any(pictures.values()):
            raise UserError(
                "--with-thumbnails: the run keeps no photographs, as before it is finished: leave "
                "the option out"
            )
    made = functools.partial(
        site.pages,
        source=readme.source(trained).rpartition(":")[2],
        classes=len(model.classes),
        members=len(model.members),
        accuracy=trained.accuracy,
        calibrated=options.calibrated,
        boxed=trained.experiment.data.boxed,
    )
    return web.format_of(
        web.Site(
            runtime=runtime,
            pages=lambda megabytes: made(megabytes=megabytes),
            service=site.service,
            sure=site.sure(options.risk),
            risk=options.risk,
            calibrated=options.calibrated,
            pictures=pictures,
            smaller=smaller,
        )
    )
