"""Vision transformer: Dosovitskiy et al., arXiv 2010.11929. Names as in timm, `_` for `.`."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fgvc_jax.errors import UserError
from fgvc_jax.networks.flash import Attend, attend
from fgvc_jax.networks.layers import (
    Conv,
    Dtype,
    Mlp,
    dense,
    layer_norm,
    normal,
    stochastic_depth,
    uniform_fan_in,
)


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection: (B,T,D) -> (B,T,D)."""

    heads: int
    dtype: Dtype
    attend: Attend

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, tokens, width = x.shape
        qkv = dense(3 * width, self.dtype, name="qkv")(x)
        q, k, v = jnp.moveaxis(qkv.reshape(batch, tokens, 3, self.heads, -1), 2, 0)
        return dense(width, self.dtype, name="proj")(self.attend(q, k, v).reshape(x.shape))


class Block(nn.Module):
    """Attention and MLP, each behind a layer norm and beside a shortcut: (B,T,D) -> (B,T,D).

    `number` counts the blocks; `rate` is that of `stochastic_depth`, for each of the two branches.
    """

    heads: int
    dtype: Dtype
    attend: Attend
    number: int
    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        y = Attention(self.heads, self.dtype, self.attend, name="attn")(
            layer_norm(self.dtype, "norm1")(x)
        )
        x = x + stochastic_depth(y, keys, self.rate, 2 * self.number)
        y = Mlp(self.dtype, name="mlp")(layer_norm(self.dtype, "norm2")(x))
        return x + stochastic_depth(y, keys, self.rate, 2 * self.number + 1)


def tokens(token: jax.Array, patches: jax.Array) -> jax.Array:
    """The class token (B,D) before those of the patches (B,h,w,D): (B,1+h*w,D)."""
    return jnp.concatenate([token[:, None], patches.reshape(len(token), -1, token.shape[-1])], 1)


class PatchEmbed(nn.Module):
    """Patches of `size` px -> tokens: (B,H,W,3) -> (B,H/size,W/size,width)."""

    size: int
    width: int
    dtype: Dtype

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        init = uniform_fan_in(self.size**2 * images.shape[-1])
        size = self.size
        return Conv(self.width, size, size, 0, True, self.dtype, init, init, name="proj")(images)


class VisionTransformer(nn.Module):
    """Images (B,H,W,3), normalised -> taps (B,h,w,width) in `dtype`, and `token` (B,width).

    All maps have the stride of the patches: `stage2`, `stage3`, `stage4` are the tokens behind a
    quarter, a half and three quarters of the blocks; `stage5` those behind the last block and the
    final norm, where `token` is the class token. The position embedding fixes the image size at
    initialisation; `weights.load_torch` resamples stored ones.

    `stochastic_depth` is the last block's chance, for each of its branches, of being left out for
    an image, growing evenly from 0 at the first. It can be run up to a stage and on from it, see
    `fgvc_jax.networks`; the state between is the patches' tokens as a map, and the class token.

    Raises UserError for images that the patches do not tile, or of another size than at init.
    """

    patch: int
    width: int
    depth: int
    heads: int
    dtype: Dtype
    attend: Attend = attend
    stochastic_depth: float = 0.0

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
        return self.layers if path[0] == "norm" else 0

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
        if after:
            shape, x = x["map"].shape, tokens(x["token"], x["map"]).astype(self.dtype)
        else:
            self._check(x.shape[1:3])
            patches = PatchEmbed(self.patch, self.width, self.dtype, name="patch_embed")(x)
            shape = batch, rows, columns, width = patches.shape
            token = self.param("cls_token", nn.initializers.normal(1e-6), (1, 1, width))
            position = self.param("pos_embed", normal, (1, 1 + rows * columns, width))
            token = jnp.broadcast_to(token[:, 0].astype(self.dtype), (batch, width))
            x = tokens(token, patches) + position.astype(self.dtype)

        taps = {}
        quarter = self.depth // 4
        ends = {"stage2": quarter, "stage3": 2 * quarter, "stage4": 3 * quarter}
        done = ends.get(after, 0)
        rates = np.linspace(0, self.stochastic_depth, self.depth).tolist()
        for tap, end in (ends | {"stage5": self.depth}).items():
            if not after < tap <= until:
                continue
            for i in range(done, end):
                make = Block(self.heads, self.dtype, self.attend, i, rates[i], name=f"blocks_{i}")
                x = make(x, keys)
            done = end
            if tap == "stage5":
                x = layer_norm(self.dtype, "norm")(x)
                taps["token"] = x[:, 0]
            taps[tap] = x[:, 1:].reshape(shape)
        return taps, {"map": x[:, 1:].reshape(shape), "token": x[:, 0]}

    def _check(self, size: tuple[int, int]) -> None:
        height, width = size
        if height % self.patch or width % self.patch:
            raise UserError(
                f"images of {height}x{width} px do not divide into patches of {self.patch} px: "
                f"choose a multiple of {self.patch} (data.crop)"
            )
        position = self.get_variable("params", "pos_embed")
        count = 1 + (height // self.patch) * (width // self.patch)
        if position is not None and position.shape[1] != count:
            raise UserError(
                f"images of {height}x{width} px make {count} tokens, but this transformer was "
                f"built for {position.shape[1]}: give it images of the size it was built with"
            )
