"""HSD: hierarchical self-distillation, reconstructed from its abstract.

"Hierarchical Self-Distilled Feature Learning for Fine-Grained Visual Categorization", Hu et al.,
TNNLS 2021, doi 10.1109/tnnls.2021.3124135. Only the abstract is public. It says that deeper stages
teach shallower ones by soft predictions, that hard labels on shallow stages hurt, that a
self-information entropy loss (SIELoss) softens the shallow predictions, and that a
gradient-detached fusion (GDF) of the stages' features is an ensemble. The formulas here are ours,
after the closest relative ("Be Your Own Teacher", Zhang et al., ICCV 2019, arXiv 1905.08094), and
every choice that the abstract leaves open is an option:

    L = CE(logits) + CE(fusion) + ramp * (kd_weight * sum_k KD_k + sie_weight * sum_k SIE_k)

with k over the intermediate stages. The ramp is what makes it work from random weights: there the
deepest stage has at first nothing to teach, and without a ramp the small network on drawn birds
learns its noise and ends below cross entropy (69.7 and 78.5 % against 81.7 and 83.2 % with two
seeds); with the ramp it ends above (the main head by 4.2 points, 95 % interval 0.1 to 8.2, five
seeds).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fgvc_jax.data.view import View
from fgvc_jax.objectives.accuracy import accuracy
from fgvc_jax.objectives.base import (
    LossOutput,
    Method,
    Objective,
    cross_entropy,
    distillation,
    ramped,
)
from fgvc_jax.utils.errors import ArgumentError
from fgvc_jax.utils.lazy import lazily
from fgvc_jax.utils.options import option

if TYPE_CHECKING:
    import jax
    import jax.numpy as jnp
    from flax import linen as nn

    from fgvc_jax.networks import heads as modules
else:
    jax, jnp = map(lazily, ("jax", "jax.numpy"))
    modules = lazily("fgvc_jax.networks.heads")


def mixture(logits: Sequence[jax.Array], *, temperature: float) -> jax.Array:
    """Logits whose softmax at `temperature` is the mean of the softmaxes at `temperature`.

    Args:
        logits: one or more arrays (..., K).
        temperature: above 0.

    Returns:
        (..., K) float32.
    """
    softened = jnp.stack(logits).astype(jnp.float32) / temperature
    total = jax.nn.logsumexp(jax.nn.log_softmax(softened), axis=0)
    return temperature * (total - jnp.log(len(logits)))


def choose_teacher(deeper: Sequence[jax.Array], *, rule: str, temperature: float) -> jax.Array:
    """The logits that teach a stage.

    Args:
        deeper: logits (B, K) of all deeper stages, the next one first.
        rule: "next", "deepest", or "mean_deeper": the mean of their softened probabilities.
        temperature: at which "mean_deeper" softens.

    Returns:
        (B, K).

    Raises:
        ArgumentError: for another rule.
    """
    match rule:
        case "next":
            return deeper[0]
        case "deepest":
            return deeper[-1]
        case "mean_deeper":
            return mixture(deeper, temperature=temperature)
    raise ArgumentError(f"`rule` is {rule!r}: choose next, deepest or mean_deeper")


def entropy_of_logits(logits: jax.Array) -> jax.Array:
    """Expected self-information -sum_c p_c log p_c in nats: (..., K) -> (...) float32."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def self_information_entropy(student: jax.Array, teacher: jax.Array, *, form: str) -> jax.Array:
    """SIELoss: lower where the student is less certain. Mean over the batch.

    "entropy" is -H(student), whose gradient fades as the prediction softens but which always pulls
    to the uniform distribution; "hinge" is max(0, H(teacher) - H(student)) per image, which stops
    pulling where the student is as soft as its teacher. No gradient reaches the teacher.

    Args:
        student: (B, K) logits.
        teacher: (B, K) logits; only "hinge" reads them.
        form: "entropy" or "hinge".

    Returns:
        float32 scalar in nats.

    Raises:
        ArgumentError: for another form.
    """
    match form:
        case "entropy":
            return -entropy_of_logits(student).mean()
        case "hinge":
            missing = entropy_of_logits(jax.lax.stop_gradient(teacher)) - entropy_of_logits(student)
            return jax.nn.relu(missing).mean()
    raise ArgumentError(f"`form` is {form!r}: choose entropy or hinge")


@dataclass(frozen=True)
class HSD(Method):
    """--objective hsd: hierarchical self-distillation, reconstructed from its abstract."""

    stages: tuple[int, ...] = (3, 4, 5)
    """Stages that are used; the deepest has the main head, the others get intermediate heads."""
    teacher: Literal["next", "deepest", "mean_deeper"] = "next"
    """Who teaches a stage: the next deeper one, the deepest, or the mean of all deeper ones."""
    temperature: float = option(3.0, above=0)
    """Temperature of the distillation."""
    kd_weight: float = option(1.0, at_least=0)
    """Weight of the distillation; 0 is the ablation."""
    sie: Literal["entropy", "hinge"] = "entropy"
    """Self-information entropy loss: minus the entropy, or how far it is below the teacher's."""
    sie_weight: float = option(0.1, at_least=0)
    """Weight of the self-information entropy loss; 0 is the ablation."""
    ramp: float = option(1.0, at_least=0)
    """Fraction of the training over which both weights grow linearly to their full size."""
    fusion: bool = True
    """Classify the concatenated stages as well (GDF); without it the main head predicts alone."""
    fusion_width: int = option(512, at_least=1)
    """Width of the fusion head's middle layer."""
    detach: bool = True
    """No gradient from the fusion into the backbone; False is the ablation."""
    hard_labels: bool = False
    """Cross entropy on the intermediate heads too, which the paper finds harmful; the ablation."""

    def check(self, view: View) -> None:
        """Stages are some of 2 to 5 in order, end at 5, and serve every term."""
        stages = self.stages
        if tuple(stages) != tuple(sorted({2, 3, 4, 5}.intersection(stages))) or 5 not in stages:
            raise ArgumentError(
                f"`stages` is {tuple(stages)}: name stages from 2 to 5 in increasing order, "
                "the last one 5, which the main head reads"
            )
        if len(stages) == 1 and (self.kd_weight or self.sie_weight or self.hard_labels):
            raise ArgumentError(
                "`stages` has no stage before 5: name one, or set `kd_weight` 0, `sie_weight` 0 "
                "and `hard_labels` False"
            )

    def make(self, *, classes: int, label_smoothing: float, view: View) -> Objective:
        return hsd(self, classes=classes, label_smoothing=label_smoothing)


def hsd(options: HSD, *, classes: int, label_smoothing: float) -> Objective:
    """Hierarchical self-distillation; remembers nothing. A reconstruction, see the module.

    The heads are "stage3", "stage4", ... on the intermediate stages and "fusion" on all of them;
    the deepest stage has the network's main head, "logits". The metrics carry the head's name at
    their end: `cross_entropy_*` (of the heads that labels supervise), `accuracy_*`, `entropy_*`,
    and unweighted `kd_*` and `sie_*` of the intermediate heads; plain `accuracy` is that of the
    prediction. Terms of weight 0 are measured all the same. With the fusion the prediction is the
    mean probability of that head and the main one. The ramp serves networks that start from
    nothing: they have at first nothing to teach.

    Args:
        options: see `HSD`, `choose_teacher` and `self_information_entropy`.
        classes: K.
        label_smoothing: weight of the uniform distribution in every cross entropy, in [0, 1).
    """
    read = tuple(f"stage{stage}" for stage in options.stages)
    intermediate = read[:-1]  # a head is called as the tap that it reads
    hierarchy = (*intermediate, "logits")
    heads: dict[str, nn.Module] = {
        name: modules.StageHead(classes=classes, tap=name) for name in intermediate
    }
    if options.fusion:
        heads["fusion"] = modules.FusionHead(
            classes=classes, width=options.fusion_width, taps=read, detach=options.detach
        )
    everything = ("logits", *heads)
    labelled = (
        everything if options.hard_labels else [h for h in everything if h not in intermediate]
    )

    def predict(outputs):
        if not options.fusion:
            return outputs["logits"]
        return mixture([outputs["fusion"], outputs["logits"]], temperature=1.0)

    def teacher(outputs, name, temperature):
        deeper = [outputs[other] for other in hierarchy[hierarchy.index(name) + 1 :]]
        return choose_teacher(deeper, rule=options.teacher, temperature=temperature)

    def supervision(outputs, name, targets):
        return cross_entropy(outputs[name], targets, smoothing=label_smoothing)

    def kd(outputs, name):
        target = teacher(outputs, name, options.temperature)
        return distillation(outputs[name], target, temperature=options.temperature)

    def sie(outputs, name):
        target = teacher(outputs, name, 1.0)
        return self_information_entropy(outputs[name], target, form=options.sie)

    def loss(forward, variables, batch, memory):
        taps, outputs, batch_stats = forward(variables, batch.image, batch.key)
        targets = batch.targets(outputs["logits"].shape[-1])
        ce = {name: supervision(outputs, name, targets) for name in labelled}
        kds = {name: kd(outputs, name) for name in intermediate}
        sies = {name: sie(outputs, name) for name in intermediate}

        soft = options.kd_weight * sum(kds.values()) + options.sie_weight * sum(sies.values())
        value = sum(ce.values()) + ramped(batch.progress, options.ramp) * soft

        terms = {"cross_entropy": ce, "kd": kds, "sie": sies}
        metrics = measured(terms, outputs, batch.main_label)
        return LossOutput(value, metrics, taps, batch_stats, memory)

    def measured(terms, outputs, labels):
        """What is logged: the terms unweighted, and what each head says."""
        heads = {
            "accuracy": {name: accuracy(outputs[name], labels) for name in everything},
            "entropy": {name: entropy_of_logits(outputs[name]).mean() for name in everything},
        }
        named = {
            f"{kind}_{head}": number
            for kind, numbers in (terms | heads).items()
            for head, number in numbers.items()
        }
        return named | {"accuracy": accuracy(predict(outputs), labels)}

    return Objective(
        heads=heads,
        init_memory=lambda variables, outputs: (),
        loss=loss,
        predict=predict,
    )
