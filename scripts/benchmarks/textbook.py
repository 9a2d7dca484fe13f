"""Training and evaluation as Flax's own layers make them, to compare programs with.

The networks are what `networks.create` builds, from `nn.Conv`, `nn.BatchNorm`, `nn.max_pool` and
`nn.MultiHeadDotProductAttention`; the images are augmented as ours.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fgvc_jax.data import augment


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


class ViTB16(nn.Module):
    """(B,H,W,3) -> logits (B,classes)."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        del train
        x = nn.Conv(768, (16, 16), (16, 16), dtype=jnp.bfloat16)(x)
        x = x.reshape(x.shape[0], -1, 768)
        token = self.param("token", nn.initializers.zeros, (1, 1, 768))
        token = jnp.broadcast_to(token.astype(x.dtype), (x.shape[0], 1, 768))
        x = jnp.concatenate([token, x], axis=1)
        position = self.param("position", nn.initializers.normal(0.02), (1, *x.shape[1:]))
        x = x + position.astype(x.dtype)
        for _ in range(12):
            y = nn.LayerNorm(dtype=jnp.bfloat16)(x)
            x = x + nn.MultiHeadDotProductAttention(12, dtype=jnp.bfloat16)(y)
            y = nn.Dense(3072, dtype=jnp.bfloat16)(nn.LayerNorm(dtype=jnp.bfloat16)(x))
            x = x + nn.Dense(768, dtype=jnp.bfloat16)(nn.gelu(y, approximate=False))
        x = nn.LayerNorm(dtype=jnp.bfloat16)(x)
        return nn.Dense(self.classes)(x[:, 0].astype(jnp.float32))


NETWORKS = {"resnet50": ResNet50, "vit_b16": ViTB16}


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
