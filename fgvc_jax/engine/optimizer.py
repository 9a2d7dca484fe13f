"""optax transforms for the published recipes."""

import optax


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
    clip_norm: float,
) -> optax.GradientTransformation:
    """Two learning-rate groups, one for params["backbone"] and one for params["heads"].

    Args:
        name: "sgd": weight decay is added to the gradient before the momentum, as torch.optim.SGD
            does; "adamw": decoupled weight decay, momentum is the first-moment decay.
        backbone: learning rate by step.
        heads: learning rate by step.
        momentum: in [0, 1).
        weight_decay: of every parameter.
        clip_norm: global norm of both groups together to clip to, before anything else; 0 is off.
    """
    if name == "sgd":
        direction = optax.chain(optax.add_decayed_weights(weight_decay), optax.trace(momentum))
    else:
        direction = optax.chain(
            optax.scale_by_adam(b1=momentum), optax.add_decayed_weights(weight_decay)
        )
    rates = {
        "backbone": optax.scale_by_learning_rate(backbone),
        "heads": optax.scale_by_learning_rate(heads),
    }
    clip = optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity()
    return optax.chain(clip, direction, optax.partition(rates, {k: k for k in rates}))
