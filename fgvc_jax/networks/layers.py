"""Building blocks with torch's semantics, so that imported weights mean here what they mean there.

Layout is NHWC. Parameters are float32 whatever the compute dtype `dtype` is.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from fgvc_jax.errors import UserError

Dtype = Any

# torchvision's start of convolutions in front of a ReLU: He et al., arXiv 1502.01852, by fan_out.
he_normal_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def uniform_fan_in(fan_in: int) -> nn.initializers.Initializer:
    """torch's default for weights and biases alike: uniform in +-1/sqrt(fan_in)."""
    bound = fan_in**-0.5

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def linear(features: int, fan_in: int, name: str) -> nn.Dense:
    """A float32 layer (..., fan_in) -> (..., features) that starts as torch's `nn.Linear` does."""
    init = uniform_fan_in(fan_in)
    return nn.Dense(features, kernel_init=init, bias_init=init, dtype=jnp.float32, name=name)


@jax.custom_vjp
def pointwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """(...,I) times (I,O), with the kernel's gradient as x^T dy or (dy^T x)^T.

    On the CPU the transposed operand is written out, strided, and what it is made from is computed
    once more in that write: for the wide x of a residual block, the additions of all blocks before.
    So the narrower one is transposed; JAX always takes dy.
    """
    return x @ kernel


def _pointwise_forward(x: jax.Array, kernel: jax.Array) -> tuple:
    return x @ kernel, (x, kernel)


def _pointwise_backward(saved: tuple, dy: jax.Array) -> tuple:
    x, kernel = saved
    axes = tuple(range(x.ndim - 1))
    if x.shape[-1] <= dy.shape[-1]:
        dkernel = jnp.tensordot(x, dy, (axes, axes))
    else:
        dkernel = jnp.tensordot(dy, x, (axes, axes)).T
    return dy @ kernel.T, dkernel


pointwise.defvjp(_pointwise_forward, _pointwise_backward)


class Conv(nn.Module):
    """Square convolution with torch's symmetric padding: (B,H,W,I) -> (B,h,w,features) in `dtype`.

    With kernel size 1 it is a strided slice and a dot: the same numbers, and on the CPU much faster
    gradients. The kernel is always (k,k,I,O).
    """

    features: int
    kernel_size: int
    stride: int
    padding: int
    use_bias: bool
    dtype: Dtype
    kernel_init: nn.initializers.Initializer = he_normal_fan_out
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size, stride, pad = self.kernel_size, self.stride, self.padding
        shape = (size, size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        x = x.astype(self.dtype)
        if size == 1 and pad == 0:
            x = pointwise(x[:, ::stride, ::stride], kernel[0, 0])
        else:
            x = lax.conv_general_dilated(
                x,
                kernel,
                window_strides=(stride, stride),
                padding=((pad, pad), (pad, pad)),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
        if self.use_bias:
            x = x + self.param("bias", self.bias_init, (self.features,)).astype(self.dtype)
        return x


@jax.custom_vjp
def normalize(x: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple[jax.Array, ...]:
    """Batch norm of each group: x (G,...,C), scale and bias (C,) -> y like x, and the statistics.

    Mean and (biased) variance are (G,1,...,C) float32 and pass no gradient on. The gradient of y is
    written in closed form: two sums over the batch, where autodiff of the two-pass variance needs
    four and one more array of the size of x.
    """
    return _normalize_forward(x, scale, bias)[0]


def _normalize_forward(x: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple:
    wide, axes = x.astype(jnp.float32), tuple(range(1, x.ndim - 1))
    # Two passes: the difference of mean squares loses digits where a channel hardly varies, enough
    # to make gradients depend on how many devices share the sum.
    mean = jnp.mean(wide, axes, keepdims=True)
    var = jnp.mean(jnp.square(wide - mean), axes, keepdims=True)
    inverse = lax.rsqrt(var + 1e-5)
    y = ((wide - mean) * (inverse * scale) + bias).astype(x.dtype)
    return (y, mean, var), (x, scale, mean, inverse)


def _normalize_backward(saved: tuple, cotangents: tuple) -> tuple:
    x, scale, mean, inverse = saved
    dy, axes = cotangents[0].astype(jnp.float32), tuple(range(1, x.ndim - 1))
    centred = x.astype(jnp.float32) - mean
    dbias = jnp.sum(dy, axes, keepdims=True)
    dscale = jnp.sum(dy * centred, axes, keepdims=True) * inverse
    share = inverse * scale
    count = x.size // (x.shape[0] * x.shape[-1])
    dx = share * (dy - dbias / count) - centred * (share * inverse * dscale / count)
    channels = x.shape[-1]
    return (
        dx.astype(x.dtype),
        dscale.reshape(-1, channels).sum(0),
        dbias.reshape(-1, channels).sum(0),
    )


normalize.defvjp(_normalize_forward, _normalize_backward)


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy, arXiv 1502.03167) as torch computes it.

    Over all axes but the last; eps 1e-5; `running = 0.9 * running + 0.1 * batch`, the running
    variance from the unbiased batch variance; statistics in float32, the result in `dtype`.

    With `groups` k the statistics are those of k groups of consecutive images, as on k GPUs under
    torch's DataParallel. There the running statistics are the first GPU's; here they are the mean
    over the groups, which has the same expectation and less noise.

    Raises UserError when the batch does not divide into the groups, or a group has a single value.
    """

    groups: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[-1]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        scale = self.param("scale", nn.initializers.ones_init(), (channels,))
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,))

        if not train:
            share = lax.rsqrt(running_var.value + 1e-5) * scale
            y = (x.astype(jnp.float32) - running_mean.value) * share + bias
            return y.astype(self.dtype)
        grouped = x.reshape(self._group_shape(x.shape))
        y, mean, var = normalize(grouped, scale, bias)
        if not self.is_initializing():
            count = grouped.size // (self.groups * channels)
            unbiased = var * (count / (count - 1))
            for running, batch in ((running_mean, mean), (running_var, unbiased)):
                running.value = 0.9 * running.value + 0.1 * batch.reshape(-1, channels).mean(0)
        return y.reshape(x.shape).astype(self.dtype)

    def _group_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        batch, groups = shape[0], self.groups
        if batch % groups:
            raise UserError(
                f"a batch of {batch} images does not divide into {groups} batch-norm groups: "
                "choose a batch size that is a multiple of network.batch_norm_groups"
            )
        grouped = (groups, batch // groups, *shape[1:])
        if all(n == 1 for n in grouped[1:-1]):
            raise UserError(
                "batch norm needs more than one value per channel to train: "
                f"raise the batch size above {batch} or lower network.batch_norm_groups ({groups})"
            )
        return grouped


@jax.custom_vjp
def add_relu(x: jax.Array, y: jax.Array) -> jax.Array:
    """relu(x + y), the end of a residual block: the same numbers for finite x and y, NaN stays NaN.

    XLA recomputes a maximum of one array wherever it is used, on the CPU with all the additions of
    a chain of blocks before it. A sum of two arrays that a dot reads it writes once. The gradient
    takes its mask from the result for the same reason.
    """
    return jnp.maximum(x, -y) + y


def _add_relu_forward(x: jax.Array, y: jax.Array) -> tuple:
    result = add_relu(x, y)
    return result, result


def _add_relu_backward(result: jax.Array, cotangent: jax.Array) -> tuple:
    masked = jnp.where(result > 0, cotangent, 0)
    return masked, masked


add_relu.defvjp(_add_relu_forward, _add_relu_backward)


def max_pool(x: jax.Array, window: int, stride: int, padding: int) -> jax.Array:
    """Max pooling (B,H,W,C) -> (B,h,w,C), borders filled with -inf, sizes rounded down: as torch's.

    Columns and rows are pooled in turn, each by a chain of selections between strided slices. So
    the gradient goes to the first of equal maxima, as in torch, and is a sum in a fixed order: the
    same bits every time, where --xla_gpu_deterministic_ops refuses XLA's select-and-scatter.
    """
    return _max_pool_axis(_max_pool_axis(x, 2, window, stride, padding), 1, window, stride, padding)


def _max_pool_axis(x: jax.Array, axis: int, window: int, stride: int, padding: int) -> jax.Array:
    edges = [(0, 0, 0)] * x.ndim
    edges[axis] = (padding, padding, 0)
    x = lax.pad(x, jnp.array(-jnp.inf, x.dtype), edges)
    count = (x.shape[axis] - window) // stride + 1
    span = (count - 1) * stride + 1

    best = lax.slice_in_dim(x, 0, span, stride, axis)
    for start in range(1, window):
        other = lax.slice_in_dim(x, start, start + span, stride, axis)
        # `|` keeps NaN: a network that has gone wrong must not look healthy after pooling.
        best = jnp.where((other > best) | jnp.isnan(other), other, best)
    return best
