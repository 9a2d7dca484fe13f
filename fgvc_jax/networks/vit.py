"""Vision transformers: Dosovitskiy et al., arXiv 2010.11929, and what others made of them: DINOv2
(arXiv 2304.07193), with registers (arXiv 2309.16588), DINOv3 (arXiv 2508.10104), and the vision
towers of OpenCLIP (BioCLIP 2, arXiv 2505.23883) and of SigLIP 2 (arXiv 2502.14786). Module names
are timm's, with `_` for `.`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fgvc_jax.networks.kernels.attention import Attend, attend
from fgvc_jax.networks.layers import (
    QKV,
    AttentionPool,
    Dtype,
    LayerNorm,
    Mlp,
    PatchEmbed,
    dense,
    normal,
    stochastic_depth,
)
from fgvc_jax.networks.lora import Adapter
from fgvc_jax.utils.errors import ArgumentError

LAST = "stage4_last"
"""Where the last block begins, behind stage4: no tap, but the network can be run up to it."""


@dataclass(frozen=True)
class Variant:
    """What tells the families apart.

    `layer_scale` is what timm calls the factors of a block's two branches, up to the branch's
    number; empty where there are none. `registers` are tokens that no patch gave. Positions are
    learned and added to the tokens, the patches' alone where the class token has none of its own
    (`class_position`), or `rotary`: queries and keys are turned by them. With `pre_norm` patches
    have no bias, and all tokens go through a layer norm before the first block. With
    `attention_pool` there is no class token: a learned query attends to the patches in its place.
    With `tanh` GELU is the approximate one.
    """

    epsilon: float = 1e-6  # of the layer norms
    layer_scale: Literal["", "ls", "gamma_"] = ""
    qkv_bias: bool = True
    registers: int = 0
    rotary: bool = False
    class_position: bool = True
    pre_norm: bool = False
    attention_pool: bool = False
    tanh: bool = False

    @property
    def before(self) -> int:
        """Tokens before those of the patches."""
        return 0 if self.attention_pool else 1 + self.registers

    @property
    def placed(self) -> int:
        """Those of them that have a learned position."""
        return int(self.class_position and not self.attention_pool)


DINOV2 = Variant(layer_scale="ls")
# timm's form: what the authors add to the class token as its position is part of the token.
DINOV2_REG = Variant(layer_scale="ls", registers=4, class_position=False)
# Not OpenAI's own weights, whose GELU is another.
OPENCLIP = Variant(epsilon=1e-5, pre_norm=True)
SIGLIP2 = Variant(attention_pool=True, tanh=True)
# Up to size B it has no SwiGLU; coordinates are not jittered in training.
DINOV3 = Variant(epsilon=1e-5, layer_scale="gamma_", qkv_bias=False, registers=4, rotary=True)


def turns(rows: int, columns: int, width: int, before: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines (before + rows * columns, width) of DINOv3's rotary positions.

    A position is its patch's centre, from -1 to 1 along both sides whatever the image size; a head
    `width` wide is turned by both, at width/4 frequencies from 2 pi down to 2 pi / 100. The tokens
    `before` the patches are not turned.
    """
    y, x = ((np.arange(side) + 0.5) / side * 2 - 1 for side in (rows, columns))
    places = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2, 1)
    periods = 100.0 ** (np.arange(width // 4) / (width // 4))
    angles = np.tile((2 * np.pi * places / periods).reshape(len(places), -1), 2)
    angles = np.pad(angles, ((before, 0), (0, 0)))
    return np.cos(angles), np.sin(angles)


def turn(x: jax.Array, cosines: np.ndarray, sines: np.ndarray) -> jax.Array:
    """(B,T,N,D) of N heads, with the halves of D as the two coordinates that are turned, in
    float32. (The halves change places as they are: a TPU would write them, wide.)"""
    first, second = jnp.split(x, 2, axis=-1)
    across = jnp.concatenate([-second, first], axis=-1)
    cosines, sines = (jnp.float32(array)[:, None] for array in (cosines, sines))
    return (x * cosines + across * sines).astype(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection: (B,T,D) -> (B,T,D).

    `rotary` is what `turns` makes; None turns nothing. With a `lora_rank` all four projections have
    an adapter of it, see `lora`.
    """

    heads: int
    dtype: Dtype
    attend: Attend
    use_bias: bool
    lora_rank: int

    @nn.compact
    def __call__(self, x: jax.Array, rotary: tuple[np.ndarray, np.ndarray] | None) -> jax.Array:
        q, k, v = QKV(self.heads, self.dtype, self.use_bias, name="qkv")(x)
        if self.lora_rank:
            added = Adapter(self.lora_rank, 3, self.dtype, name="lora_qkv")(x)
            q, k, v = (a + b.reshape(a.shape) for a, b in zip((q, k, v), added, strict=True))
        if rotary:
            q, k = turn(q, *rotary), turn(k, *rotary)
        y = self.attend(q, k, v).reshape(x.shape)
        out = dense(x.shape[-1], self.dtype, name="proj")(y)
        if self.lora_rank:
            (more,) = Adapter(self.lora_rank, 1, self.dtype, name="lora_proj")(y)
            out = out + more
        return out


class LayerScale(nn.Module):
    """A factor for each channel: (...,D) -> (...,D)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return x * _gamma(self, "gamma", x)


def _gamma(module: nn.Module, name: str, x: jax.Array) -> jax.Array:
    return module.param(name, nn.initializers.constant(1e-5), x.shape[-1:]).astype(x.dtype)


class Block(nn.Module):
    """Attention and MLP, each behind a layer norm and beside a shortcut: (B,T,D) -> (B,T,D).

    `number` counts the blocks; `rate` is that of `stochastic_depth`, for each of the two branches.
    """

    heads: int
    dtype: Dtype
    attend: Attend
    variant: Variant
    number: int
    rate: float
    lora_rank: int

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        rotary: tuple[np.ndarray, np.ndarray] | None,
        keys: jax.Array | None,
    ) -> jax.Array:
        def beside(branch, y):
            kind = self.variant.layer_scale
            if kind == "ls":
                y = LayerScale(name=f"ls{branch}")(y)
            elif kind:
                y = y * _gamma(self, f"{kind}{branch}", y)
            return x + stochastic_depth(y, keys, self.rate, 2 * self.number + branch - 1)

        def norm(name):
            return LayerNorm(self.dtype, self.variant.epsilon, name=name)(x)

        bias, rank = self.variant.qkv_bias, self.lora_rank
        attention = Attention(self.heads, self.dtype, self.attend, bias, rank, name="attn")
        x = beside(1, attention(norm("norm1"), rotary))
        mlp = Mlp(self.dtype, self.variant.tanh, name="mlp")
        return beside(2, mlp(norm("norm2")))


def tokens(*parts: jax.Array) -> jax.Array:
    """Vectors (B,D), rows (B,n,D) and maps (B,h,w,D), one behind the other: (B,T,D)."""
    batch, *_, width = parts[0].shape  # not len: a batch may be a symbol
    return jnp.concatenate([part.reshape(batch, -1, width) for part in parts], axis=1)


class VisionTransformer(nn.Module):
    """Images (B,H,W,3), normalised -> taps (B,h,w,width) in `dtype`, and `token` (B,width).

    All maps have the stride of the patches: `stage2`, `stage3`, `stage4` are the tokens behind a
    quarter, a half and three quarters of the blocks; `stage5` those behind the last block and the
    final norm, where `token` is the class token, or what a learned query attends to. OpenCLIP's
    projection to the space of texts is left out: `token` is before it, which is what CLIP's authors
    probe (arXiv 2103.00020, A.3). A learned position embedding fixes the image size at
    initialisation; `weights.load_torch` resamples stored ones.

    `stochastic_depth` is the last block's chance, for each of its branches, of being left out for
    an image, growing evenly from 0 at the first. It can be run up to a stage or LAST and on from
    it, see `fgvc_jax.networks`; the state between is the patches' tokens as a map, and the class
    token and the registers where there are some.

    With a `lora_rank` the blocks' attention has adapters (`lora`), which a shared trunk has not.

    Raises ArgumentError for images that the patches do not tile, or of another size than at init.
    """

    patch: int
    width: int
    depth: int
    heads: int
    dtype: Dtype
    variant: Variant = Variant()
    attend: Attend = attend
    stochastic_depth: float = 0.0
    lora_rank: int = 0

    pooling = "token"

    @property
    def layers(self) -> int:
        """Number of layers for layer-wise learning rates: the embedding and the blocks."""
        return 1 + self.depth

    def layer(self, path: Sequence[str]) -> int:
        """In which of them a parameter is, from 0 (BEiT, arXiv 2106.08254); `layers` is behind."""
        name, _, number = path[0].partition("_")
        if name == "blocks":
            return 1 + int(number)
        return self.layers if path[0] in ("norm", "attn_pool") else 0

    @nn.compact
    def __call__(
        self,
        x: jax.Array | Mapping[str, jax.Array],
        train: bool,
        after: str = "",
        until: str = "stage5",
        keys: jax.Array | None = None,
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        del train  # no batch statistics; keys are there in training only
        if isinstance(x, Mapping):
            shape = x["map"].shape
            known = [x[name] for name in ("token", "registers", "map") if name in x]
            x = tokens(*known).astype(self.dtype)
        else:
            self._check(x.shape[1:3])
            bias = not self.variant.pre_norm
            x = PatchEmbed(self.patch, self.width, self.dtype, use_bias=bias, name="patch_embed")(x)
            shape = x.shape
            x = self._embed(x)

        first = self.variant.before  # of the patches
        rotary = None
        if self.variant.rotary:
            rotary = turns(shape[1], shape[2], self.width // self.heads, first)

        def state(x):
            token = {"token": x[:, 0]} if first else {}
            registers = {"registers": x[:, 1:first]} if self.variant.registers else {}
            return {"map": x[:, first:].reshape(shape)} | token | registers

        taps = {}
        quarter = self.depth // 4
        ends = {"stage2": quarter, "stage3": 2 * quarter, "stage4": 3 * quarter}
        ends[LAST] = self.depth - 1
        done = ends.get(after, 0)
        rates = np.linspace(0, self.stochastic_depth, self.depth).tolist()
        for tap, end in (ends | {"stage5": self.depth}).items():
            if not after < tap <= until:
                continue
            for i in range(done, end):
                kind = self.heads, self.dtype, self.attend, self.variant
                block = Block(*kind, i, rates[i], self.lora_rank, name=f"blocks_{i}")
                x = block(x, rotary, keys)
            done = end
            if tap == "stage5":
                x = LayerNorm(self.dtype, self.variant.epsilon, name="norm")(x)
                taps["token"] = self._pooled(x)
            if tap != LAST:
                taps[tap] = state(x)["map"]
        return taps, state(x)

    def _pooled(self, x: jax.Array) -> jax.Array:
        if not self.variant.attention_pool:
            return x[:, 0]
        pool = AttentionPool(self.heads, self.dtype, self.variant.epsilon, name="attn_pool")
        return pool(x)

    def _embed(self, patches: jax.Array) -> jax.Array:
        """(B,h,w,D) of the patches -> (B,T,D), with the class token and registers before them."""
        batch, rows, columns, width = patches.shape
        kind = self.variant
        if not kind.before:
            x = tokens(patches)
        else:
            before = [self.param("cls_token", nn.initializers.normal(1e-6), (1, 1, width))]
            if kind.registers:
                before.append(self.param("reg_token", normal, (1, kind.registers, width)))
            same = jnp.concatenate(before, axis=1).astype(self.dtype)
            x = tokens(jnp.broadcast_to(same, (batch, *same.shape[1:])), patches)
        if not kind.rotary:
            shape = (1, kind.placed + rows * columns, width)
            position = self.param("pos_embed", normal, shape).astype(self.dtype)
            if others := kind.before - kind.placed:  # before the patches, without a position
                position = jnp.pad(position, ((0, 0), (others, 0), (0, 0)))
            x = x + position
        return LayerNorm(self.dtype, kind.epsilon, name="norm_pre")(x) if kind.pre_norm else x

    def _check(self, size: Sequence[int]) -> None:
        height, width = size
        if height % self.patch or width % self.patch:
            raise ArgumentError(
                f"`images`: {height}x{width} px do not divide into patches of {self.patch} px, "
                f"choose a multiple of {self.patch}"
            )
        position: jax.Array | None = self.get_variable("params", "pos_embed")
        count = self.variant.placed + (height // self.patch) * (width // self.patch)
        if position is not None and position.shape[1] != count:
            raise ArgumentError(
                f"`images`: {height}x{width} px make {count} tokens, but this transformer was "
                f"built for {position.shape[1]}: give it images of the size it was built with"
            )
