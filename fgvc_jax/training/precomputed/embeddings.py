"""What a frozen network sees of each training image at test, for an objective that is solved."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
from flax.typing import VariableDict
from jax.sharding import Mesh

from fgvc_jax import networks
from fgvc_jax.config import Network as NetworkOptions
from fgvc_jax.data import augment
from fgvc_jax.inference.architecture import Architecture
from fgvc_jax.inference.passes import images_of
from fgvc_jax.networks import heads
from fgvc_jax.training.precomputed.store import Output
from fgvc_jax.utils import devices, digests


@dataclass(frozen=True)
class Embeddings:
    """The vectors that the main head of a frozen network makes classes of.

    Args:
        options: of the network, settled.
        architecture: of the network.
        variables: of the network, on the host.
        mesh: devices.
    """

    options: NetworkOptions
    architecture: Architecture
    variables: VariableDict
    mesh: Mesh

    what = "embeddings"
    broken = "--network.weights do not fit this network"
    instead = "the run stops"

    @cached_property
    def _seeing(self) -> VariableDict:
        """The variables that an embedding depends on: the head only has a layer norm."""
        kept = {}
        for kind, tree in self.variables.items():
            norm = {k: v for k, v in tree.get("heads", {}).get("logits", {}).items() if k == "norm"}
            kept[kind] = {"backbone": tree.get("backbone", {}), "head": norm}
        return kept

    def outputs(self, part: str) -> Mapping[str, Output]:
        """The embedding of a training image; nothing of others."""
        if part != "train":
            return {}
        network, view = self.architecture.network, self.architecture.view
        head = network.heads.constructors["logits"](parent=None)

        def step(variables: VariableDict, arrays: Mapping[str, Any], store: jax.Array | None):
            images = augment.test_view(view, images_of(arrays, store))
            seeing = {kind: {"backbone": tree["backbone"]} for kind, tree in variables.items()}
            taps: Any = network.apply(seeing, images, False, method="taps")
            vectors = heads.classified(head, variables["params"]["head"], taps)
            largest = jnp.finfo(jnp.float16).max
            return {"embedding": jnp.clip(vectors, -largest, largest).astype(jnp.float16)}

        rows, everywhere = devices.split(self.mesh), devices.replicated(self.mesh)
        compiled = jax.jit(step, in_shardings=(everywhere, rows, everywhere), out_shardings=rows)
        known = [
            digests.of_arrays(self._seeing), self.options.name, self.options.pool,
            self.options.dtype, self.options.last_stride, *view.test,
        ]  # fmt: skip
        vector = jax.eval_shape(
            partial(step, store=None),
            self._seeing,
            {"image": jnp.zeros((1, view.test_side, view.test_side, 3), jnp.uint8)},
        )["embedding"]
        run = partial(compiled, devices.replicate(self.mesh, self._seeing))
        parts = networks.parts(self.options.name, dtype=self.options.dtype, kept=True)
        return {
            "embedding": Output("embedding", run, {"embedding": vector.shape[1:]}, known, parts)
        }
