"""Do the probabilities of `predict --group` mean what they say?

    python scripts/events.py --workdir runs/birds

Of a finished run with a calibration: its test images are put together at random into events of one
class, of which every image is another photograph, the far end from a burst of one picture. Of each
size are told the accuracy, the mean probability of the answer, and the expected calibration error
(15 bins of equal width): for the mean of the calibrated probabilities, which `predict` takes, and
for their normalised product, as of independent witnesses. The same images shown as often (a burst
of one picture) are the row of size 1 for the mean; for the product they are told beside it.
"""

from dataclasses import dataclass

import numpy as np

from fgvc_jax.commands.start import prepare, run
from fgvc_jax.ensemble import log_softmax
from fgvc_jax.evaluation import intervals
from fgvc_jax.evaluation.tallies import Fused
from fgvc_jax.utils.command_line import command_line
from fgvc_jax.utils.text import markdown_table
from fgvc_jax.workdir.finished import FinishedRun

BINS = 15


@dataclass(frozen=True)
class Arguments:
    """Judge answers for events."""

    workdir: str = ""
    """A finished run with a validation part, or a solved head."""
    sizes: tuple[int, ...] = (1, 2, 4, 8)
    """Images of an event."""
    seed: int = 0
    """Of what is put together."""


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """The mean distance of confidence and accuracy over bins, by their images."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    differ = np.bincount(bins, confidence - right, minlength=BINS)
    return float(np.abs(differ).sum() / count.sum())


def events(labels: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """(E, size) rows of images of one class each; every image is in one event at the most."""
    found = []
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        found.append(rows[: len(rows) // size * size].reshape(-1, size))
    return np.concatenate(found)


def main(arguments: list[str]) -> None:
    options = command_line(
        Arguments, arguments, program="python scripts/events.py", default=Arguments()
    )
    found = FinishedRun.of(options.workdir)
    fitted = found.calibration_store.find()
    answers = np.zeros((len(found.part.labels), len(found.part.classes)), np.float32)
    for rows, values in Fused(found.part, found.identities, found.record.experiment.fusion):
        answers[rows] = fitted.log_probabilities(values)
    random, table = np.random.default_rng(options.seed), []
    for size in options.sizes:
        together = events(found.part.labels, size, random)
        labels = found.part.labels[together[:, 0]]
        ways = {
            "mean": np.exp(answers[together]).mean(1),
            "product": np.exp(log_softmax(answers[together].sum(1))),
            "product of one picture": np.exp(log_softmax(size * answers[together[:, 0]])),
        }
        for name, probabilities in ways.items():
            right = probabilities.argmax(-1) == labels
            low, high = intervals.proportion(right.sum(), len(right))
            sure = probabilities.max(-1)
            table.append(
                [size, name, len(labels), f"{right.mean():.1%} ({low:.1%} to {high:.1%})",
                 f"{sure.mean():.1%}", f"{calibration_error(sure, right):.1%}"]
            )  # fmt: skip
    header = "images", "combined by", "events", "right", "mean probability", "calibration error"
    print(markdown_table(header, table))


if __name__ == "__main__":
    prepare()
    run(main)
