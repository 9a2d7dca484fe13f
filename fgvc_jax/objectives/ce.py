"""Cross entropy: the plain classifier, and the objective of KT's members (eq. 6, first term).

Of sets where a few classes have most of the images, it can weigh classes (`class_weights`) or be
taught that the frequent ones are likelier to begin with (`logit_adjustment`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np

from fgvc_jax.data.view import View
from fgvc_jax.objectives.accuracy import accuracy
from fgvc_jax.objectives.base import LossOutput, Method, Objective, cross_entropy
from fgvc_jax.utils.options import Suppress, option

if TYPE_CHECKING:
    import jax

EFFECTIVE = 0.999  # beta of the effective number of images (Cui et al., one of their four)


@dataclass(frozen=True)
class CE(Method):
    """Cross entropy, plain or for sets with a long tail."""

    class_weights: Literal["none", "balanced", "effective"] = option("none", later=True)
    """Weight of an image by its class: balanced: one over the number of its images; effective: of
    its effective number of images, which grows slower (arXiv 1901.05555)."""
    logit_adjustment: float = option(0.0, at_least=0, later=True)
    """Add so many times the log frequency of each class to its logit in training, so that answers
    favour none (arXiv 2007.07314; 1 is its own value)."""
    # Training images of each class, where one of the two needs them.
    counts: Annotated[tuple[int, ...], Suppress] = option((), automatic=True, later=True)

    def settle(self, labels: np.ndarray) -> Self:
        needed = self.class_weights != "none" or self.logit_adjustment > 0
        return replace(self, counts=tuple(np.bincount(labels).tolist()) if needed else ())

    def make(self, *, classes: int, label_smoothing: float, view: View) -> Objective:
        counts = np.array(self.counts, float)
        return ce(
            label_smoothing=label_smoothing,
            weights=class_weights(counts, self.class_weights) if counts.size else None,
            prior=self.logit_adjustment * np.log(counts / counts.sum()) if counts.size else None,
        )


def class_weights(counts: np.ndarray, kind: str) -> np.ndarray | None:
    """Weights of the classes, whose mean over the training images is 1, so that learning rates keep
    their meaning (ours; the authors' have a mean of 1 over classes).

    Args:
        counts: (K,) training images of each class, above 0.
        kind: "balanced": 1 / n; "effective": (1 - beta) / (1 - beta^n); "none".
    """
    if kind == "none":
        return None
    weights = 1 / counts if kind == "balanced" else (1 - EFFECTIVE) / (1 - EFFECTIVE**counts)
    return weights * counts.sum() / (weights * counts).sum()


def ce(
    *, label_smoothing: float, weights: np.ndarray | None = None, prior: np.ndarray | None = None
) -> Objective:
    """Cross entropy of the main head; remembers nothing.

    Args:
        label_smoothing: weight of the uniform distribution in the target, in [0, 1).
        weights: (K,) of an image by its class; None: all alike. Of a mixed image the mean.
        prior: (K,) added to the logits in the loss; None: nothing.
    """

    def loss(forward, variables, batch, memory):
        taps, outputs, batch_stats = forward(variables, batch.image, batch.key)
        logits = outputs["logits"]
        targets = batch.targets(logits.shape[-1])
        shifted = logits if prior is None else logits + prior.astype(np.float32)
        of_images: jax.Array | None = None
        if weights is not None:
            of_images = targets @ weights.astype(np.float32)
        value = cross_entropy(shifted, targets, smoothing=label_smoothing, weights=of_images)
        metrics = {"cross_entropy": value, "accuracy": accuracy(logits, batch.main_label)}
        return LossOutput(value, metrics, taps, batch_stats, memory)

    return Objective(
        heads={},
        init_memory=lambda variables, outputs: (),
        loss=loss,
        predict=lambda outputs: outputs["logits"],
    )
