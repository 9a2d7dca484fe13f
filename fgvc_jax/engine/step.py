"""One training step and one evaluation step, pure; jitted once, here, over the mesh."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from fgvc_jax import metrics, transfer
from fgvc_jax.data import augment
from fgvc_jax.data.view import View
from fgvc_jax.engine.mesh import replicated, split
from fgvc_jax.engine.state import State
from fgvc_jax.objectives.base import Batch, Objective


def images_of(batch: dict[str, jax.Array], store: jax.Array | None) -> jax.Array:
    """The batch's own images, or the rows of the set that lives on the device."""
    return batch["image"] if store is None else store[batch["row"]]


def train_step(
    *,
    network: Any,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    weigh: Callable[[jax.Array, jax.Array], jax.Array],
    view: View,
    seed: int,
    total_steps: int,
    mesh: Mesh,
) -> Callable:
    """The compiled step: (state, batch, store) -> (state, metrics).

    The state is donated. The batch is split over the devices, so that batch statistics, losses and
    gradients are those of the global batch whatever the number of devices.

    Args:
        network: with methods `taps` and `outputs`.
        objective: what the network learns from the batch.
        optimizer: of all parameters.
        learning_rate: the backbone's, to log.
        weigh: (the objective's loss, the mean orthogonal loss) -> total, see `transfer.weigh`.
        view: what is shown of an image; which of its views, the batch says.
        seed: of the augmentation.
        total_steps: of this member.
        mesh: devices.
    """

    def forward(variables, images):
        images = augment.normalize(images, view.normalize)
        (taps, outputs), new = network.apply(variables, images, True, mutable=["batch_stats"])
        return taps, outputs, new.get("batch_stats", {})

    def attended(state, arrays, images, shape):
        """Mean |Z| of the teachers: with the batch, from the teachers in the state, or None."""
        if "attention" in arrays:
            return arrays["attention"]
        if not jax.tree.leaves(state.teachers.variables):
            return None

        def features_of(variables):
            return network.apply(variables, normalized, False, method="taps")["stage5"]

        normalized = augment.normalize(images, view.normalize)
        teachers = state.teachers
        return transfer.mean_teacher_attention(
            features_of, teachers.variables, teachers.count, shape
        )

    def step(state: State, arrays: dict[str, jax.Array], store: jax.Array | None):
        keys = augment.image_keys(seed, arrays["view"], arrays["id"])
        images = augment.training_view(view, keys, images_of(arrays, store))
        batch = Batch(images, arrays["label"], keys, state.step / total_steps)

        def loss(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            result = objective.loss(forward, variables, batch, state.memory)
            features = result.taps["stage5"]
            attention = attended(state, arrays, images, features.shape[:3])
            if attention is None:
                return result.loss, (result, result.metrics)
            orthogonal = transfer.overlap(features, attention)
            # Without a teacher yet the attention is zero, and so are the loss and its gradient.
            total = weigh(result.loss, orthogonal)
            return total, (result, {**result.metrics, "orthogonal": orthogonal})

        (value, (result, logged)), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        state = state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=result.batch_stats,
            opt_state=opt_state,
            memory=result.memory,
        )
        logged = {
            "loss": value,
            **logged,
            "gradient_norm": optax.tree.norm(gradient),
            "learning_rate": learning_rate(state.step - 1),
        }
        return state, logged

    everywhere = replicated(mesh)
    return jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(everywhere, split(mesh), everywhere),
        out_shardings=everywhere,
    )


def attention_step(*, network: Any, view: View, seed: int, mesh: Mesh) -> Callable:
    """The compiled |Z| of one frozen member: (variables, batch, store, number of the view) ->
    (B, h, w) float32.

    It sees exactly what `train_step` shows in that view, in inference mode.
    """

    def step(variables, arrays, store, number):
        keys = augment.image_keys(seed, number, arrays["id"])
        images = augment.training_view(view, keys, images_of(arrays, store))
        images = augment.normalize(images, view.normalize)
        features = network.apply(variables, images, False, method="taps")["stage5"]
        return jnp.abs(transfer.standardize(transfer.attention_map(features)))

    everywhere = replicated(mesh)
    return jax.jit(
        step,
        in_shardings=(everywhere, split(mesh), everywhere, everywhere),
        out_shardings=everywhere,
    )


def evaluation_step(
    *,
    network: Any,
    predict: Callable[[dict], jax.Array],
    view: View,
    mesh: Mesh,
) -> Callable:
    """The compiled evaluation: (variables, batch, store) -> number of images each head has right.

    The counts are int32 by name: "prediction", and every head of the network.
    """

    def step(variables, arrays, store):
        images = augment.test_view(view, images_of(arrays, store))
        _, outputs = network.apply(variables, images, False)
        prediction = predict(outputs)
        answers = {**outputs, "prediction": prediction}
        del answers["features"]
        return {
            name: metrics.correct(logits, arrays["label"], arrays["mask"])
            for name, logits in answers.items()
        }

    everywhere = replicated(mesh)
    return jax.jit(
        step,
        in_shardings=(everywhere, split(mesh), everywhere),
        out_shardings=everywhere,
    )


def count_correct(step: Callable, variables: Any, batches, store) -> dict[str, int]:
    """Sum an evaluation step over all batches; fetched once at the end."""
    total = None
    for batch in batches:
        counts = step(variables, batch, store)
        total = counts if total is None else jax.tree.map(jnp.add, total, counts)
    return {name: int(count) for name, count in jax.device_get(total).items()}
