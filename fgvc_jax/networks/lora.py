"""LoRA (Hu et al., arXiv 2106.09685): what a member adds to a trunk that stays as it is.

Each projection W of attention becomes W + A B, with A (D,r) and B (r,D) of a member's own. B begins
at zero, so that a member begins as the trunk. The paper's factor alpha / r is 1 (alpha = r), as in
peft's defaults: what it would scale, the learning rate does.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from fgvc_jax.networks.kernels.platforms import Dtype, precision
from fgvc_jax.networks.layers import uniform_fan_in

LEAVES = "down", "up"
_PREFIX = "lora_"


class Adapter(nn.Module):
    """What is added to several projections (`parts`) of the same input: (...,D) -> `parts` arrays
    (...,D) in `dtype`."""

    rank: int
    parts: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        width, rank, parts = x.shape[-1], self.rank, self.parts
        down = self.param("down", uniform_fan_in(width), (width, parts * rank))
        up = self.param("up", nn.initializers.zeros_init(), (parts, rank, width))
        exactly = precision(self.dtype)
        low = jnp.matmul(x.astype(self.dtype), down.astype(self.dtype), precision=exactly)
        each = zip(jnp.split(low, parts, axis=-1), up.astype(self.dtype), strict=True)
        return [jnp.matmul(one, kernel, precision=exactly) for one, kernel in each]


def of_adapter(place: tuple[str, ...]) -> bool:
    """Whether a variable is an adapter's, by its place."""
    return any(part.startswith(_PREFIX) for part in place)


def joined(trunk: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """All variables of a network: those of the trunk that it shares, and its own. No array is
    copied."""
    params = flatten_dict(trunk["params"]) | flatten_dict(own["params"])
    return {**own, "params": unflatten_dict(params)}


def merged(variables: Mapping[str, Any]) -> dict[str, Any]:
    """All variables of a network with adapters -> those, on the host, of the same network without,
    which answers as it does up to rounding."""
    leaves = flatten_dict(variables["params"])
    plain = {place: leaf for place, leaf in leaves.items() if not of_adapter(place)}
    for place, leaf in leaves.items():
        if place[-1] != "up" or not of_adapter(place):
            continue
        *module, name, _ = place
        kernel = (*module, name.removeprefix(_PREFIX), "kernel")
        up = np.asarray(leaf, np.float64)
        down = np.asarray(leaves[*module, name, "down"], np.float64)
        added = np.einsum("dpr,pro->dpo", down.reshape(len(down), *up.shape[:2]), up)
        whole = np.asarray(plain[kernel], np.float64) + added.reshape(len(down), -1)
        plain[kernel] = whole.astype(np.float32)
    return {**variables, "params": unflatten_dict(plain)}
