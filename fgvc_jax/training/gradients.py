"""What a batch, or a part of one, asks of a member's parameters: views, losses, gradient."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
from flax.typing import VariableDict

from fgvc_jax import transfer
from fgvc_jax.data import augment, mixing
from fgvc_jax.data.view import View
from fgvc_jax.inference.passes import images_of
from fgvc_jax.networks import Inputs, Network, lora
from fgvc_jax.objectives.base import Batch, Objective
from fgvc_jax.training.state import State

Arrays = Mapping[str, Any]  # of a batch, by name


@dataclass(frozen=True, eq=False)
class Gradients:
    """A function of (state, batch, store, part) that returns the gradient of the parameters, what
    the step changes (a pair: running statistics, memory), and what is logged: () float32 by name.

    Args:
        network: with methods `taps` and `outputs`; behind a frozen trunk the batch has its
            "features", and those of the objective's "second" view. For an objective that asks an
            ensemble it has what that says, as "taught"; with maps that were computed before, the
            mean |Z| of the earlier members, as "attention" (see `OutputCache.complete`).
        objective: what the network learns from the batch.
        weigh: (the objective's loss, the mean orthogonal loss) -> total, see `transfer.weigh`.
        view: what is shown of an image; which of its views, the batch says.
        seed: of the augmentation.
        total_steps: of this member.
        mixup: see `mixing.draw`; the views are mixed where it or `cutmix` is above 0. Teachers see
            them as they were, and what they say is mixed after.
        cutmix: likewise.
        parts: of a batch, each of which is mixed in a way of its own.
    """

    network: Network
    objective: Objective
    weigh: Callable[[jax.Array, jax.Array], jax.Array]
    view: View
    seed: int
    total_steps: int
    mixup: float = 0.0
    cutmix: float = 0.0
    parts: int = 1

    def __call__(
        self,
        state: State,
        arrays: Arrays,
        store: jax.Array | None,
        part: jax.Array | int = 0,
        *,
        trunk: VariableDict | None = None,
    ) -> tuple[Any, tuple[Any, Any], dict[str, jax.Array]]:
        """`trunk` has the variables that members with adapters share."""
        keys = augment.image_keys(self.seed, arrays["view"], arrays["id"])
        shown, second = self._views(arrays, store, keys)
        mixed = self._mixing(state, part)
        images = mixed.of_places(shown) if mixed else shown
        progress = state.step / self.total_steps
        # A view may be shown again, and to other members. Which blocks of the network are left out
        # (stochastic depth) is drawn anew each time.
        own = augment.folded_keys(augment.folded_keys(keys, state.member), state.step)
        taught = arrays.get("taught")
        batch = Batch(images, arrays["label"], own, progress, second, taught, mixed)

        def loss(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            forward = partial(self._forward, trunk)
            result = self.objective.loss(forward, variables, batch, state.memory)
            features = result.taps["stage5"]
            attention = self._attention(state, arrays, shown, features.shape[:3], trunk)
            if attention is None:
                return result.loss, (result, result.metrics)
            attention = mixed.of_places(attention) if mixed else attention
            orthogonal = transfer.overlap(features, attention)
            # Without a teacher yet the attention is zero, and so are the loss and its gradient.
            total = self.weigh(result.loss, orthogonal)
            return total, (result, {**result.metrics, "orthogonal": orthogonal})

        (value, (result, logged)), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        return gradient, (result.batch_stats, result.memory), {"loss": value, **logged}

    def _views(self, arrays: Arrays, store: jax.Array | None, keys: jax.Array) -> tuple[Any, Any]:
        """What is shown of the images (`networks.Inputs`), and in the objective's second view, if
        it has one."""
        if self.network.frozen:
            return arrays["features"], arrays.get("second")
        images = augment.training_view(self.view, keys, images_of(arrays, store))
        second = self.objective.second
        return images, second.show(keys, images) if second else None

    def _mixing(self, state: State, part: jax.Array | int) -> mixing.Mixing | None:
        if not (self.mixup or self.cutmix):
            return None
        number = state.step * self.parts + part
        return mixing.draw(
            self.seed,
            state.member,
            number,
            mixup=self.mixup,
            cutmix=self.cutmix,
            side=self.view.crop,
        )

    def _inputs(self, shown: Any) -> Inputs:
        return shown if self.network.frozen else augment.normalize(shown, self.view.normalize)

    def _forward(
        self,
        trunk: VariableDict | None,
        variables: VariableDict,
        shown: Inputs,
        keys: jax.Array | None,
    ) -> tuple[dict, dict, Any]:
        """See `objectives.base.Objective.loss`."""
        variables = lora.joined(trunk, variables) if trunk else variables
        (taps, outputs), new = self.network.apply(
            variables, self._inputs(shown), True, keys, mutable=["batch_stats"]
        )
        return taps, outputs, new.get("batch_stats", {})

    def _attention(
        self,
        state: State,
        arrays: Arrays,
        shown: Inputs,
        shape: tuple[int, ...],
        trunk: VariableDict | None,
    ) -> jax.Array | None:
        """Mean |Z| of the teachers: with the batch, from the teachers in the state, or None."""
        if "attention" in arrays:
            return arrays["attention"]
        if not jax.tree.leaves(state.teachers.variables):
            return None

        def features_of(variables):
            variables = lora.joined(trunk, variables) if trunk else variables
            taps: Any = self.network.apply(variables, inputs, False, method="taps")
            return taps["stage5"]

        inputs, teachers = self._inputs(shown), state.teachers
        return transfer.mean_teacher_attention(
            features_of, teachers.variables, teachers.count, shape
        )
