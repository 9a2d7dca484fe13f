"""The training step: pure, jitted here."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from fgvc_jax import transfer
from fgvc_jax.data import augment, mixing
from fgvc_jax.data.view import View
from fgvc_jax.inference.passes import images_of
from fgvc_jax.networks import Network
from fgvc_jax.objectives.base import Batch, Objective
from fgvc_jax.training.state import State
from fgvc_jax.utils.devices import Packed, replicated, split


def train_step(
    *,
    network: Network,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    weigh: Callable[[jax.Array, jax.Array], jax.Array],
    view: View,
    seed: int,
    total_steps: int,
    mesh: Mesh,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    ema: float = 0.0,
    accumulate: int = 1,
) -> Callable:
    """The compiled step: (state, batch, store) -> (state, metrics), these () float32 by name.

    The state is donated. The batch is split over the devices, so that batch statistics, losses and
    gradients are those of the global batch whatever the number of devices.

    Args:
        network: with methods `taps` and `outputs`; behind a frozen trunk the batch has its
            "features", and those of the objective's "second" view. For an objective that asks an
            ensemble it has what that says, as "taught"; with maps that were computed before, the
            mean |Z| of the earlier members, as "attention" (see `OutputCache.complete`).
        objective: what the network learns from the batch.
        optimizer: of all parameters.
        learning_rate: the backbone's, to log.
        weigh: (the objective's loss, the mean orthogonal loss) -> total, see `transfer.weigh`.
        view: what is shown of an image; which of its views, the batch says.
        seed: of the augmentation.
        total_steps: of this member.
        mesh: devices.
        mixup: see `mixing.draw`; the views are mixed where it or `cutmix` is above 0. Teachers see
            them as they were, and what they say is mixed after.
        cutmix: likewise.
        ema: largest decay of the variables' moving average, see `averaged`; 0: none is kept.
        accumulate: parts of a batch, see `in_parts`.
    """

    def inputs_of(shown):
        return shown if network.frozen else augment.normalize(shown, view.normalize)

    def forward(variables, shown, keys):
        (taps, outputs), new = network.apply(
            variables, inputs_of(shown), True, keys, mutable=["batch_stats"]
        )
        return taps, outputs, new.get("batch_stats", {})

    def views(arrays, store, keys):
        if network.frozen:
            return arrays["features"], arrays.get("second")
        images = augment.training_view(view, keys, images_of(arrays, store))
        second = objective.second
        return images, second.show(keys, images) if second else None

    def attended(state, arrays, shown, shape):
        """Mean |Z| of the teachers: with the batch, from the teachers in the state, or None."""
        if "attention" in arrays:
            return arrays["attention"]
        if not jax.tree.leaves(state.teachers.variables):
            return None

        def features_of(variables):
            taps: Any = network.apply(variables, inputs, False, method="taps")
            return taps["stage5"]

        inputs = inputs_of(shown)
        teachers = state.teachers
        return transfer.mean_teacher_attention(
            features_of, teachers.variables, teachers.count, shape
        )

    def gradients(
        state: State, arrays: Mapping[str, Any], store: jax.Array | None, part: jax.Array | int = 0
    ):
        """Of one part of a batch, with what is changed by it and what is logged of it."""
        keys = augment.image_keys(seed, arrays["view"], arrays["id"])
        shown, second = views(arrays, store, keys)
        mixed = None
        if mixup or cutmix:
            number = state.step * accumulate + part
            mixed = mixing.draw(
                seed, state.member, number, mixup=mixup, cutmix=cutmix, side=view.crop
            )
        images = mixed.of_places(shown) if mixed else shown
        progress = state.step / total_steps
        # Views may be shown again, and to others; what is left out of the network is new each time.
        own = augment.folded(augment.folded(keys, state.member), state.step)
        taught = arrays.get("taught")
        batch = Batch(images, arrays["label"], own, progress, second, taught, mixed)

        def loss(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            result = objective.loss(forward, variables, batch, state.memory)
            features = result.taps["stage5"]
            attention = attended(state, arrays, shown, features.shape[:3])
            if attention is None:
                return result.loss, (result, result.metrics)
            attention = mixed.of_places(attention) if mixed else attention
            orthogonal = transfer.overlap(features, attention)
            # Without a teacher yet the attention is zero, and so are the loss and its gradient.
            total = weigh(result.loss, orthogonal)
            return total, (result, {**result.metrics, "orthogonal": orthogonal})

        (value, (result, logged)), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        return gradient, (result.batch_stats, result.memory), {"loss": value, **logged}

    def step(state: State, arrays: Mapping[str, Any], store: jax.Array | None):
        gradient, (batch_stats, memory), logged = of_batch(state, arrays, store)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        now = {"params": params, "batch_stats": batch_stats}
        state = state.replace(
            step=state.step + 1,
            opt_state=opt_state,
            memory=memory,
            average=averaged(state.average, now, state.step, ema) if ema else {},
            **now,
        )
        logged = {
            **logged,
            "gradient_norm": norm(gradient),
            "learning_rate": learning_rate(state.step - 1),
        }
        return state, Packed(tuple(logged), jnp.stack(list(logged.values())), {})

    # XLA's CPU has no threads for what is in a loop.
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    of_batch = in_parts(gradients, accumulate, unroll=on_cpu) if accumulate > 1 else gradients
    everywhere = replicated(mesh)
    return jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(everywhere, split(mesh), everywhere),
        out_shardings=everywhere,
    )


def in_parts(gradients: Callable, count: int, *, unroll: bool) -> Callable:
    """(state, arrays, store) -> what `gradients` of (state, arrays, store, part) gives, of a batch
    that it goes through in so many parts, one after the other: the means of gradients and of what
    is logged, and the state's statistics and memory after the last.

    Part j has every `count`-th row from j on, so that each device has its own rows of it.
    """

    def split_up(array: jax.Array) -> jax.Array:
        parts = array.reshape(len(array) // count, count, *array.shape[1:])
        return jnp.moveaxis(parts, 1, 0)

    def of_batch(state: State, arrays: Mapping[str, Any], store: jax.Array | None):
        def one(carry, part):
            total, (batch_stats, memory) = carry
            now = state.replace(batch_stats=batch_stats, memory=memory)
            number, rows = part
            gradient, changed, logged = gradients(now, rows, store, number)
            return (jax.tree.map(jnp.add, total, gradient), changed), logged

        nothing = jax.tree.map(jnp.zeros_like, state.params)
        begin = nothing, (state.batch_stats, state.memory)
        rows = jax.tree.map(split_up, {name: arrays[name] for name in arrays})
        (total, changed), logged = lax.scan(one, begin, (jnp.arange(count), rows), unroll=unroll)
        mean = jax.tree.map(lambda leaf: leaf / count, total)
        return mean, changed, jax.tree.map(lambda values: values.mean(0), logged)

    return of_batch


def averaged(average: Any, now: Any, step: jax.Array, largest: float) -> Any:
    """A moving average after one more update of what it is of.

    Args:
        average: before it, a pytree of arrays.
        now: what the update made.
        step: () int, updates before this one.
        largest: the decay, once (1 + step) / (10 + step) is as large: a young average forgets the
            random start (as TensorFlow's ExponentialMovingAverage does).
    """
    decay = jnp.minimum(largest, (1 + step) / (10 + step))
    return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, average, now)


def norm(tree: optax.Params) -> jax.Array:
    """Euclidean norm of all leaves together: a pytree of float32 arrays (..., C) -> () float32.

    As sums over all axes but the last, joined, then summed once: to a GPU the sum of a large array
    is two kernels, and one where its last axis is kept. The barrier is for XLA, which would merge
    the two sums again.
    """
    sums = [jnp.sum(jnp.square(x), range(x.ndim - 1)) for x in jax.tree.leaves(tree)]
    return jnp.sqrt(jnp.sum(lax.optimization_barrier(jnp.concatenate(sums))))
