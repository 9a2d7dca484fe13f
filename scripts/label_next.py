"""Is what `predict --label-next` proposes worth more labels than photographs taken at random?

    python scripts/label_next.py --source cub:data/cub200_2010 --features birds.npz

On EfficientNet-Lite0's features, a head of `--objective linear` is solved for a few training
photographs a class; then more of the others are labelled, some at a time, and it is solved again:
once those that the project proposes (the most uncertain, spread out by k-centre), once as many at
random. Printed: accuracy on all test photographs after each step, and the difference, as means
with Student's 95 % intervals over seeds (which choose the first photographs and the random ones).
"""

from dataclasses import dataclass

import numpy as np
from features import Featured, Features, features
from percents import told

from fgvc_jax.commands.start import prepare, run
from fgvc_jax.ensemble import log_softmax
from fgvc_jax.evaluation import acquisition
from fgvc_jax.objectives.linear import Linear
from fgvc_jax.utils.command_line import command_line
from fgvc_jax.utils.text import markdown_table


@dataclass(frozen=True)
class Arguments(Featured):
    """Label what is proposed, or what comes."""

    classes: int = 0
    """The first so many species; 0: all."""
    start: int = 3
    """Photographs of each class that are labelled at first."""
    add: int = 200
    """Photographs that are labelled at a time."""
    steps: int = 5
    """So many times."""
    seeds: int = 4
    """So many simulations."""
    weight_decay: float = 0.01
    """Of the head, the same at every step."""


def curve(found: Features, options: Arguments, seed: int, proposed: bool) -> list[float]:
    """Accuracy on the test photographs at the start and after each step."""
    random = np.random.default_rng(seed)
    pool = random.permutation(np.flatnonzero(found.training))
    taken = np.zeros(found.classes, int)
    first = []
    for row in pool:
        if taken[found.labels[row]] < options.start:
            taken[found.labels[row]] += 1
            first.append(row)
    labelled = np.array(first)
    directions = found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True)
    accuracies: list[float] = []
    refit = Linear.refit(options.weight_decay)
    for step in range(options.steps + 1):
        head = refit(found.vectors[labelled], found.labels[labelled], found.classes)
        test = ~found.training
        said = head(found.vectors[test]).argmax(-1)
        accuracies.append(float((said == found.labels[test]).mean()))
        if step == options.steps:
            break
        rest = np.setdiff1d(pool, labelled)
        chosen = random.permutation(rest)[: options.add]
        if proposed:
            unsure = acquisition.uncertainty(log_softmax(head(found.vectors[rest]))[None])
            order = rest[np.argsort(-unsure)][: acquisition.CANDIDATES * options.add]
            near = (directions[order] @ directions[labelled].T).max(-1)
            chosen = order[acquisition.spread(directions[order], near, options.add)]
        labelled = np.concatenate([labelled, chosen])
    return accuracies


def main(arguments: list[str]) -> None:
    options = command_line(
        Arguments, arguments, program="python scripts/label_next.py", default=Arguments()
    )
    found = features(options.source, options.features, options.classes)
    both = []
    for seed in range(options.seeds):
        both.append([curve(found, options, seed, proposed) for proposed in (True, False)])
        print(f"seed {seed}: " + "; ".join(" ".join(f"{v:.3f}" for v in c) for c in both[-1]))
    rows = []
    for step, values in enumerate(np.array(both).transpose(2, 1, 0)):
        count = options.start * found.classes + step * options.add
        gains = told((values[0] - values[1]).tolist(), least=-1.0)
        rows.append([count, *(told(each.tolist()) for each in values), gains])
    print(markdown_table(["labelled", "proposed (%)", "at random (%)", "difference"], rows))


if __name__ == "__main__":
    prepare()
    run(main)
