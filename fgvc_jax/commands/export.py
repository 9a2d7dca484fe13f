"""Hand trained members on, as ONNX, StableHLO, a hub's folder or a site."""

import contextlib
import functools
import logging
import tempfile
from dataclasses import fields
from pathlib import Path

from fgvc_jax.commands import named
from fgvc_jax.commands.asked import Export
from fgvc_jax.figures import site
from fgvc_jax.figures.examples import Examples
from fgvc_jax.inference.export import (
    hub,
    onnx,
    onnxruntime_web,
    pushed,
    readme,
    stablehlo,
    web,
    web_neighbours,
    writing,
)
from fgvc_jax.inference.export.precision import Smaller
from fgvc_jax.inference.export.trained import Trained
from fgvc_jax.inference.rows import least_instead
from fgvc_jax.utils import compilation, progress
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import printable
from fgvc_jax.workdir.folder import Workdir

log = logging.getLogger(__name__)

# The formats that an option is for.
ONLY: dict[str, tuple[str, ...]] = {"batch": ("onnx",)}
ONLY |= dict.fromkeys(("precision", "tolerance"), ("onnx", "web"))
ONLY |= dict.fromkeys(("runtime", "risk", "calibrated"), ("web",))
ONLY |= dict.fromkeys(("push", "public", "dry_run"), ("hub",))
ONLY["with_thumbnails"] = ("hub", "web")
# What becomes of a folder, before its README is named.
NEXT = {"web": "any web server serves it to others, python -m http.server to this machine: see "}


def main(arguments: list[str]) -> None:
    options = named.read(Export, "export", arguments)
    print(export(options))


def export(options: Export) -> str:
    """Write the folder; what was written, and what came out when it was tried.

    Raises:
        UserError: when something is missing to do it, or it does not answer as the members do.
    """
    _check(options)
    with contextlib.ExitStack() as stack:
        if options.output:
            path = writing.target(options.output)
        else:  # it is pushed
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "export"
        return _export(options, path)


def _export(options: Export, path: Path) -> str:
    runtime = _runtime(options)
    options = named.of_a_run(options)
    compilation.use_compilation_cache()
    trained = Trained.of(options.workdir, which=options.which, members=options.members)
    smaller = _smaller(options)
    if options.format == "onnx":
        format = onnx.format_of(options.batch, smaller)
    elif options.format == "web":
        format = _site(options, trained, runtime, smaller)
    elif options.format == "hub":
        format = hub.FORMAT
        if options.with_thumbnails:
            format = pushed.illustrated(format, _pictures(options, trained))
    else:
        format = stablehlo.FORMAT
    with progress.waiting("writing and trying it"):
        tried = writing.write(trained, path, options.format, format)
    written = f"written: {printable(str(path))}\n" if options.output else ""
    if options.output:
        tried += f"\nnext:    {NEXT.get(options.format, '')}{printable(str(path / 'README.md'))}"
    return f"{written}{tried}{_pushed(options, path)}"


def _pushed(options: Export, path: Path) -> str:
    """Send an export to the hub where that is asked for; what was done."""
    if not options.push:
        return ""
    listed = pushed.files(path, pictures=options.with_thumbnails)
    if options.dry_run:
        return "\n" + pushed.told(listed, options.push, public=options.public)
    return "\n" + pushed.push(path, options.push, listed, public=options.public)


def _check(options: Export) -> None:
    """Raise a UserError for an option of another format, or one that nothing comes of."""
    for field in fields(options):
        formats = ONLY.get(field.name, (options.format,))
        if options.format not in formats and getattr(options, field.name) != field.default:
            flag = field.name.replace("_", "-")
            raise UserError(f"--{flag} is for --format {' and '.join(formats)} alone")
    if options.push:
        pushed.check(options.push, dry_run=options.dry_run)
    elif options.public or options.dry_run:
        raise UserError("--public and --dry-run are for --push ORG/NAME alone")
    elif not options.output:
        raise UserError("--output is missing: name the folder to write")


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


def _pictures(options: Export, trained: Trained) -> dict[int, list[str]]:
    """Photographs of each class that the run keeps, as data: addresses."""
    model = trained.model
    kept = Examples.of(options.workdir, model.view)
    pictures = {label: kept.addresses(label) for label in range(len(model.classes))}
    if not any(pictures.values()):
        raise UserError(
            "--with-thumbnails: the run keeps no photographs, as before it is finished: leave the "
            "option out"
        )
    return pictures


def _neighbours(options: Export, trained: Trained) -> web_neighbours.SitePhotographs | None:
    """The training photographs that a site shows the nearest of; None where there are none."""
    if not options.with_thumbnails:
        return None
    model = trained.model
    try:
        found = web_neighbours.SitePhotographs.of(model.remembered.part, model.identities)
    except UserError as error:
        log.warning(
            "warning: the page shows some photographs of each class, and not the nearest training "
            "photographs: %s",
            error,
        )
        return None
    log.info("the page has %s", found.size)
    return found


def _site(
    options: Export, trained: Trained, runtime: dict[str, bytes], smaller: Smaller | None
) -> writing.Format:
    model = trained.model
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
            pages=lambda megabytes, novel: made(megabytes=megabytes, novel=novel),
            service=site.service,
            sure=site.sure(options.risk, least_instead(model, options.risk)),
            risk=options.risk,
            calibrated=options.calibrated,
            pictures=_pictures(options, trained) if options.with_thumbnails else None,
            neighbours=_neighbours(options, trained),
            smaller=smaller,
        )
    )
