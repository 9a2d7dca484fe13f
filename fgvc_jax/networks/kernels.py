"""What the platforms compute each in its own way: with `convolutions` the one place where a network
asks for one.

Every function here means the same numbers, up to rounding, on all of them. `lax.platform_dependent`
chooses when a program is lowered, so one compiled for a TPU on a laptop is the TPU's. The gradients
are custom: inside them a choice costs no residuals of the forms that were not chosen. What each
form gains was seen in programs compiled for a TPU v5e and an H100 (scripts/BENCHMARKS.md).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

Dtype = Any


def precision(dtype: Dtype) -> lax.Precision:
    """Of products of arrays of `dtype`: float32 means float32.

    By default a GPU rounds the operands of a float32 product to TF32's 10 bits, a TPU to bfloat16.
    """
    return lax.Precision.HIGHEST if dtype == jnp.float32 else lax.Precision.DEFAULT


def on_accelerators(form: Callable, *operands: jax.Array, cpu: Callable) -> Any:
    """`form` of the operands on accelerators, `cpu` of them on the CPU."""
    return lax.platform_dependent(*operands, cpu=cpu, default=form)


def backward_of(form: Callable, **options: int) -> Callable:
    """(operands of a form, dy) -> the gradients of its operands, as JAX makes them."""

    def backward(*operands: Any) -> tuple:
        *saved, dy = operands
        return jax.vjp(partial(form, **options), *saved)[1](dy)

    return backward


# -- batch norm ----------------------------------------------------------------------------------


@jax.custom_vjp
def normalize(
    x: jax.Array, scale: jax.Array, bias: jax.Array, shift: jax.Array
) -> tuple[jax.Array, ...]:
    """Batch norm of each group: x (G,...,C); scale, bias, shift (C,) -> y like x, mean, variance.

    Mean and (biased) variance are (G,1,...,C) float32 and pass no gradient on. The gradient of y is
    written in closed form: two sums over the batch that do not wait for each other.

    An accelerator takes the statistics in one pass over x, as mean and mean square of x - shift,
    with the running mean as shift: half the reads, and over several devices one sum to wait for.
    The variance loses digits by the square of (mean - shift) / deviation, so once the running mean
    has settled a channel is exact whatever its own mean is. In the first steps, while it is still
    zero, a ratio of 30 costs 4e-4 of the variance, a tenth of what bfloat16 rounds off each value:
    that needs no form of its own. The CPU takes two passes, to which one is no gain there.
    """
    return _normalize_forward(x, scale, bias, shift)[0]


def _over_batch(x: jax.Array) -> tuple[int, ...]:
    return tuple(range(1, x.ndim - 1))


def _one_pass(x: jax.Array, shift: jax.Array) -> tuple[jax.Array, jax.Array]:
    offset = x.astype(jnp.float32) - shift
    mean = jnp.mean(offset, _over_batch(x), keepdims=True)
    square = jnp.mean(jnp.square(offset), _over_batch(x), keepdims=True)
    return shift + mean, jnp.maximum(square - jnp.square(mean), 0.0)


def _two_passes(x: jax.Array, shift: jax.Array) -> tuple[jax.Array, jax.Array]:
    del shift
    wide = x.astype(jnp.float32)
    mean = jnp.mean(wide, _over_batch(x), keepdims=True)
    return mean, jnp.mean(jnp.square(wide - mean), _over_batch(x), keepdims=True)


def _normalize_forward(x: jax.Array, scale: jax.Array, bias: jax.Array, shift: jax.Array) -> tuple:
    mean, var = on_accelerators(_one_pass, x, shift, cpu=_two_passes)
    inverse = lax.rsqrt(var + 1e-5)
    y = ((x.astype(jnp.float32) - mean) * (inverse * scale) + bias).astype(x.dtype)
    return (y, mean, var), (x, scale, mean, inverse)


def _normalize_backward(saved: tuple, cotangents: tuple) -> tuple:
    x, scale, mean, inverse = saved
    dy, axes = cotangents[0].astype(jnp.float32), _over_batch(x)
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
        jnp.zeros(channels, jnp.float32),
    )


normalize.defvjp(_normalize_forward, _normalize_backward)


def folded(weights: jax.Array, share: jax.Array) -> jax.Array:
    """Weights (..., C) of a convolution in front of a batch norm in inference, which multiplies by
    `share` (C,): what `normalized` leaves to them.

    To a GPU such a norm is a bias, which cuDNN adds with the convolution, as it does the shortcut
    and the ReLU behind: what comes out is written once and not read again (ResNet-50's forward at
    448 px moves 7.5 instead of 12.0 GB). A TPU fuses all of it anyway, the CPU none of it.
    """
    return lax.platform_dependent(weights, share, cuda=jnp.multiply, default=lambda w, _: w)


def normalized(x: jax.Array, mean: jax.Array, share: jax.Array, bias: jax.Array) -> jax.Array:
    """Batch norm in inference of what `folded` weights made: (x - mean) * share + bias.

    x is (..., C), the others (C,) float32; the result is like x.
    """
    return lax.platform_dependent(x, mean, share, bias, cuda=_add_rest, default=_scale_and_add)


def _scale_and_add(x: jax.Array, mean: jax.Array, share: jax.Array, bias: jax.Array) -> jax.Array:
    return ((x.astype(jnp.float32) - mean) * share + bias).astype(x.dtype)


def _add_rest(x: jax.Array, mean: jax.Array, share: jax.Array, bias: jax.Array) -> jax.Array:
    return x + (bias - mean * share).astype(x.dtype)


# -- layer norm ----------------------------------------------------------------------------------


def variance(x: jax.Array, mean: jax.Array, dtype: Dtype) -> jax.Array:
    """Of the channels around their mean: (...,C) and (...,1) float32 -> (...,1).

    Where x comes from bfloat16, the `dtype`, a GPU takes mean and mean square in one pass over it.
    The variance is off by 1e-7 of the squared mean then, a tenth of the variance that the rounding
    of x has added, however far from zero x is. Elsewhere it takes two passes; on a TPU one would
    move 2 % less and need 5 % more memory (ViT-B/16's step).
    """
    return _around(x, mean) if dtype == jnp.float32 else _variance_of_rounded(x, mean)


def _around(x: jax.Array, mean: jax.Array) -> jax.Array:
    return jnp.mean(jnp.square(x - mean), -1, keepdims=True)


@jax.custom_vjp
def _variance_of_rounded(x: jax.Array, mean: jax.Array) -> jax.Array:
    return lax.platform_dependent(x, mean, cuda=_square_less_mean, default=_around)


def _square_less_mean(x: jax.Array, mean: jax.Array) -> jax.Array:
    square = jnp.mean(jnp.square(x), -1, keepdims=True)
    return jnp.maximum(square - jnp.square(mean), 0.0)


def _variance_forward(x: jax.Array, mean: jax.Array) -> tuple:
    return _variance_of_rounded(x, mean), (x, mean)


def _square_less_mean_backward(x: jax.Array, mean: jax.Array, dy: jax.Array) -> tuple:
    return (x - mean) * (2 / x.shape[-1] * dy), jnp.zeros_like(mean)  # around it the slope is zero


def _around_backward(x: jax.Array, mean: jax.Array, dy: jax.Array) -> tuple:
    return jax.vjp(_around, x, mean)[1](dy)


def _variance_backward(saved: tuple, dy: jax.Array) -> tuple:
    backward = {"cuda": _square_less_mean_backward, "default": _around_backward}
    return lax.platform_dependent(*saved, dy, **backward)


_variance_of_rounded.defvjp(_variance_forward, _variance_backward)


# -- attention -----------------------------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def qkv(
    x: jax.Array, kernel: jax.Array, bias: jax.Array | None, heads: int
) -> tuple[jax.Array, ...]:
    """Queries, keys and values of attention: x (...,D), kernel (D,3D), bias (3D,) -> three
    (...,heads,D/heads).

    One product, of which they are parts. To a TPU it is three, since there each of them is laid out
    for what follows as it is written, and to cut them out takes a copy: a ViT-B/16's step moves
    89.5 instead of 113.5 GB. On a GPU three products read x three times (70.7 instead of 63.5 GB).
    """
    one, three = (partial(form, heads=heads) for form in (_one_product, _three_products))
    return lax.platform_dependent(x, kernel, bias, tpu=three, default=one)


def _one_product(
    x: jax.Array, kernel: jax.Array, bias: jax.Array | None, *, heads: int
) -> tuple[jax.Array, ...]:
    y = jnp.matmul(x, kernel, precision=precision(x.dtype))
    y = y if bias is None else y + bias
    y = y.reshape(*x.shape[:-1], 3, heads, -1)
    return tuple(y[..., part, :, :] for part in range(3))


def _three_products(
    x: jax.Array, kernel: jax.Array, bias: jax.Array | None, *, heads: int
) -> tuple[jax.Array, ...]:
    # Products of the heads' shape: reshaped ones would be copied after all.
    kernel = jnp.moveaxis(kernel.reshape(len(kernel), 3, heads, -1), 1, 0)
    parts = [jnp.tensordot(x, part, 1, precision=precision(x.dtype)) for part in kernel]
    if bias is not None:
        parts = map(jnp.add, parts, bias.reshape(3, heads, -1))
    return tuple(parts)


def _qkv_forward(x: jax.Array, kernel: jax.Array, bias: jax.Array | None, heads: int) -> tuple:
    return qkv(x, kernel, bias, heads), (x, kernel, bias)


def _qkv_backward(heads: int, saved: tuple, dy: tuple[jax.Array, ...]) -> tuple:
    one, three = (backward_of(form, heads=heads) for form in (_one_product, _three_products))
    return lax.platform_dependent(*saved, dy, tpu=three, default=one)


qkv.defvjp(_qkv_forward, _qkv_backward)


# -- GELU ----------------------------------------------------------------------------------------


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU, x times the normal distribution function at x: Hendrycks and Gimpel, arXiv
    1606.08415.

    Flax takes that from erfc, relatively exact where it is tiny. From erf, as torch takes it, it is
    within 2e-7 (of the value above 1) and costs the CPU 0.4 of the time, its gradient 0.65.
    """
    return on_accelerators(_gelu_of_erfc, x, cpu=_gelu_of_erf)


def _gelu_of_erfc(x: jax.Array) -> jax.Array:
    return nn.gelu(x, approximate=False)


def _below(x: jax.Array) -> jax.Array:
    return 0.5 * (1 + lax.erf(x * 0.5**0.5))


def _gelu_of_erf(x: jax.Array) -> jax.Array:
    wide = x.astype(jnp.float32)  # in bfloat16 the sum would leave nothing of small chances
    return (wide * _below(wide)).astype(x.dtype)


def _gelu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return gelu(x), x


def _gelu_of_erfc_backward(x: jax.Array, dy: jax.Array) -> jax.Array:
    return jax.vjp(_gelu_of_erfc, x)[1](dy)[0]


def _gelu_of_erf_backward(x: jax.Array, dy: jax.Array) -> jax.Array:
    wide = x.astype(jnp.float32)
    slope = _below(wide) + wide * jnp.exp(-0.5 * wide * wide) * (2 * math.pi) ** -0.5
    return (dy * slope).astype(x.dtype)


def _gelu_backward(x: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    return (on_accelerators(_gelu_of_erfc_backward, x, dy, cpu=_gelu_of_erf_backward),)


gelu.defvjp(_gelu_forward, _gelu_backward)


# -- the end of a residual block -----------------------------------------------------------------


@jax.custom_vjp
def add_relu(x: jax.Array, y: jax.Array) -> jax.Array:
    """relu(x + y), the end of a residual block: the same numbers for finite x and y, NaN stays NaN.

    XLA recomputes a maximum of one array wherever it is used, on the CPU with all the additions of
    a chain of blocks before it. A sum of two arrays that a product reads it writes once. So it does
    on a GPU, unless nobody asks for a gradient: then cuDNN does the plain form with the convolution
    before, see `folded`. On a TPU that is the cheaper one. The gradient takes its mask from the
    result, wherever it runs, for the same reason.
    """
    return on_accelerators(_relu_of_sum, x, y, cpu=_sum_of_maximum)


def _relu_of_sum(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.maximum(x + y, 0)


def _sum_of_maximum(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.maximum(x, -y) + y


def _add_relu_forward(x: jax.Array, y: jax.Array) -> tuple:
    result = lax.platform_dependent(x, y, tpu=_relu_of_sum, default=_sum_of_maximum)
    return result, result


def _add_relu_backward(result: jax.Array, cotangent: jax.Array) -> tuple:
    masked = jnp.where(result > 0, cotangent, 0)
    return masked, masked


add_relu.defvjp(_add_relu_forward, _add_relu_backward)


# -- max pooling ---------------------------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool(x: jax.Array, window: int, stride: int, padding: int) -> jax.Array:
    """Max pooling (B,H,W,C) -> (B,h,w,C), borders filled with -inf, sizes rounded down: as torch's.

    The gradient goes to the first of equal maxima, as in torch, and a NaN stays one: a network that
    has gone wrong must not look healthy after pooling. A TPU pools by XLA's windows, and a GPU
    where nobody asks for a gradient. Elsewhere columns and rows are pooled in turn, each by a chain
    of selections between strided slices, whose gradient is a sum in a fixed order: the same bits
    every time, where --xla_gpu_deterministic_ops refuses XLA's select-and-scatter.
    """
    sizes = {"window": window, "stride": stride, "padding": padding}
    windows, slices = partial(_pool_windows, **sizes), partial(_pool_slices, **sizes)
    return on_accelerators(windows, x, cpu=slices)


def _max_pool_forward(x: jax.Array, window: int, stride: int, padding: int) -> tuple:
    sizes = {"window": window, "stride": stride, "padding": padding}
    windows, slices = partial(_pool_windows, **sizes), partial(_pool_slices, **sizes)
    return jax.vjp(lambda x: lax.platform_dependent(x, tpu=windows, default=slices), x)


def _max_pool_backward(window: int, stride: int, padding: int, pull: Callable, dy: jax.Array):
    return pull(dy)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _pool_windows(x: jax.Array, *, window: int, stride: int, padding: int) -> jax.Array:
    return lax.reduce_window(
        x,
        -jnp.inf,
        lax.max,
        (1, window, window, 1),
        (1, stride, stride, 1),
        ((0, 0), (padding, padding), (padding, padding), (0, 0)),
    )


def _pool_slices(x: jax.Array, *, window: int, stride: int, padding: int) -> jax.Array:
    return _pool_axis(_pool_axis(x, 2, window, stride, padding), 1, window, stride, padding)


def _pool_axis(x: jax.Array, axis: int, window: int, stride: int, padding: int) -> jax.Array:
    edges = [(0, 0, 0)] * x.ndim
    edges[axis] = (padding, padding, 0)
    x = lax.pad(x, jnp.array(-jnp.inf, x.dtype), edges)
    count = (x.shape[axis] - window) // stride + 1
    span = (count - 1) * stride + 1

    best = lax.slice_in_dim(x, 0, span, stride, axis)
    for start in range(1, window):
        other = lax.slice_in_dim(x, start, start + span, stride, axis)
        best = jnp.where((other > best) | jnp.isnan(other), other, best)
    return best
