"""The passes without a gradient: trunk, attention, answers, thumbnails; pure, jitted here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax.typing import VariableDict
from jax.sharding import Mesh

from fgvc_jax import transfer
from fgvc_jax.data import augment
from fgvc_jax.data.view import View
from fgvc_jax.ensemble import fuse, vmapped
from fgvc_jax.networks import Inputs, Network
from fgvc_jax.objectives import accuracy
from fgvc_jax.utils.compilation import shared
from fgvc_jax.utils.devices import replicated, split

Predict = Callable[[dict[str, jax.Array]], jax.Array]  # outputs -> (B, K) logits


def images_of(batch: Mapping[str, jax.Array], store: jax.Array | None) -> jax.Array:
    """The batch's own images, or the rows of the set that lives on the device."""
    return batch["image"] if store is None else store[batch["row"]]


def inputs_of(
    network: Network, view: View, batch: Mapping[str, jax.Array], store: jax.Array | None
) -> Inputs:
    """What a network is given at test: the features of its frozen trunk, or normalised images."""
    if network.frozen:
        return batch["features"]
    return TestView(view)(batch, images_of(batch, store))


@dataclass(frozen=True)
class TestView:
    """What a network is given at test: (batch, (B, R, R, 3) uint8) -> normalised images; those that
    the batch has as "shown", where it has them (`views_pass`)."""

    view: View

    def __call__(self, arrays: Mapping[str, jax.Array], images: jax.Array) -> jax.Array:
        if "shown" in arrays:
            return arrays["shown"]
        return augment.test_view(self.view, images)


@dataclass(frozen=True)
class TrainingView:
    """What a network is given in training: (batch, (B, R, R, 3) uint8) -> the batch's view of them,
    normalised; with `second` as `objectives.base.SecondView.show` the second view of it."""

    view: View
    seed: int
    second: Callable[[jax.Array, jax.Array], jax.Array] | None = None

    def __call__(self, arrays: Mapping[str, jax.Array], images: jax.Array) -> jax.Array:
        keys = augment.image_keys(self.seed, arrays["view"], arrays["id"])
        shown = augment.training_view(self.view, keys, images)
        shown = self.second(keys, shown) if self.second else shown
        return augment.normalize(shown, self.view.normalize)


@shared
def trunk_pass(
    *,
    network: Network,
    show: Callable[[Mapping[str, jax.Array], jax.Array], jax.Array],
    mesh: Mesh,
) -> Callable:
    """The compiled frozen trunk: (its variables, batch, store) -> what it makes of the images.

    Args:
        network: with a trunk, see `networks.Network.features`.
        show: (batch, images uint8) -> normalised images, as `TestView`.
        mesh: devices.
    """

    def step(variables, arrays, store):
        shown = show(arrays, images_of(arrays, store))
        return network.apply(variables, shown, method="features")

    rows = split(mesh)
    everywhere = replicated(mesh)
    return jax.jit(step, in_shardings=(everywhere, rows, everywhere), out_shardings=rows)


@shared
def attention_pass(
    *, network: Network, view: View, seed: int, grid: tuple[int, int], mesh: Mesh
) -> Callable:
    """The compiled |Z| of one frozen member on a grid (h, w): (variables, batch, store) ->
    (B, h, w) float32.

    It sees exactly what `train_step` shows in the batch's view, in inference mode.
    """

    def step(variables, arrays, store):
        if network.frozen:
            inputs = arrays["features"]
        else:
            inputs = TrainingView(view, seed)(arrays, images_of(arrays, store))
        features = network.apply(variables, inputs, False, method="taps")["stage5"]
        return transfer.on_grid(transfer.teacher_attention(features), grid)

    rows = split(mesh)
    everywhere = replicated(mesh)
    return jax.jit(step, in_shardings=(everywhere, rows, everywhere), out_shardings=rows)


@shared
def logits_pass(*, network: Network, predict: Predict, mesh: Mesh) -> Callable:
    """The compiled logits of one frozen network: (variables, its inputs) -> (B, K) float32."""

    def step(variables, inputs):
        _, outputs = network.apply(variables, inputs, False)
        return predict(outputs).astype(jnp.float32)

    rows = split(mesh)
    return jax.jit(step, in_shardings=(replicated(mesh), rows), out_shardings=rows)


def _of_batches(step: Callable, mesh: Mesh) -> Callable:
    """Compile (variables, batch, store) -> what every device has of all images of a batch."""
    everywhere = replicated(mesh)
    return jax.jit(
        step,
        in_shardings=(everywhere, split(mesh), everywhere),
        out_shardings=everywhere,
    )


def kept_answers(logits: jax.Array) -> jax.Array:
    """log_softmax as it is kept: (B, K) float32 -> (B, K) float16 with the same highest class.

    Where rounding would make the highest class share its place, it is raised by a rounding step.
    """
    exact = jax.nn.log_softmax(logits)
    answers = jnp.maximum(exact, jnp.finfo(jnp.float16).min).astype(jnp.float16)
    winner = jax.nn.one_hot(jnp.argmax(exact, axis=-1), exact.shape[-1], dtype=bool)
    shared = jnp.sum(answers == answers.max(-1, keepdims=True), axis=-1, keepdims=True) > 1
    raised = (answers.astype(jnp.float32) * (1 - 1.5 / 1024)).astype(jnp.float16)
    return jnp.where(winner & shared, raised, answers)


@shared
def answer_pass(
    *,
    network: Network,
    predict: Predict,
    view: View,
    mesh: Mesh,
    exact: bool = False,
    embed: bool = True,
) -> Callable:
    """The compiled answers of one member at test: (variables, batch, store) -> a dict of

    - "log_probabilities": (B, K) float16, as they are stored: every accuracy is that of the stored
      values, so that it can be computed again from them. Where nobody stores them they are `exact`:
      float32.
    - "attention": (B, h, w) float16, the standardised attention map Z.
    - "correct": number of images that are right, int32, of the "prediction" and of every head.
    - "finite": () bool, whether all logits are.
    - "row", "mask": of the batch; answers are put in place by them.
    - "embedding": where `embed`, as `embed_pass` has it: a judged run keeps that of some images, by
      the program that judges.
    - "energy", "max_logit": likewise, (B,) float32, see `evaluation.novelty`.
    """

    answer = partial(_answer, network, predict, exact, embed)

    def step(variables, arrays, store):
        inputs = inputs_of(network, view, arrays, store)
        return answer(variables, inputs, arrays) | {name: arrays[name] for name in ("row", "mask")}

    return _of_batches(step, mesh)


@shared
def ensemble_pass(
    *,
    network: Network,
    predict: Predict,
    view: View,
    mesh: Mesh,
    exact: bool = False,
    embed: bool = True,
) -> Callable:
    """The compiled answers of N members of one architecture in one program: (`ensemble.Alike`,
    batch, store) -> a list of N answers as `answer_pass` has them. Images are cut and normalised
    once; arguments as for `answer_pass`."""
    answer = partial(_answer, network, predict, exact, embed)

    def step(members, arrays, store):
        inputs = inputs_of(network, view, arrays, store)
        found = vmapped(lambda variables: answer(variables, inputs, arrays), members)
        placed = {name: arrays[name] for name in ("row", "mask")}
        return [
            jax.tree.map(lambda leaf, n=n: leaf[n], found) | placed for n in range(len(members.own))
        ]

    return _of_batches(step, mesh)


def _answer(
    network: Network,
    predict: Predict,
    exact: bool,
    embed: bool,
    variables: VariableDict,
    inputs: Inputs,
    arrays: Mapping[str, jax.Array],
) -> dict[str, Any]:
    """What one member answers for a batch, see `answer_pass`."""
    taps, outputs = network.apply(variables, inputs, False)
    logits = predict(outputs).astype(jnp.float32)
    answers = jax.nn.log_softmax(logits) if exact else kept_answers(logits)
    heads = {name: value for name, value in outputs.items() if name != "features"}
    right = {
        name: accuracy.correct(value, arrays["label"], arrays["mask"])
        for name, value in {**heads, "prediction": answers}.items()
    }
    maps = transfer.standardize(transfer.attention_map(taps["stage5"]))
    seen = {}
    if embed:
        seen = {
            "embedding": network.apply({}, taps, method="embedded"),
            "energy": -jax.nn.logsumexp(logits, axis=-1),
            "max_logit": -jnp.max(logits, axis=-1),
        }
    return seen | {
        "log_probabilities": answers,
        "attention": maps.astype(jnp.float16),
        "correct": right,
        "finite": jnp.all(jnp.isfinite(logits)),
    }


@shared
def views_pass(*, view: View, tta: str, mesh: Mesh) -> Callable:
    """The compiled views of a batch, see `augment.test_views`: (batch, store) -> V arrays
    (B, crop, crop, 3). Each is shown by itself, so that several views take one's memory and one
    compilation of the network."""

    def step(arrays, store):
        return augment.test_views(view, images_of(arrays, store), tta)

    rows = split(mesh)
    return jax.jit(step, in_shardings=(rows, replicated(mesh)), out_shardings=rows)


@shared
def mean_pass(*, mesh: Mesh, exact: bool = False) -> Callable:
    """The compiled mean of one member's answers for several views: (V exact answers of
    `answer_pass`, their batch) -> one such answer.

    Probabilities are averaged, however members are fused: so a member says one thing, in which a
    view that is unsure weighs little, and members are then compared and fused as ever. "correct" is
    of the "prediction" alone, "attention" of the first view: maps of others lie elsewhere.
    """

    def step(answers, arrays):
        mean = fuse(jnp.stack([each["log_probabilities"] for each in answers]), "probabilities")
        mean = mean if exact else kept_answers(mean)
        right = accuracy.correct(mean, arrays["label"], arrays["mask"])
        return answers[0] | {
            "log_probabilities": mean,
            "correct": {"prediction": right},
            "finite": jnp.all(jnp.stack([each["finite"] for each in answers])),
        }

    everywhere = replicated(mesh)
    return jax.jit(step, in_shardings=(everywhere, split(mesh)), out_shardings=everywhere)


@shared
def embed_pass(*, network: Network, tap: str, view: View, mesh: Mesh) -> Callable:
    """The compiled vectors of one member at test: (variables, batch, store) -> a dict of
    "embedding", (B, C) float32 (`networks.Network.embedded`), and "row", "mask" of the batch."""

    def step(variables, arrays, store):
        inputs = inputs_of(network, view, arrays, store)
        taps = network.apply(variables, inputs, False, method="taps")
        vectors = network.apply({}, taps, tap, method="embedded")
        return {"embedding": vectors, "row": arrays["row"], "mask": arrays["mask"]}

    return _of_batches(step, mesh)


@shared
def shrink_pass(*, side: int, mesh: Mesh) -> Callable:
    """The compiled thumbnails of a batch: (batch, store) -> {"image": (B, side, side, 3) uint8,
    "row", "mask"}, antialiased."""

    def step(arrays, store):
        images = images_of(arrays, store)
        shape = (len(images), side, side, 3)
        small = jax.image.resize(images.astype(jnp.float32), shape, "linear")
        small = jnp.clip(jnp.round(small), 0, 255).astype(jnp.uint8)
        return {"image": small, "row": arrays["row"], "mask": arrays["mask"]}

    everywhere = replicated(mesh)
    return jax.jit(step, in_shardings=(split(mesh), everywhere), out_shardings=everywhere)
