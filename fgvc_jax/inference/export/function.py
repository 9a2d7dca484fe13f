"""Trained members as one pure function, which every format writes down in its own way."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from flax.typing import VariableDict

from fgvc_jax import ensemble, networks
from fgvc_jax.data import augment
from fgvc_jax.inference.model import Model
from fgvc_jax.networks import lora


class Variables(TypedDict):
    """Of a frozen trunk, {} without one, and of all that each member has for itself."""

    trunk: VariableDict
    members: list[VariableDict]


class Inference(NamedTuple):
    """All that happens to an image once it is decoded.

    variables: of the trunk and the members, on the host. answer: (variables, (B, R, R, 3) uint8) ->
    (B, K) float32 probabilities. side: R. answers: (names, variables, images) -> of each name an
    array, float32:

    - "probabilities": as `answer` has them.
    - "members": those of each member, (B, N, K).
    - "strangeness": how strange the images are, (B, 2): the energy and the negative largest logit
      of `evaluation.novelty`, on average over the members.
    - "embedding": what each member sees, one behind the other, (B, D), as `Embedder.embed` has it.
    """

    variables: Variables
    answer: Callable[[Variables, jax.Array], jax.Array]
    side: int
    answers: Callable[[Sequence[str], Variables, jax.Array], tuple[jax.Array, ...]]

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

    def answers(
        names: Sequence[str], variables: Variables, images: jax.Array
    ) -> tuple[jax.Array, ...]:
        inputs = {
            view: chosen[0].apply(
                variables["trunk"], augment.test_view(view, images), method="features"
            )
            for view in dict.fromkeys(member.view for member in model.members)
        }
        seen: list[jax.Array] = []
        each: list[jax.Array] = []
        for network, own, member in zip(chosen, variables["members"], model.members, strict=True):
            answered: Any = network.apply(own, inputs[member.view], False)
            taps, outputs = answered
            each.append(model.logits_of(outputs))
            if "embedding" in names:
                vectors: Any = network.apply({}, taps, method="embedded")
                seen.append(vectors)
        logits = jnp.stack(each)
        made: dict[str, Callable[[], jax.Array]] = {
            "probabilities": lambda: jax.nn.softmax(ensemble.fuse(logits, model.fusion)),
            "members": lambda: jax.nn.softmax(logits).swapaxes(0, 1),
            "strangeness": lambda: _strangeness(logits),
            "embedding": lambda: jnp.concatenate(seen, axis=-1),
        }
        return tuple(made[name]() for name in names)

    def answer(variables: Variables, images: jax.Array) -> jax.Array:
        (probabilities,) = answers(["probabilities"], variables, images)
        return probabilities

    members = [
        lora.merged(member.variables) if member.network.adapted else member.variables
        for member in model.members
    ]
    variables: Variables = {"trunk": model.trunk or {}, "members": members}
    return Inference(jax.device_get(variables), answer, model.view.test_side, answers)


def _strangeness(logits: jax.Array) -> jax.Array:
    """(N, B, K) -> (B, 2), see `Inference`."""
    largest = logits.max(-1)
    energy = -largest - jnp.log(jnp.exp(logits - largest[..., None]).sum(-1))
    return jnp.stack([energy, -largest], axis=-1).mean(0)
