"""Are labels that somebody exchanged found among those that a report doubts?

    python scripts/doubts.py --source cub:data/cub200_2010 --classes 50

Exchanges a share of the training labels, solves `--objective linear` on the embeddings of
EfficientNet-Lite0, and compares what is doubted of the images that were held out with what was
exchanged: precision, recall, and recall among as many as were exchanged, the least plausible first;
by the probability of the label (what a report does), and by confident learning.
"""

from dataclasses import dataclass

import numpy as np
from features import Featured, features, solved

from fgvc_jax.commands.start import prepare, run
from fgvc_jax.evaluation.error_analysis import Predictions
from fgvc_jax.evaluation.tallies import Fused
from fgvc_jax.utils.command_line import command_line


@dataclass(frozen=True)
class Arguments(Featured):
    """Find exchanged labels."""

    classes: int = 0
    """The first so many classes; 0: all."""
    share: float = 0.02
    """Share of the labels that are exchanged for another one at random."""
    seeds: int = 4
    """So many times."""


class HeldOut:
    """What is said of images, as `Fused` reads it."""

    part = "held_out"

    def __init__(self, labels: np.ndarray, answers: np.ndarray):
        self.labels, self._answers = labels, answers
        self.classes = tuple(map(str, range(answers.shape[1])))

    def log_probabilities(self, member: str) -> np.ndarray:
        return self._answers


def main(arguments: list[str]) -> None:
    asked = command_line(
        Arguments, arguments, program="python scripts/doubts.py", default=Arguments()
    )
    found = features(asked.source, asked.features, asked.classes)
    vectors, labels = found.vectors[found.training], found.labels[found.training]
    classes = found.classes
    print(f"{len(labels):,} images of {classes} classes, {asked.share:.1%} of the labels exchanged")
    print("seed  by                   doubted  found  precision  recall  recall in as many")
    for seed in range(asked.seeds):
        random = np.random.default_rng(seed)
        wrong = random.choice(len(labels), round(asked.share * len(labels)), replace=False)
        given = labels.copy()
        given[wrong] = (labels[wrong] + random.integers(1, classes, len(wrong))) % classes
        head, _ = solved(vectors, given, classes, seed)
        held_out = HeldOut(given, head.held_out.log_probabilities)
        answers = Predictions.of(Fused(held_out, ("",), "probabilities"))
        for by, doubted in (
            ("label's probability", answers.implausible()),
            ("confident learning", answers.doubted()),
        ):
            known = np.isin(doubted, wrong).sum()
            first = np.isin(doubted[: len(wrong)], wrong).sum() / len(wrong)
            print(
                f"{seed:4}  {by:19}  {len(doubted):7}  {known:5}  "
                f"{known / max(len(doubted), 1):9.1%}  {known / len(wrong):6.1%}  {first:17.1%}"
            )


if __name__ == "__main__":
    prepare()
    run(main)
