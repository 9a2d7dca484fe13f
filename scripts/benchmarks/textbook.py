"""Training and evaluation as Flax's own layers make them, to compare programs with.

The networks are what `networks.create` builds, from `nn.Conv`, `nn.BatchNorm`, `nn.LayerNorm`,
`nn.max_pool` and `nn.MultiHeadDotProductAttention`; the images are augmented as ours, and constants
(rotary angles, places and neighbours in windows) are ours.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fgvc_jax.data import augment
from fgvc_jax.networks import swin, vit

LayerNorm = partial(nn.LayerNorm, dtype=jnp.bfloat16)
Dense = partial(nn.Dense, dtype=jnp.bfloat16)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and the shortcut."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv = partial(nn.Conv, use_bias=False, dtype=jnp.bfloat16)
        norm = partial(nn.BatchNorm, not train, momentum=0.9, dtype=jnp.bfloat16)
        y = nn.relu(norm()(conv(self.width, (1, 1))(x)))
        strides = (self.stride, self.stride)
        y = nn.relu(norm()(conv(self.width, (3, 3), strides, padding=((1, 1), (1, 1)))(y)))
        y = norm()(conv(4 * self.width, (1, 1))(y))
        if x.shape != y.shape:
            x = norm()(conv(4 * self.width, (1, 1), strides)(x))
        return nn.relu(x + y)


class ResNet50(nn.Module):
    """(B,H,W,3) -> logits (B,classes)."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        stem = nn.Conv(64, (7, 7), (2, 2), ((3, 3), (3, 3)), use_bias=False, dtype=jnp.bfloat16)
        x = nn.BatchNorm(not train, momentum=0.9, dtype=jnp.bfloat16)(stem(x))
        x = nn.max_pool(nn.relu(x), (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, depth in enumerate((3, 4, 6, 3)):
            for index in range(depth):
                stride = 2 if stage and not index else 1
                x = Bottleneck(64 * 2**stage, stride)(x, train)
        return nn.Dense(self.classes)(x.astype(jnp.float32).mean((1, 2)))


def mlp(x: jax.Array) -> jax.Array:
    """Four times as wide inside: (...,D) -> (...,D)."""
    y = Dense(4 * x.shape[-1])(LayerNorm()(x))
    return Dense(x.shape[-1])(nn.gelu(y, approximate=False))


class ViT(nn.Module):
    """(B,H,W,3) -> logits (B,classes): also DINOv2's, whose branches are scaled, DINOv3's, and the
    towers of OpenCLIP, with a norm before the blocks and no bias before it, and SigLIP, whose
    tokens a query pools."""

    classes: int
    patch: int
    width: int
    heads: int
    scaled: bool = False
    rotary: bool = False  # DINOv3: positions turn queries and keys; registers; no bias before them
    depth: int = 12
    normed: bool = False
    pooled: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        del train
        width, registers, attend = self.width, 4 * self.rotary, nn.dot_product_attention
        patches = (self.patch,) * 2
        x = nn.Conv(width, patches, patches, use_bias=not self.normed, dtype=jnp.bfloat16)(x)
        batch, rows, columns = x.shape[:3]
        count = 0 if self.pooled else 1 + registers
        before = self.param("tokens", nn.initializers.zeros, (1, count, width))
        before = jnp.broadcast_to(before.astype(x.dtype), (batch, count, width))
        x = jnp.concatenate([before, x.reshape(batch, -1, width)], axis=1)
        if self.rotary:
            turns = vit.turns(rows, columns, width // self.heads, 1 + registers)
            attend = partial(attend_turned, turns=turns)
        else:
            position = self.param("position", nn.initializers.normal(0.02), (1, *x.shape[1:]))
            x = x + position.astype(x.dtype)
        x = LayerNorm()(x) if self.normed else x
        for block in range(self.depth):
            y = nn.MultiHeadDotProductAttention(
                self.heads, dtype=jnp.bfloat16, use_bias=not self.rotary, attention_fn=attend
            )(LayerNorm()(x))
            if self.rotary:
                y = y + self._vector(f"bias_{block}", x)
            x = x + (y * self._vector(f"scale1_{block}", x) if self.scaled else y)
            y = mlp(x)
            x = x + (y * self._vector(f"scale2_{block}", x) if self.scaled else y)
        x = LayerNorm()(x)
        if self.pooled:
            query = jnp.broadcast_to(self._vector("query", x), (batch, 1, width))
            y = nn.MultiHeadDotProductAttention(self.heads, dtype=jnp.bfloat16)(query, x)
            x = y + mlp(y)
        return nn.Dense(self.classes)(x[:, 0].astype(jnp.float32))

    def _vector(self, name: str, x: jax.Array) -> jax.Array:
        return self.param(name, nn.initializers.constant(1e-5), x.shape[-1:]).astype(x.dtype)


def attend_turned(
    q: jax.Array, k: jax.Array, v: jax.Array, *, turns: tuple[np.ndarray, np.ndarray], **options
) -> jax.Array:
    """Attention (B,T,N,D) with rotary positions, as `vit.turns` has them."""
    cosines, sines = (jnp.float32(array)[:, None] for array in turns)

    def turned(x):
        first, second = jnp.split(x, 2, axis=-1)
        return (x * cosines + jnp.concatenate([-second, first], -1) * sines).astype(x.dtype)

    return nn.dot_product_attention(turned(q), turned(k), v, **options)


class ConvNeXtTiny(nn.Module):
    """(B,H,W,3) -> logits (B,classes)."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        del train
        conv = partial(nn.Conv, dtype=jnp.bfloat16)
        x = LayerNorm()(conv(96, (4, 4), (4, 4))(x))
        for stage, depth in enumerate((3, 3, 9, 3)):
            width = 96 * 2**stage
            if stage:
                x = conv(width, (2, 2), (2, 2))(LayerNorm()(x))
            for block in range(depth):
                y = mlp(conv(width, (7, 7), feature_group_count=width)(x))
                start = nn.initializers.constant(1e-6)
                gamma = self.param(f"gamma_{stage}_{block}", start, (width,))
                x = x + y * gamma.astype(y.dtype)
        return nn.Dense(self.classes)(nn.LayerNorm()(x.astype(jnp.float32).mean((1, 2))))


class SwinTiny(nn.Module):
    """(B,H,W,3) -> logits (B,classes)."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        del train
        x = LayerNorm()(nn.Conv(96, (4, 4), (4, 4), dtype=jnp.bfloat16)(x))
        window = x.shape[1] // 8
        for stage, (depth, heads) in enumerate(zip((2, 2, 6, 2), (3, 6, 12, 24), strict=True)):
            width = 96 * 2**stage
            if stage:  # four neighbours become one position
                corners = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
                y = LayerNorm()(jnp.concatenate(corners, axis=-1))
                x = Dense(width, use_bias=False)(y)
            side = x.shape[1]
            for block in range(depth):
                shift = window // 2 if block % 2 and side > window else 0
                table = self.param(
                    f"table_{stage}_{block}",
                    nn.initializers.normal(0.02),
                    ((2 * window - 1) ** 2, heads),
                )
                bias = jnp.moveaxis(table[swin.relative_places(window)], -1, 0)
                mask = None
                if shift:
                    part = swin.neighbours(side, side, window, shift)
                    mask = jnp.asarray(part[:, None, :, None] == part[:, None, None, :])
                y = jnp.roll(LayerNorm()(x), (-shift, -shift), (1, 2))
                y = y.reshape(-1, side // window, window, side // window, window, width)
                y = y.swapaxes(2, 3).reshape(len(x), -1, window**2, width)
                y = nn.MultiHeadDotProductAttention(
                    heads,
                    dtype=jnp.bfloat16,
                    attention_fn=partial(nn.dot_product_attention, bias=bias.astype(jnp.bfloat16)),
                )(y, mask=mask)
                y = y.reshape(-1, side // window, side // window, window, window, width)
                y = jnp.roll(y.swapaxes(2, 3).reshape(x.shape), (shift, shift), (1, 2))
                x = x + y
                x = x + mlp(x)
        x = LayerNorm()(x)
        return nn.Dense(self.classes)(x.astype(jnp.float32).mean((1, 2)))


NETWORKS = {
    "resnet50": ResNet50,
    "vit_b16": partial(ViT, patch=16, width=768, heads=12),
    "dinov2_s14": partial(ViT, patch=14, width=384, heads=6, scaled=True),
    "dinov3_s16": partial(ViT, patch=16, width=384, heads=6, scaled=True, rotary=True),
    "bioclip2_l14": partial(ViT, patch=14, width=1024, heads=16, depth=24, normed=True),
    "siglip2_b16": partial(ViT, patch=16, width=768, heads=12, pooled=True),
    "convnext_tiny": ConvNeXtTiny,
    "swin_tiny": SwinTiny,
}


def training(
    name: str, classes: int, batch: dict[str, Any], devices: Mesh, *, crop: int
) -> tuple[Callable, tuple]:
    """The compiled step (state, batch) -> (state, loss), and the shapes of its arguments."""
    network, variables = _initial(name, classes, crop)
    optimizer = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(0.001, 0.9))

    def step(state, batch):
        params, statistics, opt_state, number = state
        keys = augment.image_keys(0, number, batch["id"])
        images = augment.random_crop(keys, batch["image"], crop=crop, pad=0, flip=True)
        images = augment.normalize(images, "half")

        def loss(params):
            logits, new = network.apply(
                {"params": params, **statistics}, images, True, mutable=["batch_stats"]
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
            return losses.mean(), new

        (value, new), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), new, opt_state, number + 1), value

    params = variables.pop("params")
    number = jax.ShapeDtypeStruct((), jnp.int32)
    state = params, variables, jax.eval_shape(optimizer.init, params), number
    return _jit(step, devices, donate=True), (state, batch)


def forward(
    name: str, classes: int, batch: dict[str, Any], devices: Mesh, *, crop: int
) -> tuple[Callable, tuple]:
    """The compiled evaluation (variables, batch) -> images that are right, likewise."""
    network, variables = _initial(name, classes, crop)

    def step(variables, batch):
        images = augment.normalize(augment.center_crop(batch["image"], crop=crop), "half")
        logits = network.apply(variables, images, False)
        return jnp.sum((logits.argmax(-1) == batch["label"]) & batch["mask"])

    return _jit(step, devices, donate=False), (variables, batch)


def _initial(name: str, classes: int, crop: int) -> tuple[nn.Module, Any]:
    network = NETWORKS[name](classes)
    image = jnp.zeros((1, crop, crop, 3))
    return network, jax.eval_shape(lambda: network.init(jax.random.key(0), image, False))


def _jit(step: Callable, devices: Mesh, *, donate: bool) -> Callable:
    everywhere = NamedSharding(devices, PartitionSpec())
    split = NamedSharding(devices, PartitionSpec("data"))
    return jax.jit(
        step,
        donate_argnums=0 if donate else (),
        in_shardings=(everywhere, split),
        out_shardings=everywhere,
    )
