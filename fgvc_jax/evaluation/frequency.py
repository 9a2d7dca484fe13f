"""How well classes of many, some and few training images are named."""

from typing import Any

import numpy as np

from fgvc_jax.evaluation.metrics import share

MANY, FEW = 100, 20  # training images of a class: above, and below (Liu et al., arXiv 1904.05160)
LONG_TAIL = 3.0  # the largest class is so many times the smallest where it matters
NAMES = "many", "some", "few"


def accuracy_by_frequency(
    labels: np.ndarray, predicted: np.ndarray, counts: np.ndarray
) -> list[dict[str, Any]]:
    """Accuracy on the classes of many, some and few training images: part of results.json.

    A class has many above MANY, few below FEW; where all are of one kind, the classes in thirds by
    their numbers.

    Args:
        labels: (N,) int, of the images that are judged.
        predicted: (N,) int.
        counts: (K,) training images of each class.

    Returns:
        Of each kind that has images {"name", "classes", "least" and "most" training images of one,
        "images", "accuracy"}, the one of many first; empty where the largest class has less than
        LONG_TAIL times the images of the smallest.
    """
    if counts.max() < LONG_TAIL * max(counts.min(), 1):
        return []
    kinds = np.where(counts > MANY, 0, np.where(counts < FEW, 2, 1))
    if len(np.unique(kinds)) == 1:
        places = np.argsort(np.argsort(-counts, kind="stable"), kind="stable")
        kinds = places * 3 // len(counts)
    found = []
    for kind, name in enumerate(NAMES):
        own, judged = counts[kinds == kind], kinds[labels] == kind
        number = int(judged.sum())
        if not number:
            continue
        right = int((predicted == labels)[judged].sum())
        found.append(
            {
                "name": name,
                "classes": len(own),
                "least": int(own.min()),
                "most": int(own.max()),
                "images": number,
                "accuracy": share(right, number),
            }
        )
    return found
