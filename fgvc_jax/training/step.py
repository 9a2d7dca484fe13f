"""The training step: pure, jitted here."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax.typing import VariableDict
from jax import lax
from jax.sharding import Mesh

from fgvc_jax.training.gradients import Arrays, Gradients
from fgvc_jax.training.state import State
from fgvc_jax.utils.devices import Packed, Tree, replicated, split


def train_step(
    gradients: Gradients,
    *,
    optimizer: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    mesh: Mesh,
    ema: float = 0.0,
) -> Callable:
    """The compiled step: (state, batch, store) -> (state, metrics), these () float32 by name. Where
    members have adapters the variables of their trunk come fourth.

    The state is donated. The batch is split over the devices, so that batch statistics, losses and
    gradients are those of the global batch whatever the number of devices.

    Args:
        gradients: of a batch, or of its parts, see `in_parts`.
        optimizer: of all parameters.
        learning_rate: the backbone's, to log.
        mesh: devices.
        ema: largest decay of the variables' moving average, see `averaged`; 0: none is kept.
    """

    def step(state: State, arrays: Arrays, store: jax.Array | None, *trunk: VariableDict):
        of_part = partial(gradients, trunk=trunk[0]) if trunk else gradients
        of_batch = in_parts(of_part, parts, unroll=on_cpu) if parts > 1 else of_part
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
    parts = gradients.parts
    everywhere, adapted = replicated(mesh), gradients.network.adapted
    return jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(everywhere, split(mesh), everywhere, *[everywhere] * adapted),
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

    def of_batch(state: State, arrays: Arrays, store: jax.Array | None):
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


def averaged(average: Tree, now: Tree, step: jax.Array, largest: float) -> Tree:
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
