"""How well are species told that a solved head never saw, and is the right score chosen?

    python scripts/unknown.py --source cub:data/cub200_2010 --features birds.npz

For each seed some species are unknown at random. On EfficientNet-Lite0's features the head of
`--objective linear` is solved for the others on four of five training photographs; the rest of
these fits the threshold of `predict --unknown-rate 0.05`. Test photographs of both kinds are then
told apart: by each score, and by the one that is chosen by solving again without some of the known
species (`training/novel.py`), in which neither the unknown species nor any test photograph plays a
part. Printed: every seed, and means with Student's 95 % intervals over the seeds.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from features import Featured, features
from percents import told

from fgvc_jax.commands.start import prepare, run
from fgvc_jax.evaluation import novelty
from fgvc_jax.evaluation.novelty import Novelty
from fgvc_jax.objectives.linear import Linear, folds
from fgvc_jax.training import novel
from fgvc_jax.utils.command_line import command_line
from fgvc_jax.utils.text import markdown_table

RATE = 0.05


@dataclass(frozen=True)
class Arguments(Featured):
    """Tell species that the head never saw."""

    classes: int = 0
    """The first so many species; 0: all."""
    unknown: int = 50
    """So many of them are unknown."""
    seeds: int = 4
    """So many times."""
    weight_decay: float = 1e-4
    """Of the head: what cross-fitting chose on all of these birds."""


def judged(found, options: Arguments, seed: int) -> dict[str, float]:
    """Metrics of one seed, by name."""
    random = np.random.default_rng(seed)
    new = np.isin(found.labels, random.choice(found.classes, options.unknown, replace=False))
    training = np.flatnonzero(found.training & ~new)
    x, labels = found.vectors[training], np.unique(found.labels[training], return_inverse=True)[1]
    apart = folds(labels, np.arange(len(labels)), seed) == 0
    refit = Linear.refit(options.weight_decay)
    solved = x[~apart]
    head = refit(solved, labels[~apart], labels.max() + 1)
    areas = novel.choose(x, labels, np.arange(len(x)), refit, seed)
    chosen = max(areas, key=areas.__getitem__)

    def strangeness(vectors):
        return novelty.scores(head(vectors), novel.distances(vectors, solved))

    held_out, known, unknown = map(
        strangeness,
        (x[apart], found.vectors[~found.training & ~new], found.vectors[~found.training & new]),
    )
    metrics = {}
    for column, name in enumerate(novelty.SCORES):
        fitted = Novelty(name, held_out[:, column], "held-out images", {})
        each = {
            "AUROC": novelty.auroc(known[:, column], unknown[:, column]),
            "FPR95": novelty.false_positives(known[:, column], unknown[:, column]),
            "found": float((fitted.typicality(unknown[:, column]) <= RATE).mean()),
            "alarms": float((fitted.typicality(known[:, column]) <= RATE).mean()),
        }
        metrics |= {f"{name} {key}": value for key, value in each.items()}
        metrics |= {f"chosen {k}": v for k, v in each.items()} if name == chosen else {}
    on_left_out = ", ".join(f"{name} {value:.3f}" for name, value in areas.items())
    print(f"seed {seed}: {chosen} is chosen ({on_left_out} on left-out species)", flush=True)
    return metrics


def main(arguments: list[str]) -> None:
    options = command_line(
        Arguments, arguments, program="python scripts/unknown.py", default=Arguments()
    )
    found = features(options.source, options.features, options.classes)
    each = list(map(partial(judged, found, options), range(options.seeds)))
    rows = []
    for name in (*novelty.SCORES, "chosen"):
        row = [name]
        for key in ("AUROC", "FPR95", "found", "alarms"):
            values = [metrics[f"{name} {key}"] for metrics in each]
            row += [told(values), " ".join(f"{100 * value:.1f}" for value in values)]
        rows.append(row)
    header = ["score"]
    for key in ("AUROC", "FPR at 95 % TPR", f"found at {RATE:g}", "false alarms"):
        header += [f"{key} (%)", "seeds"]
    print(markdown_table(header, rows))
    differences = [m["chosen AUROC"] - m[f"{novelty.FIXED} AUROC"] for m in each]
    print(f"chosen less {novelty.FIXED}, AUROC: {told(differences, least=-1.0)} points")


if __name__ == "__main__":
    prepare()
    run(main)
