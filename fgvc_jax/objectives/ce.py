"""Cross entropy: the plain classifier, and the objective of KT's members (eq. 6, first term)."""

from dataclasses import dataclass

from fgvc_jax.data.view import View
from fgvc_jax.objectives.accuracy import accuracy
from fgvc_jax.objectives.base import Method, Objective, Step, cross_entropy


@dataclass(frozen=True)
class CE(Method):
    """--objective ce: it has no options of its own."""

    def make(self, *, classes: int, label_smoothing: float, view: View) -> Objective:
        return ce(label_smoothing=label_smoothing)


def ce(*, label_smoothing: float) -> Objective:
    """Cross entropy of the main head; remembers nothing.

    Args:
        label_smoothing: weight of the uniform distribution in the target, in [0, 1).
    """

    def loss(forward, variables, batch, memory):
        taps, outputs, batch_stats = forward(variables, batch.image, batch.key)
        logits = outputs["logits"]
        targets = batch.targets(logits.shape[-1])
        value = cross_entropy(logits, targets, smoothing=label_smoothing)
        metrics = {"cross_entropy": value, "accuracy": accuracy(logits, batch.main_label)}
        return Step(value, metrics, taps, batch_stats, memory)

    return Objective(
        heads={},
        init_memory=lambda variables, outputs: (),
        loss=loss,
        predict=lambda outputs: outputs["logits"],
    )
