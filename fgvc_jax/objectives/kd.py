"""KD: a student of an ensemble, which has one network's price and more than one network's view.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531:

    L = label_weight * CE(z, y) + weight * T^2 * KL(p_E || softmax(z / T))

p_E is the softened prediction of an ensemble (`ensemble.softened`) for the very view that the
student is shown. T^2 keeps the gradients of the second term at their size when T changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fgvc_jax.data.view import View
from fgvc_jax.objectives.accuracy import accuracy
from fgvc_jax.objectives.base import (
    LossOutput,
    Method,
    Objective,
    TeacherQuery,
    cross_entropy,
    distillation,
)
from fgvc_jax.utils.errors import ArgumentError
from fgvc_jax.utils.lazy import lazily
from fgvc_jax.utils.options import option

if TYPE_CHECKING:
    import jax
    import jax.numpy as jnp

    from fgvc_jax.data.mixing import Mixing
else:
    jax, jnp = map(lazily, ("jax", "jax.numpy"))


@dataclass(frozen=True)
class KD(Method):
    """--objective kd: the student of a trained ensemble."""

    teacher: str = ""
    """Workdir of the trained ensemble that the student learns from."""
    which: Literal["final", "selected"] = "final"
    """The teachers at their last epoch, or at the one that did best on their validation part."""
    members: int = option(0, at_least=0)
    """How many of the teachers, from the first; 0 takes all."""
    temperature: float = option(3.0, above=0)
    """Temperature (T) that softens the teachers' prediction and the student's."""
    weight: float = option(1.0, at_least=0)
    """Weight of the distillation; 0 is the ablation."""
    label_weight: float = option(1.0, at_least=0)
    """Weight of the labels' cross entropy; 0 learns from the teachers alone."""

    def check(self, view: View) -> None:
        if not self.teacher:
            raise ArgumentError(
                "`teacher` is empty: name the workdir of the trained ensemble that the student "
                "learns from"
            )
        if not self.weight and not self.label_weight:
            raise ArgumentError("`weight` and `label_weight` are both 0: nothing is learned")

    @property
    def asks(self) -> TeacherQuery:
        return TeacherQuery(self.teacher, self.which, self.members, self.temperature)

    def make(self, *, classes: int, label_smoothing: float, view: View) -> Objective:
        return kd(self, label_smoothing=label_smoothing)


def kd(options: KD, *, label_smoothing: float) -> Objective:
    """The loss of the module's head; softmax(z) predicts, and nothing is remembered.

    Terms of weight 0 are measured all the same. "teacher_accuracy" is that of the teachers on the
    views that are shown in training, before they are mixed.

    Args:
        options: see `KD`.
        label_smoothing: weight of the uniform distribution in the cross entropy, in [0, 1).
    """

    def loss(forward, variables, batch, memory):
        taps, outputs, batch_stats = forward(variables, batch.image, batch.key)
        logits = outputs["logits"]
        targets = batch.targets(logits.shape[-1])
        labels = cross_entropy(logits, targets, smoothing=label_smoothing)
        teachers = batch.taught["logits"]
        target = mixed(teachers, batch.mixing, options.temperature) if batch.mixing else teachers
        taught = distillation(logits, target, temperature=options.temperature)
        metrics = {
            "cross_entropy": labels,
            "kd": taught,
            "accuracy": accuracy(logits, batch.main_label),
            "teacher_accuracy": accuracy(teachers, batch.label),
        }
        value = options.label_weight * labels + options.weight * taught
        return LossOutput(value, metrics, taps, batch_stats, memory)

    return Objective(
        heads={},
        init_memory=lambda variables, outputs: (),
        loss=loss,
        predict=lambda outputs: outputs["logits"],
    )


def mixed(logits: jax.Array, mixing: Mixing, temperature: float) -> jax.Array:
    """Logits whose softmax at `temperature` is that of the teachers, mixed as the images are.

    Args:
        logits: (B, K) of the teachers, for the images as they were.
        mixing: how these were mixed.
        temperature: T.

    Returns:
        (B, K) float32.
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32) / temperature)
    own, other = jnp.log1p(-mixing.share), jnp.log(mixing.share)
    return temperature * jnp.logaddexp(own + log_p, other + mixing.partners(log_p))
