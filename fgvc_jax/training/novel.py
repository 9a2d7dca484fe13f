"""Which score tells new classes best, where a head is solved on a frozen network: found by solving
it again without some classes. No test image plays a part."""

import numpy as np

from fgvc_jax.evaluation import novelty
from fgvc_jax.objectives.base import Refit

TIMES = 3  # that other classes are left out
SHARE = 0.25  # of the classes
LEAST = 8  # classes; of fewer, those that are left out say nothing of others
MOST = 5_000  # images that are solved for, or judged, at a time
HELD_OUT = 0.2  # of the known images


def choose(
    embeddings: np.ndarray, labels: np.ndarray, groups: np.ndarray, refit: Refit, seed: int
) -> dict[str, float]:
    """{score: area under the ROC curve, on average over several choices of classes left out}, of
    images of these classes against images of the others that were held out; {} where there are too
    few classes to tell.

    Args:
        embeddings: (N, D) of the training images.
        labels: (N,) int.
        groups: (N,) int; those of one group are held out together.
        refit: solves the head.
        seed: of what is left out.
    """
    classes = np.unique(labels)
    if len(classes) < LEAST:
        return {}
    random, found = np.random.default_rng(seed), []
    for _ in range(TIMES):
        left_out = random.choice(classes, round(SHARE * len(classes)), replace=False)
        new = np.isin(labels, left_out)
        numbers = np.unique(groups)
        held = random.choice(numbers, max(1, round(HELD_OUT * len(numbers))), replace=False)
        apart = np.isin(groups, held)
        rows = [_some(random, which) for which in (~new & ~apart, ~new & apart, new)]
        solved_for, known, unknown = rows
        # A class whose groups are all held out was not learned either.
        known = known[np.isin(labels[known], labels[solved_for])]
        if not (len(solved_for) and len(known) and len(unknown)):
            continue
        names, numbered = np.unique(labels[solved_for], return_inverse=True)
        head = refit(embeddings[solved_for], numbered, len(names))
        ours, theirs = (
            novelty.scores(
                head(embeddings[each]), distances(embeddings[each], embeddings[solved_for])
            )
            for each in (known, unknown)
        )
        found.append([novelty.auroc(*each) for each in zip(ours.T, theirs.T, strict=True)])
    means = np.mean(found, axis=0).tolist() if found else []
    return dict(zip(novelty.SCORES, means, strict=False))


def distances(
    queries: np.ndarray, embeddings: np.ndarray, apart: np.ndarray | None = None
) -> np.ndarray:
    """(B,) 1 - cosine of queries (B, D) to the nearest embedding (N, D); `apart` (B, N) bool are
    pairs that do not count."""
    cosines = _directions(queries) @ _directions(embeddings).T
    if apart is not None:
        cosines = np.where(apart, -1, cosines)
    return 1 - cosines.max(-1)


def _directions(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def _some(random: np.random.Generator, which: np.ndarray) -> np.ndarray:
    """Rows where (N,) bool holds, at most `MOST` at random."""
    rows = np.flatnonzero(which)
    return np.sort(random.permutation(rows)[:MOST])
