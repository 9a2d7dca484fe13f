"""Heads: taps of a backbone -> logits (B,K).

They compute in float32 whatever the backbone does: beside it they cost nothing. `pool` reduces a
map to a vector: "avg" or "max" over its positions, or "token", the class token that a transformer
gives beside its maps; "norm" is the average, which a linear head puts behind a layer norm.
`batch_norm_groups` of every head is set by `networks.create`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fgvc_jax.networks.layers import BatchNorm, LayerNorm, linear
from fgvc_jax.utils.errors import ArgumentError


def pooled(taps: Mapping[str, jax.Array], tap: str, pool: str) -> jax.Array:
    """One float32 vector (B,C) per image from the map `taps[tap]`, or the class token.

    Of equal maxima each gets its share of the gradient (torch: the first takes all); behind a ReLU
    only zeros tie in practice, and those pass no gradient on. Raises ArgumentError for a tap that
    is not there and for another `pool`.
    """
    argument, name = ("pool", "token") if pool == "token" else ("tap", tap)
    if name not in taps:
        raise ArgumentError(
            f"`{argument}` is {name!r}: this backbone has no tap {name!r}, only "
            f"{', '.join(sorted(taps))}"
        )
    features = taps[name].astype(jnp.float32)
    match pool:
        case "token":
            return features
        case "avg" | "norm":
            return features.mean((1, 2))
        case "max":
            return features.max((1, 2))
    raise ArgumentError(f"`pool` is {pool!r}: choose avg, norm, max or token")


def reads(head: nn.Module) -> str:
    """The tap that a head reads, the deepest of several; "token" where it reads the class token."""
    if getattr(head, "pool", "") == "token":
        return "token"
    return head.taps[-1] if isinstance(head, FusionHead) else head.tap


def embedding(head: nn.Module, taps: Mapping[str, jax.Array], tap: str = "") -> jax.Array:
    """The float32 vector (B,C) of each image that a head sees; with a `tap` that it does not read,
    the average of that one (`token`: the class token).

    What a head does behind its pooling, a layer norm among it, is not in it. Raises ArgumentError
    for a tap that is not there.
    """
    if tap in ("", reads(head)):
        return pooled(taps, reads(head), getattr(head, "pool", "avg"))
    return pooled(taps, tap, "token" if tap == "token" else "avg")


def classified(
    head: nn.Module, params: Mapping[str, Any], taps: Mapping[str, jax.Array]
) -> jax.Array:
    """The float32 vector (B,C) of each image that the layer of classes of a linear head takes, or
    a head of neighbours compares: the embedding, behind the layer norm where there is one.

    `params` are the head's.
    """
    vector = embedding(head, taps)
    if getattr(head, "pool", "") == "norm" and isinstance(head, LinearHead):
        normed: Any = LayerNorm(jnp.float32).apply({"params": params["norm"]}, vector)
        return normed
    return vector


def attached(head: nn.Module) -> nn.Module:
    """The same head, whose gradient reaches the taps that it reads even if it was detached."""
    return head.clone(detach=False) if isinstance(head, FusionHead) else head


class LinearHead(nn.Module):
    """Pool, then one linear layer: the plain classifier; torch's `fc.*` loads into it.

    With the pooling "norm" ConvNeXt's layer norm is between.
    """

    classes: int
    tap: str = "stage5"
    pool: str = "avg"
    batch_norm_groups: int = 1

    @nn.compact
    def __call__(self, taps: Mapping[str, jax.Array], train: bool) -> jax.Array:
        x = pooled(taps, self.tap, self.pool)
        if self.pool == "norm":
            x = LayerNorm(jnp.float32, name="norm")(x)
        return linear(self.classes, x.shape[-1], name="fc")(x)


class NeighbourHead(nn.Module):
    """The votes of the training images that are nearest to an image, by the cosine of their
    embeddings: the weighted k-NN classifier of DINO (arXiv 2104.14294, section 4.1).

    A neighbour's vote weighs exp(cosine / temperature). One more vote, of the mean weight, goes to
    all classes alike, so that no class has probability 0. The logits are the log of the shares.
    """

    classes: int
    images: int
    neighbours: int
    temperature: float
    tap: str = "stage5"
    pool: str = "avg"
    batch_norm_groups: int = 1

    @nn.compact
    def __call__(self, taps: Mapping[str, jax.Array], train: bool) -> jax.Array:
        x = pooled(taps, self.tap, self.pool)
        zeros, shape = nn.initializers.zeros, (self.images, x.shape[-1])
        directions = self.param("directions", zeros, shape, jnp.float16)  # of length 1
        # Floating as all variables are, which readers of weights rely on.
        labels = self.param("labels", zeros, (self.images,), jnp.float32)
        cosines = unit(x) @ directions.astype(jnp.float32).T
        return votes(self.neighbours, self.temperature, self.classes)(cosines, labels)


def votes(
    neighbours: int, temperature: float, classes: int
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(cosines (B,N), labels (N,)) -> log of the classes' shares (B,K), see `NeighbourHead`; where
    a cosine is -inf an image does not vote."""

    def share(cosines: jax.Array, labels: jax.Array) -> jax.Array:
        nearest, _ = jax.lax.top_k(cosines, min(neighbours, cosines.shape[-1]))
        # Those that may vote are at least as near; where nobody may, all are alike.
        least, most = (jnp.maximum(each, -1.0) for each in (nearest[:, -1:], nearest[:, :1]))
        weights = jnp.where(cosines >= least, jnp.exp((cosines - most) / temperature), 0)
        found = weights @ jax.nn.one_hot(labels.astype(jnp.int32), classes)
        total = found.sum(-1, keepdims=True)
        extra = 1 / (nearest.shape[-1] + 1)
        shares = jnp.where(total > 0, found / jnp.where(total > 0, total, 1), 1 / classes)
        return jnp.log((1 - extra) * shares + extra / classes)

    return share


def unit(x: jax.Array) -> jax.Array:
    """Rows (B, D) of length 1; a row of zeros stays one."""
    square = jnp.sum(x * x, axis=-1, keepdims=True)
    return x * jnp.where(square > 0, jax.lax.rsqrt(jnp.where(square > 0, square, 1)), 0)


class KTHead(nn.Module):
    """The head of KT's code: pool, batch norm, linear, batch norm, ELU, linear.

    `width` is 512 on ResNet-50 and 4096 on VGG-16; the pooling there is a global maximum.
    """

    classes: int
    width: int
    tap: str = "stage5"
    pool: str = "max"
    batch_norm_groups: int = 1

    @nn.compact
    def __call__(self, taps: Mapping[str, jax.Array], train: bool) -> jax.Array:
        x = pooled(taps, self.tap, self.pool)
        return _classify(x, train, self.width, self.classes, self.batch_norm_groups)


class StageHead(nn.Module):
    """HSD's head of an intermediate stage: average pool, batch norm, linear."""

    classes: int
    tap: str
    batch_norm_groups: int = 1

    @nn.compact
    def __call__(self, taps: Mapping[str, jax.Array], train: bool) -> jax.Array:
        x = pooled(taps, self.tap, "avg")
        x = BatchNorm(self.batch_norm_groups, jnp.float32, name="bn1")(x, train)
        return linear(self.classes, x.shape[-1], name="fc")(x)


class FusionHead(nn.Module):
    """HSD's gradient-detached fusion: the averages of several stages, concatenated and classified.

    With `detach` no gradient reaches the backbone; without it is the ablation.
    """

    classes: int
    width: int
    taps: Sequence[str]
    detach: bool
    batch_norm_groups: int = 1

    @nn.compact
    def __call__(self, taps: Mapping[str, jax.Array], train: bool) -> jax.Array:
        x = jnp.concatenate([pooled(taps, tap, "avg") for tap in self.taps], axis=-1)
        if self.detach:
            x = jax.lax.stop_gradient(x)
        return _classify(x, train, self.width, self.classes, self.batch_norm_groups)


def _classify(x: jax.Array, train: bool, width: int, classes: int, groups: int) -> jax.Array:
    x = BatchNorm(groups, jnp.float32, name="bn1")(x, train)
    x = linear(width, x.shape[-1], name="fc1")(x)
    x = BatchNorm(groups, jnp.float32, name="bn2")(x, train)
    return linear(classes, width, name="fc2")(nn.elu(x))


class Heads(nn.Module):
    """Several heads on the same taps -> dict of logits by name, and pooled `features` (B,C).

    `features` is the class token where there is one, else the average of stage5. The heads come as
    constructors `(parent) -> module`, because Linen would rename modules that it finds in a field.
    """

    constructors: Mapping[str, Callable[..., nn.Module]]

    @nn.compact
    def __call__(self, taps: Mapping[str, jax.Array], train: bool) -> dict[str, jax.Array]:
        outputs = {name: make(parent=self)(taps, train) for name, make in self.constructors.items()}
        return outputs | {"features": pooled(taps, "stage5", "token" if "token" in taps else "avg")}
