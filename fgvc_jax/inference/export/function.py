"""Trained members as one pure function, which every format writes down in its own way."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fgvc_jax import ensemble, networks
from fgvc_jax.data import augment
from fgvc_jax.inference.model import Model
from fgvc_jax.networks import lora


class Inference(NamedTuple):
    """All that happens to an image once it is decoded.

    variables: of the trunk and the members, on the host. answer: (variables, (B, R, R, 3) uint8) ->
    (B, K) float32 probabilities. side: R. answers: as `answer`, that, each member's, (B, N, K), and
    how strange the images are, (B, 2): the energy and the negative largest logit of
    `evaluation.novelty`, on average over the members.
    """

    variables: Any
    answer: Callable[[Any, jax.Array], jax.Array]
    side: int
    answers: Callable[[Any, jax.Array], tuple[jax.Array, jax.Array, jax.Array]]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image."""
        return self.side, self.side, 3

    @property
    def nbytes(self) -> int:
        """Bytes of all variables."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self.variables))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Probabilities of decoded images, computed here."""
        return np.asarray(jax.jit(self.answer)(self.variables, images))


def of(model: Model) -> Inference:
    """The inference of a model's members, fused as it fuses them: float32 on every platform,
    whatever they were trained in; a frozen trunk runs once, and adapters are merged into theirs."""
    plain = [networks.without_adapters(member.network) for member in model.members]
    chosen = [networks.in_float32(network) for network in plain]

    def logits_of(variables: Any, images: jax.Array) -> jax.Array:
        inputs = {
            view: chosen[0].apply(
                variables["trunk"], augment.test_view(view, images), method="features"
            )
            for view in dict.fromkeys(member.view for member in model.members)
        }
        logits = []
        for network, own, member in zip(chosen, variables["members"], model.members, strict=True):
            answered: Any = network.apply(own, inputs[member.view], False)  # (taps, outputs)
            logits.append(model.logits_of(answered[1]))
        return jnp.stack(logits)

    def answer(variables: Any, images: jax.Array) -> jax.Array:
        return jax.nn.softmax(ensemble.fuse(logits_of(variables, images), model.fusion))

    def answers(variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        logits = logits_of(variables, images)
        fused = jax.nn.softmax(ensemble.fuse(logits, model.fusion))
        largest = logits.max(-1)
        energy = -largest - jnp.log(jnp.exp(logits - largest[..., None]).sum(-1))
        strangeness = jnp.stack([energy, -largest], axis=-1).mean(0)
        return fused, jax.nn.softmax(logits).swapaxes(0, 1), strangeness

    members = [
        lora.merged(member.variables) if member.network.adapted else member.variables
        for member in model.members
    ]
    variables = {"trunk": model.trunk, "members": members}
    return Inference(jax.device_get(variables), answer, model.view.test_side, answers)
