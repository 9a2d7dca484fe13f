"""Building blocks with torch's semantics, so that imported weights mean here what they mean there.

Layout is NHWC. Parameters are float32 whatever the compute dtype `dtype` is.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fgvc_jax.networks.kernels.activations import gelu
from fgvc_jax.networks.kernels.attention import attend
from fgvc_jax.networks.kernels.batch_norm import batch_normalize, folded, normalized, variance
from fgvc_jax.networks.kernels.convolutions import depthwise, grouped, patchwise, pointwise
from fgvc_jax.networks.kernels.platforms import Dtype, precision
from fgvc_jax.networks.kernels.projections import qkv
from fgvc_jax.utils.errors import ArgumentError

# torchvision's start of convolutions in front of a ReLU: He et al., arXiv 1502.01852, by fan_out.
he_normal_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# timm's start of transformers and of ConvNeXt: normal with 0.02 (its truncation, at 100 sigma,
# cuts nothing), biases zero.
normal = nn.initializers.normal(0.02)


def uniform_fan_in(fan_in: int) -> nn.initializers.Initializer:
    """torch's default for weights and biases alike: uniform in +-1/sqrt(fan_in)."""
    bound = fan_in**-0.5

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def linear(features: int, fan_in: int, name: str) -> nn.Dense:
    """A float32 layer (..., fan_in) -> (..., features) that starts as torch's `nn.Linear` does."""
    init = uniform_fan_in(fan_in)
    return nn.Dense(
        features,
        kernel_init=init,
        bias_init=init,
        dtype=jnp.float32,
        precision=precision(jnp.float32),
        name=name,
    )


class Conv(nn.Module):
    """Square convolution with torch's symmetric padding: (B,H,W,I) -> (B,h,w,features) in `dtype`.

    With "SAME" as padding it is TensorFlow's, see `DepthwiseConv`. With kernel size 1 it is
    `convolutions.pointwise`, where windows touch `patchwise`. The kernel is always (k,k,I,O). With
    a `share` (features,) kernel and bias are `batch_norm.folded`, see `conv_norm`.
    """

    features: int
    kernel_size: int
    stride: int
    padding: int | Literal["SAME"]
    use_bias: bool
    dtype: Dtype
    kernel_init: nn.initializers.Initializer = he_normal_fan_out
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: jax.Array, share: jax.Array | None = None) -> jax.Array:
        def weights(name, init, shape):
            made = self.param(name, init, shape)
            return (made if share is None else folded(made, share)).astype(self.dtype)

        size, stride, pad = self.kernel_size, self.stride, self.padding
        kernel = weights("kernel", self.kernel_init, (size, size, x.shape[-1], self.features))
        x = x.astype(self.dtype)
        if size == 1 and pad in (0, "SAME"):
            x = pointwise(x, kernel[0, 0], stride)
        elif size == stride and pad == 0:
            x = patchwise(x, kernel, size)
        else:
            x = lax.conv_general_dilated(
                x,
                kernel,
                window_strides=(stride, stride),
                padding="SAME" if isinstance(pad, str) else ((pad, pad), (pad, pad)),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                precision=precision(self.dtype),
            )
        if self.use_bias:
            x = x + weights("bias", self.bias_init, (self.features,))
        return x


class DepthwiseConv(nn.Module):
    """Convolution of every channel by itself, of odd size: (B,H,W,C) -> (B,h,w,C) in `dtype`, h the
    least integer >= H/stride. The kernel is (k,k,1,C).

    Padded as TensorFlow's SAME: evenly with stride 1, else by as little as gives that h, and where
    it is odd by one more at the end. With a `share` (C,) the kernel is `batch_norm.folded`.
    """

    kernel_size: int
    dtype: Dtype
    stride: int = 1
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = normal

    @nn.compact
    def __call__(self, x: jax.Array, share: jax.Array | None = None) -> jax.Array:
        shape = (self.kernel_size, self.kernel_size, 1, x.shape[-1])
        kernel = self.param("kernel", self.kernel_init, shape)
        kernel = (kernel if share is None else folded(kernel, share)).astype(self.dtype)
        # Initialisation, at each start of a command, needs the shapes only.
        form = grouped if self.is_initializing() else depthwise
        x = form(x.astype(self.dtype), kernel[:, :, 0], stride=self.stride)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), shape[-1:])
            x = x + bias.astype(self.dtype)
        return x


def dense(features: int, dtype: Dtype, name: str, use_bias: bool = True) -> nn.Dense:
    """A layer (..., D) -> (..., features) in `dtype`, float32 exactly if that is it."""
    return nn.Dense(
        features,
        use_bias=use_bias,
        dtype=dtype,
        kernel_init=normal,
        precision=precision(dtype),
        name=name,
    )


class QKV(nn.Module):
    """Queries, keys and values of so many heads from one layer: (...,D) -> three
    (...,heads,D/heads) in `dtype`, see `projections.qkv`."""

    heads: int
    dtype: Dtype
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, ...]:
        width = x.shape[-1]
        kernel = self.param("kernel", normal, (width, 3 * width)).astype(self.dtype)
        bias = None
        if self.use_bias:
            zeros = nn.initializers.zeros_init()
            bias = self.param("bias", zeros, (3 * width,)).astype(self.dtype)
        return qkv(x.astype(self.dtype), kernel, bias, self.heads)


class Mlp(nn.Module):
    """Two linear layers with GELU between, the exact one or that of `tanh`, four times as wide
    inside."""

    dtype: Dtype
    tanh: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        y = dense(4 * width, self.dtype, name="fc1")(x)
        y = nn.gelu(y, approximate=True) if self.tanh else gelu(y)
        return dense(width, self.dtype, name="fc2")(y)


class LayerNorm(nn.Module):
    """Layer norm (Ba et al., arXiv 1607.06450), most often with timm's epsilon: (...,C) -> the same
    in `dtype`. Statistics are float32, see `batch_norm.variance`."""

    dtype: Dtype
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones_init(), x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros_init(), x.shape[-1:])
        wide = x.astype(jnp.float32)
        mean = jnp.mean(wide, -1, keepdims=True)
        share = lax.rsqrt(variance(wide, mean, x.dtype) + self.epsilon) * scale
        return ((x - mean) * share + bias).astype(self.dtype)


class AttentionPool(nn.Module):
    """What a learned query attends to, and an MLP beside a shortcut: (B,T,D) -> (B,D), the pooling
    of SigLIP (Zhai et al., arXiv 2106.04560, section on multihead attention pooling)."""

    heads: int
    dtype: Dtype
    epsilon: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, _, width = x.shape
        latent = self.param("latent", normal, (1, 1, width)).astype(self.dtype)
        q = dense(width, self.dtype, name="q")(latent).reshape(1, 1, self.heads, -1)
        kv = dense(2 * width, self.dtype, name="kv")(x)
        k, v = jnp.moveaxis(kv.reshape(*x.shape[:2], 2, self.heads, -1), 2, 0)
        # Plainly: kernels are for as many queries as keys, and one query's matrix is a row.
        y = attend(jnp.broadcast_to(q, (batch, *q.shape[1:])), k, v).reshape(batch, width)
        y = dense(width, self.dtype, name="proj")(y)
        normed = LayerNorm(self.dtype, self.epsilon, name="norm")(y)
        return y + Mlp(self.dtype, True, name="mlp")(normed)


class PatchEmbed(nn.Module):
    """Patches of `size` px -> tokens: (B,H,W,3) -> (B,H/size,W/size,width), with a layer norm
    behind where it has an `epsilon`."""

    size: int
    width: int
    dtype: Dtype
    epsilon: float = 0.0
    use_bias: bool = True

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        init = uniform_fan_in(self.size**2 * images.shape[-1])
        size = self.size
        bias = self.use_bias
        x = Conv(self.width, size, size, 0, bias, self.dtype, init, init, name="proj")(images)
        return LayerNorm(self.dtype, self.epsilon, name="norm")(x) if self.epsilon else x


def stages(
    depths: Sequence[int], largest_rate: float, after: str, until: str
) -> Iterator[tuple[int, str, int, tuple[float, ...]]]:
    """The stages behind the tap `after` up to the tap `until`, of a network of four with so many
    blocks: of each its number from 0, its tap, the number of its first block, and the rates of
    stochastic depth of its blocks, which grow evenly over the network from 0 to `largest_rate`."""
    rates = np.linspace(0, largest_rate, sum(depths))
    for stage, depth in enumerate(depths):
        tap, first = f"stage{stage + 2}", sum(depths[:stage])
        if after < tap <= until:
            yield stage, tap, first, tuple(rates[first : first + depth].tolist())


# Keeps stochastic depth's randomness apart from that of the views, drawn from the same key.
_DEPTH = 0x44455054


def stochastic_depth(
    branch: jax.Array, keys: jax.Array | None, rate: float, number: int
) -> jax.Array:
    """A residual branch, left out for some images: Huang et al., arXiv 1603.09382.

    What is left out is a pure function of the image's key and the branch's number, whatever the
    batch and the devices. What stays is divided by its chance, as in timm.

    Args:
        branch: (B, ...).
        keys: (B,), one of (seed, view, id, member, step) per image; None keeps every branch, as at
            test.
        rate: chance of being left out, in [0, 1).
        number: of the branch in its network.
    """
    if keys is None or not rate:
        return branch

    def stays(key):
        key = jax.random.fold_in(jax.random.fold_in(key, _DEPTH), number)
        return jax.random.bernoulli(key, 1 - rate)

    share = (jax.vmap(stays)(keys) / (1 - rate)).astype(branch.dtype)
    return branch * share.reshape(-1, *(1,) * (branch.ndim - 1))


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy, arXiv 1502.03167) as torch computes it.

    Over all axes but the last; `running = 0.9 * running + 0.1 * batch`, the running variance from
    the unbiased batch variance; statistics in float32, the result in `dtype`.

    With `groups` k the statistics are those of k groups of consecutive images, as on k GPUs under
    torch's DataParallel. There the running statistics are the first GPU's; here they are the mean
    over the groups, which has the same expectation and less noise.

    Raises ArgumentError when the batch does not divide into the groups, or a group has one value.
    """

    groups: int
    dtype: Dtype
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[-1]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        scale = self.param("scale", nn.initializers.ones_init(), (channels,))
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,))

        if not train:
            mean, share, bias = self.affine()
            return ((x.astype(jnp.float32) - mean) * share + bias).astype(self.dtype)
        grouped = x.reshape(self._group_shape(x.shape))
        y, mean, var = batch_normalize(grouped, scale, bias, running_mean.value, self.epsilon)
        if not self.is_initializing():
            count = grouped.size // (self.groups * channels)
            unbiased = var * (count / (count - 1))
            for running, batch in ((running_mean, mean), (running_var, unbiased)):
                running.value = 0.9 * running.value + 0.1 * batch.reshape(-1, channels).mean(0)
        return y.reshape(x.shape).astype(self.dtype)

    def affine(self) -> tuple[jax.Array, ...]:
        """(mean, share, bias), (C,) float32, of inference: (x - mean) * share + bias."""
        mean: jax.Array = self.get_variable("batch_stats", "mean")
        var: jax.Array = self.get_variable("batch_stats", "var")
        scale: jax.Array = self.get_variable("params", "scale")
        bias: jax.Array = self.get_variable("params", "bias")
        return mean, lax.rsqrt(var + self.epsilon) * scale, bias

    def _group_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        batch, groups = shape[0], self.groups
        if batch % groups:
            raise ArgumentError(
                f"`x` of {batch} images does not divide into `groups` {groups}: "
                f"choose a multiple of {groups}"
            )
        grouped = (groups, batch // groups, *shape[1:])
        if all(n == 1 for n in grouped[1:-1]):
            raise ArgumentError(
                f"`x` of {batch} images is too small for `groups` {groups}: batch norm needs more "
                "than one value per channel to train, take more images a group"
            )
        return grouped


def conv_norm(conv: Conv | DepthwiseConv, norm: BatchNorm, x: jax.Array, train: bool) -> jax.Array:
    """A convolution, then batch norm in the same dtype: in inference as cheap as the platform has
    it, see `batch_norm.folded`."""
    if train or norm.is_initializing():
        return norm(conv(x), train)
    mean, share, bias = norm.affine()
    return normalized(conv(x, share), mean, share, bias)
