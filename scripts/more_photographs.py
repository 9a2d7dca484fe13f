"""Does the report guess right what twice as many photographs would bring?

    python scripts/more_photographs.py --source cub:data/cub200_2010 --features birds.npz

For each draw some species, and so many photographs of each, solve a head of `--objective linear` on
EfficientNet-Lite0's features; what is held out in turn tells the learning curve, and guesses what
twice as many bring (`evaluation/learning_curve.py`). Then twice as many solve it, and photographs
that were in neither say what that brought. Printed: every draw, and means with Student's 95 %
intervals over the draws, in points.
"""

from dataclasses import dataclass

import numpy as np
from features import Featured, Features, drawn, features, solved

from fgvc_jax.commands.start import prepare, run
from fgvc_jax.evaluation import learning_curve, statistics
from fgvc_jax.utils.command_line import command_line
from fgvc_jax.utils.text import markdown_table


@dataclass(frozen=True)
class Arguments(Featured):
    """Compare the guess with the truth."""

    classes: int = 25
    """Species of a draw."""
    photographs: int = 8
    """Of each, before they are doubled."""
    draws: int = 12
    """So many."""


def judged(found: Features, options: Arguments, seed: int) -> tuple[float, float, float]:
    """(gain of the last doubling, what the next one is guessed to bring, what it brought) of a
    draw."""
    x, labels, places = drawn(found, options.classes, seed)
    test = places >= 2 * options.photographs
    accuracies, told = [], None
    for count in (options.photographs, 2 * options.photographs):
        own = places < count
        truth = labels[own]
        head, logits = solved(x[own], truth, options.classes, seed)
        said = logits(x[test]).argmax(-1)
        accuracies.append(float((said == labels[test]).mean()))
        if told is None:
            known = {share: each.log_probabilities for share, each in head.fewer.items()}
            known[1.0] = head.held_out.log_probabilities
            told = learning_curve.curve_of(
                truth, np.arange(len(truth)), head.held_out.rows, head.held_out.heads, known
            )
    assert told is not None
    return told["gain"]["value"], told["next"], accuracies[1] - accuracies[0]


def main(arguments: list[str]) -> None:
    options = command_line(
        Arguments, arguments, program="python scripts/more_photographs.py", default=Arguments()
    )
    found = features(options.source, options.features)
    every = []
    for seed in range(options.draws):
        every.append(judged(found, options, seed))
        brought, guessed, true = (f"{100 * value:.1f}" for value in every[-1])
        print(f"draw {seed}: brought {brought}, guessed {guessed}, true {true}", flush=True)
    rows = []
    names = "the last doubling brought", "the next is guessed to bring", "it brought"
    for name, values in zip(names, np.array(every).T, strict=True):
        told = statistics.describe((100 * values).tolist())
        low, high = told["interval"] or (np.nan, np.nan)
        ends = f"{values.min() * 100:.1f} to {values.max() * 100:.1f}"
        rows.append([name, f"{told['mean']:.1f} ({low:.1f} to {high:.1f})", ends])
    print(markdown_table(["points", "mean", "least and most"], rows))


if __name__ == "__main__":
    prepare()
    run(main)
