"""Write photographs as vectors."""

import contextlib
import json
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import numpy as np
from tqdm import tqdm
from tyro.conf import Positional, arg

import fgvc_jax
from fgvc_jax import networks
from fgvc_jax.config import Data
from fgvc_jax.data import inputs
from fgvc_jax.data.view import Photographs
from fgvc_jax.inference import stream
from fgvc_jax.inference.embeddings import Embedder, open_network
from fgvc_jax.inference.stream import Embedded
from fgvc_jax.utils import command_line, compilation, devices, machine, paths
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.options import option, positional_first
from fgvc_jax.workdir import storage

ROW_GROUP = 2**25  # bytes of vectors in a row group of a .parquet
TEXTS = 4096  # that are turned into an array at a time

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretrained:
    """A pretrained network, instead of a run."""

    name: str = ""
    """dinov2_s14, efficientnet_lite0, resnet50, ...; a wrong one lists all."""
    weights: str = ""
    """Its weights: a .safetensors file, a hub's folder, hf:ORG/NAME, or package:NAME
    (efficientnet_lite0, efficientnet_lite2)."""


@dataclass(frozen=True)
class Shown:
    """What --network.name is shown of an image; a run knows this by itself."""

    resize: int = option(256, at_least=1, at_most=16_384)
    """Every image is first resized to a square of this many pixels, see `fit`."""
    crop: int = option(224, at_least=1, at_most=16_384)
    """Side of the square that the network sees."""
    test_view: Literal["center", "whole"] = "center"
    """The centre crop, or the whole image resized to the crop's size."""
    normalize: Literal["auto", "half", "imagenet", "tensorflow"] = "auto"
    """As in train; auto: what the network's usual weights were trained with."""
    decode: Literal["exact", "scaled"] = "scaled"
    """As in train."""
    fit: Literal["squash", "crop", "pad"] = "squash"
    """As in train: the whole image squashed, its middle, or the whole beside a mean colour."""


@dataclass(frozen=True)
class Embedding(Photographs):
    """Write photographs as vectors, one row an image, in order: what a head sees before it makes
    classes of it.

    Several members' vectors stand side by side, the first member's first. The row of an image that
    cannot be read is NaN. A .npz has the arrays path, embedding (images, D), error, and member: the
    number of the member whose each column is. A .parquet has the columns path, embedding and error,
    and under fgvc_jax in its metadata whose the numbers are. Beside a .npy, which is the vectors
    alone, FILE.npy.jsonl has path and error, one line a row.
    """

    images: Annotated[tuple[str, ...], Positional, arg(metavar="IMAGES")] = ()
    """Files; folders, with all that is below them; or @LIST, a text file with a path a line."""
    workdir: str = "runs/sketchbirds"
    """A run of python -m fgvc_jax.train; it may still be running."""
    output: str = ""
    """The file to write: .npz, .npy, or .parquet (needs pyarrow)."""
    tap: str = ""
    """stage2 to stage5, averaged over the image, or token, a transformer's class token; empty: what
    the head sees, pooled as it pools."""
    normalize: bool = False
    """Rows of length 1, in which every member has the same share: the dot product of two rows is
    the mean of the members' cosines."""
    members: int | str = option(0, at_least=0)
    """Ask the first so many members, 0: all that are trained; or those of a list (2..3, 1,3)."""
    which: Literal["final", "selected"] = "final"
    """Members as they ended, or at the epoch that did best on the validation part."""
    network: Pretrained = field(default_factory=Pretrained)
    data: Shown = field(default_factory=Shown)
    batch_size: int = option(64, at_least=1)
    """Images per batch."""


def main(arguments: list[str]) -> None:
    options = command_line.options_of(Embedding, "embed", positional_first(arguments, Embedding()))
    _check_given(options, arguments)
    embed(options)


def embed(options: Embedding) -> None:
    """Ask for the images' vectors and write them.

    Raises:
        UserError: when something is not as it must be to begin; or at the end, when images could
            not be read, with their number.
    """
    output, write_to = _output(options.output)
    files = inputs.some(options.images)
    compilation.use_compilation_cache()
    asked = _open(options)
    content = Content(asked.numbers, asked.widths(options.tap), options.tap, options.normalize)
    embedded = stream.embed(
        asked,
        files,
        tap=options.tap,
        normalize=options.normalize,
        batch_size=options.batch_size,
        threads=machine.cores(),
    )
    count = problems = 0
    progress = tqdm(desc="embedded", unit=" images", disable=None)
    with write_to(output, content) as write, progress:
        for some in embedded:
            write(some)
            count += len(some.paths)
            problems += sum(map(bool, some.problems))
            progress.update(len(some.paths))
    log.info("%s: %d rows of %s", output, count, content)
    if problems:
        raise UserError(
            f"{problems:,} of {count:,} images could not be read: their rows are NaN, and error "
            "says why"
        )


def _check_given(options: Embedding, arguments: Sequence[str]) -> None:
    """Raise a UserError for options of a run and of a network without one beside each other."""
    flags = [word.partition("=")[0].replace("_", "-") for word in arguments]
    of_run = [flag for flag in flags if flag in ("--workdir", "--members", "--which")]
    of_network = [flag for flag in flags if flag.startswith(("--network.", "--data."))]
    if of_run and of_network:
        raise UserError(
            f"{of_run[0]} is of a run, and {of_network[0]} of a pretrained network without one: "
            "leave one of them out"
        )
    if of_network and not options.network.name:
        raise UserError(f"{of_network[0]} is of a pretrained network: say which, --network.name")


def _open(options: Embedding) -> Embedder:
    """The members of the run, or the pretrained network."""
    mesh = devices.own(options.batch_size)
    if not options.network.name:
        return fgvc_jax.load(
            options.workdir,
            which=options.which,
            members=options.members,
            mesh=mesh,
            **options.reading,
        )
    name, shown = options.network.name, options.data
    if not options.network.weights and name in networks.NAMES:
        raise UserError(
            f"--network.name {name} needs pretrained weights: --network.weights FILE, hf:ORG/NAME "
            "or package:NAME"
        )
    data = Data(
        resize=shown.resize,
        crop=shown.crop,
        pad=0,
        test_view=shown.test_view,
        normalize=networks.normalization(name) if shown.normalize == "auto" else shown.normalize,
        decode=shown.decode,
        fit=shown.fit,
    )
    return open_network(name, options.network.weights, data=data, mesh=mesh, **options.reading)


# -- the file --------------------------------------------------------------------------------------

Write = Callable[[Embedded], object]


@dataclass(frozen=True)
class Content:
    """What the rows of a file are.

    numbers: of the members, from 1. widths: of their vectors. tap, normalize: see `Embedding`.
    """

    numbers: Sequence[int]
    widths: Sequence[int]
    tap: str
    normalize: bool

    def __str__(self) -> str:
        ends = np.cumsum(self.widths)
        starts = ends - self.widths
        columns = zip(starts, ends - 1, self.numbers, strict=True)
        each = ", ".join(f"{first}..{last} member {n}" for first, last, n in columns)
        return f"{sum(self.widths)} numbers" + (f" ({each})" if len(self.numbers) > 1 else "")

    @property
    def member(self) -> np.ndarray:
        """(D,) int32: the number of the member whose each column is."""
        return np.repeat(self.numbers, self.widths).astype(np.int32)


def _output(text: str) -> tuple[Path, Callable[..., Any]]:
    """The file, refused before the work begins if it cannot be written, and what writes it."""
    if not text:
        raise UserError("name a file for the vectors: --output vectors.npz")
    output = paths.output(text)
    suffix = output.suffix.lower()
    if suffix not in _WRITERS:
        raise UserError(f"--output {text!r}: end it in .npz, .npy or .parquet")
    if suffix == ".npy":
        paths.output(str(_names(output)))
    if suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise UserError(
                f"--output {text!r} needs the package pyarrow: pip install pyarrow, or take .npz"
            ) from error
    return output, _WRITERS[suffix]


def _names(output: Path) -> Path:
    """Beside a .npy: whose its rows are."""
    return output.with_name(f"{output.name}.jsonl")


@contextlib.contextmanager
def _npy(output: Path, content: Content) -> Iterator[Write]:
    """The vectors alone, and the paths beside them."""
    with (
        storage.new_bytes(output) as file,
        storage.new_text(_names(output)) as names,
        _growing(file, sum(content.widths)) as add,
    ):

        def write(some: Embedded) -> None:
            add(some.vectors)
            rows = zip(some.paths, some.problems, strict=True)
            names.writelines(json.dumps({"path": p, "error": e or None}) + "\n" for p, e in rows)

        yield write


@contextlib.contextmanager
def _growing(file: IO[bytes], width: int) -> Iterator[Callable[[np.ndarray], None]]:
    """What adds rows (n, width) to a .npy, whose header has room for any number of them."""
    count = 0

    def header() -> None:
        file.seek(0)
        about = {"descr": "<f4", "fortran_order": False, "shape": (count, width)}
        np.lib.format.write_array_header_1_0(file, about)

    def add(rows: np.ndarray) -> None:
        nonlocal count
        file.write(np.ascontiguousarray(rows, "<f4").data)
        count += len(rows)

    header()
    yield add
    header()


@contextlib.contextmanager
def _npz(output: Path, content: Content) -> Iterator[Write]:
    """All arrays in one file. A .zip wants to know their length beforehand, so that the vectors are
    on the disk twice until it is written; on one without a name, which no kill leaves there."""
    paths_, errors = [], []
    with storage.new_bytes(output) as file, tempfile.TemporaryFile(dir=output.parent) as kept:
        with _growing(kept, sum(content.widths)) as add:

            def write(some: Embedded) -> None:
                add(some.vectors)
                paths_.extend(some.paths)
                errors.extend(some.problems)

            yield write
        with zipfile.ZipFile(file, "w") as archive:
            with _entry(archive, "path", zipfile.ZIP_DEFLATED) as entry:
                _write_texts(entry, paths_)
            with _entry(archive, "embedding") as entry:
                kept.seek(0)
                shutil.copyfileobj(kept, entry, 2**20)
            with _entry(archive, "error", zipfile.ZIP_DEFLATED) as entry:
                _write_texts(entry, errors)
            with _entry(archive, "member") as entry:
                np.lib.format.write_array(entry, content.member, allow_pickle=False)


def _entry(archive: zipfile.ZipFile, name: str, how: int = zipfile.ZIP_STORED) -> IO[bytes]:
    about = zipfile.ZipInfo(f"{name}.npy")
    about.compress_type = how
    return archive.open(about, "w", force_zip64=True)


def _write_texts(file: IO[bytes], texts: Sequence[str]) -> None:
    """An array of text of the longest one's width, which is never whole in memory."""
    kind = np.dtype(f"<U{max(map(len, texts), default=1) or 1}")
    about = {"descr": kind.str, "fortran_order": False, "shape": (len(texts),)}
    np.lib.format.write_array_header_1_0(file, about)
    for start in range(0, len(texts), TEXTS):
        file.write(np.array(texts[start : start + TEXTS], kind).tobytes())


@contextlib.contextmanager
def _parquet(output: Path, content: Content) -> Iterator[Write]:
    """Row groups of some megabytes."""
    import pyarrow
    from pyarrow import parquet

    width = sum(content.widths)
    members = zip(content.numbers, content.widths, strict=True)
    about = {
        "members": [{"number": number, "columns": columns} for number, columns in members],
        "tap": content.tap,
        "normalize": content.normalize,
    }
    schema = pyarrow.schema(
        [
            ("path", pyarrow.string()),
            ("embedding", pyarrow.list_(pyarrow.float32(), width)),
            ("error", pyarrow.string()),
        ],
        {"fgvc_jax": json.dumps(about)},
    )
    most = max(ROW_GROUP // (4 * width), 1)
    waiting: list[Embedded] = []
    with (
        storage.new_bytes(output) as file,
        parquet.ParquetWriter(file, schema, compression="zstd", use_dictionary=False) as writer,
    ):

        def flush() -> None:
            flat = np.concatenate([some.vectors.reshape(-1) for some in waiting])
            columns = [
                [_text(path) for some in waiting for path in some.paths],
                pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(flat), width),
                [_text(problem) or None for some in waiting for problem in some.problems],
            ]
            writer.write_table(pyarrow.table(columns, schema=schema))
            waiting.clear()

        def write(some: Embedded) -> None:
            waiting.append(some)
            if sum(len(each.paths) for each in waiting) >= most:
                flush()

        yield write
        if waiting:
            flush()


def _text(text: str) -> str:
    """Text as a .parquet can hold it: bytes of a file's name that are not UTF-8 are escaped."""
    return os.fsencode(text).decode(errors="backslashreplace")


_WRITERS = {".npz": _npz, ".npy": _npy, ".parquet": _parquet}
