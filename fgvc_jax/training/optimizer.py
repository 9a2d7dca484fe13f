"""optax transforms for the published recipes, and their options."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax
from flax.typing import Collection

from fgvc_jax.networks import lora

# A label of each parameter, or of whole groups of them; or what gives it.
Labels = Mapping[str, Any] | Callable[[Collection], Any]


class Layers(NamedTuple):
    """Layer-wise learning rates: the backbone's layer i, from 0, learns at decay ** (number - i) of
    its rate (BEiT, arXiv 2106.08254), what is behind the last at the whole."""

    decay: float
    number: int
    of: Callable[[Sequence[str]], int]  # path of a parameter in the backbone -> its layer


def schedule(
    peak: float,
    *,
    kind: str,
    steps_per_epoch: int,
    epochs: int,
    warmup_steps: int,
    step_epochs: int,
    step_factor: float,
) -> optax.Schedule:
    """Learning rate by step.

    Args:
        peak: the rate before any decay.
        kind: "cosine_epoch": peak/2 * (1 + cos(pi * epoch / epochs)), constant in an epoch (KT);
            "cosine": from the end of the warm-up to zero at the last step; "step": times
            `step_factor` every `step_epochs`; "constant".
        steps_per_epoch: steps in an epoch.
        epochs: of the whole training.
        warmup_steps: linear from 0 to `peak` over this many steps.
        step_epochs: see "step".
        step_factor: see "step".
    """
    total = steps_per_epoch * epochs
    if kind == "cosine_epoch":
        cosine = optax.cosine_decay_schedule(peak, epochs)

        def decay(step):
            return cosine(step // steps_per_epoch)
    elif kind == "cosine":
        cosine = optax.cosine_decay_schedule(peak, max(total - warmup_steps, 1))

        def decay(step):
            return cosine(step - warmup_steps)
    elif kind == "step":

        def decay(step):
            return peak * step_factor ** (step // (steps_per_epoch * step_epochs))
    else:
        decay = optax.constant_schedule(peak)
    if not warmup_steps:
        return decay
    # The decay counts from the first step of all, so that epochs keep their meaning.
    warmup = optax.linear_schedule(0.0, peak, warmup_steps)
    return lambda step: optax.tree.where(step < warmup_steps, warmup(step), decay(step))


def optimizer(
    name: str,
    *,
    backbone: optax.Schedule,
    heads: optax.Schedule,
    momentum: float,
    weight_decay: float,
    decayed: str,
    clip_norm: float,
    layers: Layers | None = None,
) -> optax.GradientTransformation:
    """Two learning-rate groups, one for params["backbone"] and one for params["heads"].

    Args:
        name: "sgd": weight decay is added to the gradient before the momentum, as torch.optim.SGD
            does; "adamw": decoupled weight decay, momentum is the first-moment decay.
        backbone: learning rate by step.
        heads: learning rate by step.
        momentum: in [0, 1).
        weight_decay: of the parameters that decay.
        decayed: "all" parameters, or only "kernels": of convolutions and linear layers.
        clip_norm: global norm of both groups together to clip to, before anything else; 0 is off.
        layers: of the backbone; None where all of it learns at one rate.
    """
    mask = None if decayed == "all" else _kernels
    decay = optax.add_decayed_weights(weight_decay, mask)
    if name == "sgd":
        direction = optax.chain(decay, optax.trace(momentum))
    else:
        direction = optax.chain(optax.scale_by_adam(b1=momentum), decay)
    clip = optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity()
    rates = {"backbone": backbone, "heads": heads}
    labels: Labels = {"backbone": "backbone", "heads": "heads"}
    if layers:
        for i in range(layers.number + 1):
            rates[f"layer{i}"] = _shared(backbone, layers.decay ** (layers.number - i))
        labels = _by_layer(layers)
    scaled = {label: optax.scale_by_learning_rate(rate) for label, rate in rates.items()}
    return optax.chain(clip, direction, optax.partition(scaled, labels))


def _shared(rate: optax.Schedule, share: float) -> optax.Schedule:
    return lambda step: share * rate(step)


def _by_layer(layers: Layers) -> Callable[[Collection], Collection]:
    """params -> the same tree of labels: "layer0", "layer1", ... in the backbone, and "heads"."""

    def label(path, leaf):
        group, *inner = [key.key for key in path]
        return f"layer{layers.of(inner)}" if group == "backbone" else group

    return lambda params: jax.tree.map_with_path(label, params)


def _kernels(params: Collection) -> Collection:
    kernels = "kernel", *lora.LEAVES
    return jax.tree.map_with_path(lambda path, leaf: path[-1].key in kernels, params)
