"""How much is answered at a promised risk, and is the promise kept?

    python scripts/promised_risk.py --source cub:data/cub200_2010 --features birds.npz

For each draw some species, and so many photographs of each, solve a head of `--objective linear` on
EfficientNet-Lite0's features. The confidence from which on an answer is not `unsure` is fitted
twice: on what is held out of the head in turn, as for a run without a validation part, and on so
many photographs that were set aside. All photographs that are left say what share is answered,
and how many of these answers are wrong. Printed: means over the draws, and in how many of them the
error was above the risk by more than chance explains.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from features import Featured, Features, drawn, features, solved

from fgvc_jax.commands.start import prepare, run
from fgvc_jax.ensemble import log_softmax
from fgvc_jax.evaluation.calibration import accept_from, least_risk
from fgvc_jax.evaluation.intervals import proportion
from fgvc_jax.utils.command_line import command_line
from fgvc_jax.utils.text import markdown_table


@dataclass(frozen=True)
class Arguments(Featured):
    """Promise a risk, and look."""

    classes: int = 12
    """Species of a draw."""
    photographs: int = 15
    """Of each, to learn from."""
    validation: int = 24
    """Photographs that are set aside."""
    risk: float = 0.05
    """The share of wrong answers that is promised."""
    draws: int = 20
    """So many."""


class Kept(NamedTuple):
    """What became of a promise. least: the smallest risk that could be promised; None for none."""

    answered: float
    wrong: int
    count: int
    least: float | None


def promised(
    known: tuple[np.ndarray, np.ndarray], new: tuple[np.ndarray, np.ndarray], risk: float
) -> Kept:
    """Of (confidence (N,), right (N,)) of photographs that fit the threshold, and of new ones."""
    sure, right = new
    answered = sure >= accept_from(*known, risk)
    wrong = int((~right & answered).sum())
    return Kept(float(answered.mean()), wrong, int(answered.sum()), least_risk(*known))


def judged(found: Features, options: Arguments, seed: int) -> list[Kept]:
    """By what is held out, and by what is set aside, of a draw."""
    x, labels, places = drawn(found, options.classes, seed)
    learned = places < options.photographs
    head, logits = solved(x[learned], labels[learned], options.classes, seed)
    others = log_softmax(logits(x[~learned]))

    def confident(said: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.exp(said.max(-1)), said.argmax(-1) == truth

    aside, new = slice(options.validation), slice(options.validation, None)
    truth = labels[~learned]
    asked = confident(others[new], truth[new])
    return [
        promised(confident(*known), asked, options.risk)
        for known in (
            (head.held_out.log_probabilities, labels[learned]),
            (others[aside], truth[aside]),
        )
    ]


def main(arguments: list[str]) -> None:
    options = command_line(
        Arguments, arguments, program="python scripts/promised_risk.py", default=Arguments()
    )
    found = features(options.source, options.features)
    every = [judged(found, options, seed) for seed in range(options.draws)]
    held_out = options.classes * options.photographs
    names = f"{held_out:,} held out in turn", f"{options.validation:,} set aside"
    rows = []
    for name, kept in zip(names, zip(*every, strict=True), strict=True):
        count, wrong = (sum(getattr(each, what) for each in kept) for what in ("count", "wrong"))
        above = sum(
            proportion(each.wrong, each.count)[0] > options.risk for each in kept if each.count
        )
        least = [each.least for each in kept if each.least]
        rows.append(
            [
                name,
                f"{sum(each.answered > 0 for each in kept)} of {len(kept)}",
                f"{100 * np.mean([each.answered for each in kept]):.1f}",
                f"{100 * wrong / count:.1f}" if count else "-",
                f"{above}",
                f"{100 * np.median(least):.0f}" if least else "-",
            ]
        )
    head = "fitted to", "promised in", "answered (%)", "of these wrong (%)", "broken in"
    print(markdown_table([*head, "least risk (%), median"], rows))


if __name__ == "__main__":
    prepare()
    run(main)
