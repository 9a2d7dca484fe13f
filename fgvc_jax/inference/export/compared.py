"""A smaller graph beside the one in float32, on images that neither was made of."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import onnxruntime

from fgvc_jax.data.images import decode
from fgvc_jax.data.records import Source
from fgvc_jax.data.view import View
from fgvc_jax.evaluation.metrics import Tally, of_tally
from fgvc_jax.utils import progress
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import counted, markdown_table

MOST = 1000  # images; of a larger part every so many-th is asked
LEAST = -65504.0  # a log-probability: as far as those go that runs keep


def squares(source: Source, view: View, most: int, doing: str) -> Iterator[np.ndarray]:
    """(R, R, 3) uint8: at most so many images of a part at even distances, as they are tested."""
    rows = thinned(len(source), most)
    for row in progress.bar(iterable=rows, desc=doing, unit=" images", leave=False, delay=2):
        yield decode(source[row], view.test_side, **view.reading)


def thinned(count: int, most: int) -> np.ndarray:
    """At most so many of `count` rows, at even distances: sets are in the order of classes."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int))


class GraphQuality(NamedTuple):
    """Of a graph: bytes of its file, share of right first classes, nats, expected calibration
    error, and seconds that one image takes."""

    bytes: int
    accuracy: float
    nll: float
    ece: float
    seconds: float


class Comparison(NamedTuple):
    """precision: of the smaller graph. images: how many were asked, of this part. same: share of
    them that both give the same first class."""

    precision: str
    part: str
    images: int
    plain: GraphQuality
    small: GraphQuality
    same: float

    @classmethod
    def of(
        cls, precision: str, part: str, source: Source, view: View, files: tuple[Path, Path]
    ) -> Self:
        """Of two files, the one in float32 first.

        Raises:
            UserError: where the smaller one's answers are not finite.
        """
        sessions = [_Asked(file) for file in files]
        labels = np.asarray(source.labels)[thinned(len(source), MOST)]
        for square in squares(source, view, MOST, f"comparing {precision}"):
            for asked in sessions:
                asked(square)
        plain, small = sessions
        if not np.isfinite(small.answers).all():
            raise UserError(
                f"--precision {precision}: numbers are too large for it, so that answers are not "
                "finite; nothing was written: leave --precision out"
            )
        firsts = [np.stack(asked.answers).argmax(-1) for asked in sessions]
        same = float((firsts[0] == firsts[1]).mean())
        return cls(precision, part, len(labels), plain.numbers(labels), small.numbers(labels), same)

    def check(self, tolerance: float) -> None:
        """Raise a UserError where accuracy falls by more than the tolerance."""
        fall = self.plain.accuracy - self.small.accuracy
        if fall <= tolerance + 1e-9:  # of a difference of two shares
            return
        one = f", of which one is {1 / self.images:.3f}" if self.images * tolerance < 1 else ""
        raise UserError(
            f"--precision {self.precision}: accuracy falls by {fall:.3f}, from "
            f"{self.plain.accuracy:.3f} to {self.small.accuracy:.3f}, on {self._images}{one}, and "
            f"--tolerance is {tolerance:g}; nothing was written: allow more, or leave --precision "
            "out"
        )

    @property
    def _images(self) -> str:
        return counted(self.images, f"{self.part} image")

    @property
    def line(self) -> str:
        """For a terminal."""
        plain, small = self.plain, self.small
        return (
            f"{self.precision}: {small.bytes / 1e6:.1f} MB instead of {plain.bytes / 1e6:.1f}; "
            f"accuracy {small.accuracy:.1%} instead of {plain.accuracy:.1%}, "
            f"{self.same:.1%} with the same first class, on {self._images}"
        )

    @property
    def markdown(self) -> str:
        """For a README."""
        header = "precision", "MB", "accuracy", "NLL", "ECE", "ms an image"
        rows = [
            (
                name,
                f"{each.bytes / 1e6:.1f}",
                f"{each.accuracy:.2%}",
                f"{each.nll:.4f}",
                f"{each.ece:.4f}",
                f"{1000 * each.seconds:.0f}",
            )
            for name, each in (("float32", self.plain), (self.precision, self.small))
        ]
        return (
            f"{markdown_table(header, rows)}\n\nOn {self._images}, one at "
            f"a time, by onnxruntime {onnxruntime.__version__} on the CPU of the machine that "
            f"exported it; {self.same:.1%} of them get the same first class from both. "
            "Probabilities are raw: NLL in nats, ECE with adaptive bins.\n"
        )


class _Asked:
    """A graph, asked image by image."""

    def __init__(self, file: Path):
        self._bytes = file.stat().st_size
        self._session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        self._seconds: list[float] = []
        self.answers: list[np.ndarray] = []

    def __call__(self, square: np.ndarray) -> None:
        start = time.perf_counter()
        (answer,) = self._session.run(["probabilities"], {"images": square[None]})
        self._seconds.append(time.perf_counter() - start)
        self.answers.append(answer[0])

    def numbers(self, labels: np.ndarray) -> GraphQuality:
        """Of the images with these labels, which it was asked for."""
        tally = Tally.of(labels)
        with np.errstate(divide="ignore"):
            tally.fill(slice(None), np.maximum(np.log(self.answers), LEAST))
        found = of_tally(tally)(np.ones((1, len(labels))))
        accuracy, nll, ece = (float(found[name][0]) for name in ("accuracy", "nll", "ece"))
        # The first one has memory to claim; the median says nothing of other programs' moments.
        return GraphQuality(self._bytes, accuracy, nll, ece, float(np.median(self._seconds)))
