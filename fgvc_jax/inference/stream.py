"""Answers for any number of image files, or their embeddings, in their order, as a stream.

Threads read and decode ahead of the devices, and what is answered is handed on while the next batch
is under way, so that the devices wait for neither and memory holds a few batches.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np

from fgvc_jax.data.inputs import InputFile
from fgvc_jax.inference.embeddings import Embedder
from fgvc_jax.inference.model import Model
from fgvc_jax.inference.neighbours import NOVELTY
from fgvc_jax.inference.predictor import collect
from fgvc_jax.utils.errors import UserError

# Files, why each could not be read, and what the devices were asked of every member.
_Begun = tuple[Sequence[InputFile], list[str], list[dict[str, jax.Array]]]
AHEAD_BYTES = 2**28  # of decoded batches
AHEAD_BATCHES = 2, 4  # at the least, whatever their size, and at the most


@dataclass(frozen=True)
class Answered:
    """What members say of some files.

    paths: of n files. problems: why there is no answer, or "". answers: of each member, what
    `predictor.collect` returns; rows of files with a problem mean nothing. files: what was asked
    for, where a detector's boxes were.
    """

    paths: list[str]
    problems: list[str]
    answers: list[dict[str, np.ndarray]]
    files: Sequence[InputFile] = ()


@dataclass(frozen=True)
class Embedded:
    """What members see of some files.

    paths: of n files. problems: why there is no vector, or "". vectors: (n, D) float32, see
    `Embedder.embed`; rows of files with a problem are NaN.
    """

    paths: list[str]
    problems: list[str]
    vectors: np.ndarray


@dataclass(frozen=True)
class _Batch:
    files: Sequence[InputFile]
    squares: np.ndarray
    problems: list[Future]


def answer(
    model: Model,
    files: Iterable[InputFile],
    *,
    batch_size: int,
    threads: int,
    embed: bool = False,
) -> Iterator[Answered]:
    """Ask a model for files, batch by batch.

    Args:
        model: trained members.
        files: what is asked for.
        batch_size: files at a time; where there are fewer at all, a smaller program is compiled.
        threads: that read and decode.
        embed: whether answers have what the members see, too.

    Raises:
        UserError: when the members' answers are not finite.
    """
    ask = partial(model.ask, embed=True) if embed else model.ask
    for begun in _begun(model, files, ask, batch_size, threads):
        yield _answered(*begun)


def embed(
    model: Embedder,
    files: Iterable[InputFile],
    *,
    tap: str = "",
    normalize: bool = False,
    batch_size: int,
    threads: int,
) -> Iterator[Embedded]:
    """Have a model embed files, batch by batch: arguments as for `answer` and `Embedder.embed`.

    Raises:
        UserError: for a tap that is not there, and for vectors that are not finite.
    """
    model.widths(tap)
    ask = partial(model.begin, tap=tap)
    for found, problems, vectors in _begun(model, files, ask, batch_size, threads):
        paths = [file.path for file in found]
        rows = model.vectors(vectors, paths, normalize=normalize)
        rows[[bool(problem) for problem in problems]] = np.nan
        yield Embedded(paths, problems, rows)


def _begun(
    model: Embedder,
    files: Iterable[InputFile],
    ask: Callable[[np.ndarray], list[dict[str, jax.Array]]],
    batch_size: int,
    threads: int,
) -> Iterator[_Begun]:
    """What devices were asked, batch by batch, each handed on once the next one is under way."""
    earlier = None
    for batch in _decoded(model, iter(files), batch_size, threads):
        problems = [future.result() for future in batch.problems]
        this = batch.files, problems, ask(batch.squares)
        if earlier is not None:
            yield earlier
        earlier = this
    if earlier is not None:
        yield earlier


def _decoded(
    model: Embedder, files: Iterator[InputFile], batch_size: int, threads: int
) -> Iterator[_Batch]:
    """Batches on their way to being decoded, the first of them next to be waited for."""
    size = None
    waiting: deque[_Batch] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        while some := list(itertools.islice(files, batch_size)):
            squares = model.squares(size or len(some))
            size = batch_size
            least, most = AHEAD_BATCHES
            ahead = min(max(AHEAD_BYTES // squares.nbytes, least), most)
            problems = [
                pool.submit(_decode, model, file, squares, row) for row, file in enumerate(some)
            ]
            waiting.append(_Batch(some, squares, problems))
            if len(waiting) > ahead:
                yield waiting.popleft()
        yield from waiting
    finally:
        pool.shutdown(cancel_futures=True)


def _decode(model: Embedder, file: InputFile, squares: np.ndarray, row: int) -> str:
    """Put an image in its place; why it could not be, or ""."""
    if file.problem:
        return file.problem
    try:
        boxed = () if file.box is None else (file.box,)
        squares[row] = model.square(file.path, *boxed)
    except UserError as error:
        return str(error)
    return ""


def _answered(
    files: Sequence[InputFile], problems: list[str], answers: list[dict[str, jax.Array]]
) -> Answered:
    paths = [file.path for file in files]
    return Answered(paths, problems, collected(answers, len(files)), files)


def collected(answers: list[dict[str, jax.Array]], count: int) -> list[dict[str, np.ndarray]]:
    """As `predictor.collect`, of all that answers have."""
    asked = "log_probabilities", "attention", *NOVELTY
    return collect(answers, count, [name for name in asked if name in answers[0]])
