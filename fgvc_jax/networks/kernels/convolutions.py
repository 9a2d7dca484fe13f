"""Convolutions that the platforms compute each in its own way: see `kernels`."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from fgvc_jax.networks.kernels.platforms import backward_of, on_accelerators, precision

# -- 1x1 convolution -----------------------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def pointwise(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """A 1x1 convolution: (B,H,W,I) and (I,O) -> (B,h,w,O), h the least integer >= H/stride.

    To an accelerator it is a convolution, which it lays out and fuses as the others around it; a
    TPU likes one of a strided slice better than a strided one (1.2 GB of ResNet-50's 55 a step). On
    the CPU it is a dot, whose gradients are much faster than a convolution's, and the kernel's
    gradient is x^T dy or (dy^T x)^T: there the transposed operand is written out, strided, and what
    it is made from is computed once more in that write; for the wide x of a residual block, the
    additions of all blocks before. So the narrower one is transposed; JAX always takes dy.
    """
    cpu, tpu, default = (partial(form, stride=stride) for form in (_dot, _slice, _convolve))
    return lax.platform_dependent(x, kernel, cpu=cpu, tpu=tpu, default=default)


def _convolve(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel[None, None],
        window_strides=(stride, stride),
        padding="VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision(x.dtype),
    )


def _slice(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    return _convolve(x[:, ::stride, ::stride], kernel, stride=1)


def _dot(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    return jnp.matmul(x[:, ::stride, ::stride], kernel, precision=precision(x.dtype))


def _pointwise_forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple:
    return pointwise(x, kernel, stride), (x, kernel)


def _dot_backward(x: jax.Array, kernel: jax.Array, dy: jax.Array, *, stride: int) -> tuple:
    x, spread = jax.vjp(lambda x: x[:, ::stride, ::stride], x)
    axes = tuple(range(x.ndim - 1))
    if x.shape[-1] <= dy.shape[-1]:
        dkernel = jnp.tensordot(x, dy, (axes, axes), precision=precision(x.dtype))
    else:
        dkernel = jnp.tensordot(dy, x, (axes, axes), precision=precision(x.dtype)).T
    return *spread(_dot(dy, kernel.T, stride=1)), dkernel


def _pointwise_backward(stride: int, saved: tuple, dy: jax.Array) -> tuple:
    tpu, default = (backward_of(form, stride=stride) for form in (_slice, _convolve))
    cpu = partial(_dot_backward, stride=stride)
    return lax.platform_dependent(*saved, dy, cpu=cpu, tpu=tpu, default=default)


pointwise.defvjp(_pointwise_forward, _pointwise_backward)


# -- convolution of patches ----------------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def patchwise(x: jax.Array, kernel: jax.Array, size: int) -> jax.Array:
    """A convolution whose stride is its size, so that windows touch and do not overlap: (B,H,W,I)
    and (size,size,I,O) -> (B,h,w,O), h the greatest integer <= H/size.

    On the CPU the windows are written one after the other for a dot, as in `pointwise`: 0.5 to 0.75
    of the time with both gradients, for the places between the stages of a ConvNeXt.
    """
    cpu, default = (partial(form, size=size) for form in (_dot_patches, _convolve_patches))
    return on_accelerators(default, x, kernel, cpu=cpu)


def _convolve_patches(x: jax.Array, kernel: jax.Array, *, size: int) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(size, size),
        padding="VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision(x.dtype),
    )


def _dot_patches(x: jax.Array, kernel: jax.Array, *, size: int) -> jax.Array:
    batch, height, width, inputs = x.shape
    rows, columns = height // size, width // size
    x = x[:, : rows * size, : columns * size]
    x = x.reshape(batch, rows, size, columns, size, inputs).swapaxes(2, 3)
    x = x.reshape(batch, rows, columns, size * size * inputs)
    return jnp.matmul(x, kernel.reshape(-1, kernel.shape[-1]), precision=precision(x.dtype))


def _patchwise_forward(x: jax.Array, kernel: jax.Array, size: int) -> tuple:
    return patchwise(x, kernel, size), (x, kernel)


def _patchwise_backward(size: int, saved: tuple, dy: jax.Array) -> tuple:
    cpu, default = (backward_of(form, size=size) for form in (_dot_patches, _convolve_patches))
    return on_accelerators(default, *saved, dy, cpu=cpu)


patchwise.defvjp(_patchwise_forward, _patchwise_backward)


# -- depthwise convolution -----------------------------------------------------------------------

WIDE = 7  # the size of windows that are summed up by groups of channels, or more


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Every channel convolved by itself: (B,H,W,C) and (k,k,C), k odd and >= stride -> (B,h,w,C),
    h the least integer >= H/stride, zeros around: TensorFlow's SAME, with one more at the end where
    it is odd.

    An accelerator has it as a grouped convolution, which XLA's CPU computes without vectors, 15
    times slower than the shifted, weighted images summed up. The gradient of the kernel adds up
    the k x k neighbourhoods of one position after the other, in sums that fit the cache: 35 times
    faster there than one reduction for each of its places.

    The sum stands alone: else XLA repeats what x is made of for every shift, and the sum in the
    norm behind, in the activation and in both their gradients: six times, a fifth of a step of
    EfficientNet-Lite0. Windows of 7 and more are summed up in a loop over 16 channels, a line of
    the cache; of smaller ones such a loop is not vectorised (3x3: 2 to 8 times slower than all
    channels at once, with the same bits).
    """
    default, shifted = (partial(form, stride=stride) for form in (grouped, _shifted))
    return on_accelerators(default, x, kernel, cpu=shifted)


def grouped(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    """`depthwise` as a grouped convolution, which is quick to trace."""
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        window_strides=(stride, stride),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
        precision=precision(x.dtype),
    )


def _edges(sides: tuple[int, ...], size: int, stride: int) -> list[tuple[int, int]]:
    """Zeros before and behind rows and columns: SAME."""
    return lax.padtype_to_pads(sides, (size, size), (stride, stride), "SAME")


def _around(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return jnp.pad(x, ((0, 0), *_edges(x.shape[1:3], len(kernel), stride), (0, 0)))


def _shifted(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    height, width = (-(-side // stride) for side in x.shape[1:3])
    size = len(kernel)

    def add(wide, kernel):
        def seen(i, j):
            rows, columns = i + (height - 1) * stride + 1, j + (width - 1) * stride + 1
            return _cut(wide, (i, j), (rows, columns), (stride, stride))

        return _weighed(kernel, {(i, j): seen(i, j) for i in range(size) for j in range(size)})

    return _by_itself(add, _around(x, kernel, stride), kernel, (height, width))


# Operations of `lax`, since a network is traced at each start of a command: NumPy's take five times
# as long to trace.


def _cut(x: jax.Array, low: tuple[int, int], high: tuple[int, int], step: tuple[int, int]):
    """Rows and columns of images (B,H,W,C)."""
    batch, channels = x.shape[0], x.shape[3]
    return lax.slice(x, (0, *low, 0), (batch, *high, channels), (1, *step, 1))


def _weighed(kernel: jax.Array, images: dict[tuple[int, int], jax.Array]) -> jax.Array:
    """The sum of images (B,h,w,C), each times the weights (C,) at its place in a kernel (k,k,C)."""
    total = lax.full_like(next(iter(images.values())), 0)
    for (i, j), image in images.items():
        weight = lax.squeeze(lax.slice(kernel, (i, j, 0), (i + 1, j + 1, kernel.shape[2])), (0, 1))
        total = lax.add(total, lax.mul(image, lax.broadcast_in_dim(weight, image.shape, (3,))))
    return total


def _by_itself(
    add: Callable, wide: jax.Array, kernel: jax.Array, sides: tuple[int, int]
) -> jax.Array:
    """What `add(wide, kernel)` sums up in float32 to images of these sides, fused with nothing
    before or behind."""

    def narrow(*some):
        return add(*(a.astype(jnp.float32) for a in some)).astype(wide.dtype)

    shape = (wide.shape[0], *sides, wide.shape[3])
    if len(kernel) < WIDE:
        # XLA drops its optimization barriers before it fuses. It fuses nothing into a branch.
        def broken(*_):
            return jnp.full(shape, jnp.nan, wide.dtype)

        return lax.cond(jnp.isnan(kernel[0, 0, 0]), broken, narrow, wide, kernel)
    channels = wide.shape[-1]
    group = min(16, channels)

    def some(number, total):
        first = jnp.minimum(number * group, channels - group)  # the last two groups may overlap
        y = narrow(*(lax.dynamic_slice_in_dim(a, first, group, -1) for a in (wide, kernel)))
        return lax.dynamic_update_slice_in_dim(total, y, first, -1)

    return lax.fori_loop(0, -(-channels // group), some, jnp.zeros(shape, wide.dtype))


def _depthwise_forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple:
    return depthwise(x, kernel, stride), (x, kernel)


def _shifted_backward(x: jax.Array, kernel: jax.Array, dy: jax.Array, *, stride: int) -> tuple:
    batch, height, width, channels = dy.shape
    wide, size = _around(x, kernel, stride), kernel.shape[0]

    def add(position, total):
        row, column = stride * (position // width), stride * (position % width)
        around = lax.dynamic_slice(wide, (0, row, column, 0), (batch, size, size, channels))
        there = position // width, position % width
        change = lax.dynamic_slice(dy, (0, *there, 0), (batch, 1, 1, channels))
        return total + around.astype(jnp.float32) * change

    # One sum per image, so that the images may be divided over devices.
    total = jnp.zeros((batch, size, size, channels), jnp.float32)
    total = lax.fori_loop(0, height * width, add, total).sum(0)
    return _spread(dy, kernel, x.shape, stride), total.astype(kernel.dtype)


def _spread(dy: jax.Array, kernel: jax.Array, shape: tuple, stride: int) -> jax.Array:
    """The gradient of x: of every of the stride x stride places that a window steps over at once, a
    convolution with every stride-th weight."""
    if stride == 1:
        return _shifted(dy, kernel[::-1, ::-1], stride=1)
    size, sides = len(kernel), shape[1:3]
    edges = [before for before, _ in _edges(sides, size, stride)]
    low = (size - 1) // stride
    wide = jnp.pad(dy, ((0, 0), *((low, (stride - 1 + edge) // stride) for edge in edges), (0, 0)))
    height, width, channels = dy.shape[1:]

    def place(row, column):
        (down, i), (right, j) = (
            divmod(n + edge, stride) for n, edge in zip((row, column), edges, strict=True)
        )

        def add(wide, kernel):
            def seen(n, m):
                top, left = low + down - n, low + right - m
                return _cut(wide, (top, left), (top + height, left + width), (1, 1))

            return _weighed(
                kernel,
                {
                    (i + n * stride, j + m * stride): seen(n, m)
                    for n in range((size - 1 - i) // stride + 1)
                    for m in range((size - 1 - j) // stride + 1)
                },
            )

        return _by_itself(add, wide, kernel, (height, width))

    steps = range(stride)
    y = jnp.stack([jnp.stack([place(row, column) for column in steps], 3) for row in steps], 2)
    whole = y.reshape(shape[0], height * stride, width * stride, channels)
    return whole[:, : sides[0], : sides[1]]


def _depthwise_backward(stride: int, saved: tuple, dy: jax.Array) -> tuple:
    cpu = partial(_shifted_backward, stride=stride)
    return on_accelerators(backward_of(grouped, stride=stride), *saved, dy, cpu=cpu)


depthwise.defvjp(_depthwise_forward, _depthwise_backward)
