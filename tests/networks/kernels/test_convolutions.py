"""Convolutions against NumPy in float64: every platform's, on the CPU."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import first_quick
from platforms import lowered, waves

from fgvc_jax.networks.kernels.convolutions import depthwise, patchwise, pointwise


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("inputs", "features"), [(3, 5), (5, 3), (4, 4)])
def test_pointwise_gradient_whichever_side_is_narrower(platform, inputs, features, stride):
    x, kernel = waves(2, 3, 4, inputs), waves(inputs, features)
    seen = x[:, ::stride, ::stride]
    dy = waves(*seen.shape[:3], features) + 1
    product = jax.jit(lambda x, kernel: pointwise(x, kernel, stride))  # traced for each platform
    y, gradient = jax.vjp(product, jnp.float32(x), jnp.float32(kernel))
    dx, dkernel = gradient(jnp.float32(dy))
    spread = np.zeros_like(x)
    spread[:, ::stride, ::stride] = dy @ kernel.T
    np.testing.assert_allclose(y, seen @ kernel, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dx, spread, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dkernel, np.einsum("bhwi,bhwo->io", seen, dy), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("size", "side"), [(2, (4, 6)), (2, (7, 5)), (4, (9, 4)), (3, (3, 3))])
def test_patchwise_convolution_and_its_gradients(platform, size, side):
    """What is left over at the lower and right border is not seen."""
    x, kernel = waves(2, *side, 3), waves(size, size, 3, 5)
    rows, columns = side[0] // size, side[1] // size
    dy = waves(2, rows, columns, 5) + 1
    expected, dx, dkernel = np.zeros_like(dy), np.zeros_like(x), np.zeros_like(kernel)
    for i in range(size):
        for j in range(size):
            place = np.s_[:, i : rows * size : size, j : columns * size : size]
            expected += x[place] @ kernel[i, j]
            dx[place] = dy @ kernel[i, j].T
            dkernel[i, j] = np.einsum("bhwi,bhwo->io", x[place], dy)
    form = jax.jit(lambda x, kernel: patchwise(x, kernel, size))
    y, gradient = jax.vjp(form, jnp.float32(x), jnp.float32(kernel))
    for a, b in zip((y, *gradient(jnp.float32(dy))), (expected, dx, dkernel), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5)


CASES = [  # size of the kernel, of the map, channels, stride
    (3, (4, 3), 16, 1),
    (7, (2, 2), 32, 1),
    (3, (3, 5), 37, 1),
    (3, (6, 5), 3, 2),
    (5, (2, 1), 3, 2),
    (7, (5, 8), 3, 1),
    (7, (3, 5), 37, 1),
    (5, (8, 7), 20, 2),
    (7, (6, 5), 20, 2),
    (3, (7, 4), 3, 3),
]


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("size", "side", "channels", "stride"), first_quick(CASES, 5))
def test_depthwise_convolution_and_its_gradients(platform, size, side, channels, stride):
    """The kernel may be larger than the map; groups of channels may overlap. Zeros around are
    TensorFlow's SAME: of an odd number one more is at the end."""
    rows, columns = (-(-n // stride) for n in side)
    x, kernel = waves(2, *side, channels), waves(size, size, channels)
    dy = waves(2, rows, columns, channels) + 1
    edges = []
    for n, out in zip(side, (rows, columns), strict=True):
        whole = max((out - 1) * stride + size - n, 0)
        edges.append((whole // 2, whole - whole // 2))
    wide = np.pad(x, ((0, 0), *edges, (0, 0)))
    expected, dkernel, dwide = np.zeros_like(dy), np.zeros_like(kernel), np.zeros_like(wide)
    for i in range(size):
        for j in range(size):
            place = (
                np.s_[:, i:, j:],
                np.s_[:, : rows * stride : stride, : columns * stride : stride],
            )
            seen = wide[place[0]][place[1]]
            expected += seen * kernel[i, j]
            dkernel[i, j] = (seen * dy).sum((0, 1, 2))
            dwide[place[0]][place[1]] += dy * kernel[i, j]
    form = jax.jit(lambda x, kernel: depthwise(x, kernel, stride))
    y, gradient = jax.vjp(form, jnp.float32(x), jnp.float32(kernel))
    got = y, *gradient(jnp.float32(dy))
    (top, _), (left, _) = edges
    dx = dwide[:, top : top + side[0], left : left + side[1]]
    for a, b in zip(got, (expected, dx, dkernel), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("platform_name", ["cpu", "cuda", "tpu"])
def test_a_depthwise_convolution_is_a_grouped_one_on_accelerators_alone(platform_name):
    text = lowered(lambda x, k: depthwise(x, k, 2), platform_name, (2, 5, 4, 3), (3, 3, 3))
    assert ("stablehlo.convolution" in text) == (platform_name != "cpu")


@pytest.mark.parametrize(("size", "loops"), [(3, 1), (5, 1), (7, 3)])
def test_wide_depthwise_sums_are_loops(size, loops):
    """Of windows of 7 they are loops over groups of channels, as the kernel's gradient is one over
    positions; of smaller ones such loops are not vectorised."""
    text = lowered(depthwise, "cpu", (2, 5, 4, 3), (size, size, 3))
    assert text.count("stablehlo.while") == loops


@pytest.mark.parametrize("size", [3, 5])
def test_depthwise_sums_are_computed_once_for_all_who_use_them(size):
    """XLA's fusion would repeat them for the norm's mean, its variance and what comes behind."""

    def normalised(x, kernel):
        y = depthwise(x, kernel)
        mean = y.mean((0, 1, 2))
        return jnp.maximum(y - mean, 0), jnp.square(y - mean).mean((0, 1, 2))

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 9, 9, 3), (size, size, 3))]
    text = jax.jit(normalised).lower(*shapes).compile().as_text()
    assert size**2 <= text.count(" multiply(") < 2 * size**2


@pytest.mark.slow
@pytest.mark.parametrize("size", [3, 7])
def test_depthwise_convolutions_of_stacked_networks(size):
    x, kernels = waves(3, 2, 5, 4, 3), waves(3, size, size, 3)
    stacked = jax.vmap(depthwise)(x, kernels)
    for each in zip(stacked, map(depthwise, x, kernels), strict=True):
        np.testing.assert_allclose(*each, rtol=1e-5, atol=1e-6)


def test_depthwise_gradient_of_the_kernel_adds_up_in_float32():
    """On the CPU, where sums of bfloat16 would stop growing at 256."""
    x = jnp.ones((1, 64, 64, 1), jnp.bfloat16)
    _, gradient = jax.vjp(depthwise, x, jnp.ones((3, 3, 1), jnp.bfloat16))
    assert gradient(x)[1][1, 1, 0] == 64 * 64


@pytest.mark.parametrize("size", first_quick([7, 3]))
@pytest.mark.parametrize("stride", first_quick([1, 2]))
def test_depthwise_convolution_in_bfloat16_adds_up_in_float32(stride, size):
    """49 terms were rounded one after the other: 7 times the grouped form's error."""
    form = partial(depthwise, stride=stride)
    x, kernel = (jnp.bfloat16(waves(*shape)) for shape in ((2, 9, 9, 16), (size, size, 16)))
    exact, pull = jax.vjp(form, x.astype(jnp.float32), kernel.astype(jnp.float32))
    y, pulled = jax.vjp(form, x, kernel)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))
    dx = pull(exact.astype(jnp.bfloat16).astype(jnp.float32))[0]
    np.testing.assert_array_equal(pulled(y)[0], dx.astype(jnp.bfloat16))


@pytest.mark.parametrize(
    ("platform_name", "operation", "there"),
    [("cpu", "dot_general", True), ("cuda", "convolution", True), ("tpu", "dot_general", False)],
)
def test_a_1x1_convolution_is_a_dot_on_the_cpu_alone(platform_name, operation, there):
    text = lowered(pointwise, platform_name, (2, 4, 4, 3), (3, 5))
    assert (f"stablehlo.{operation}" in text) == there


@pytest.mark.parametrize("platform_name", ["cpu", "cuda", "tpu"])
def test_a_convolution_of_patches_is_a_dot_on_the_cpu_alone(platform_name):
    text = lowered(lambda x, k: patchwise(x, k, 2), platform_name, (2, 4, 4, 3), (2, 2, 3, 5))
    for operation, there in (("dot_general", "cpu"), ("convolution", "cuda tpu")):
        assert (f"stablehlo.{operation}" in text) == (platform_name in there)


@pytest.mark.parametrize("platform_name", ["cpu", "cuda", "tpu"])
def test_a_strided_1x1_convolution_is_one_on_gpus_alone(platform_name):
    """Elsewhere it is one of a slice, which the gradient's padding undoes."""
    text = lowered(lambda x, kernel: pointwise(x, kernel, 2), platform_name, (2, 5, 4, 3), (3, 5))
    for operation in ("slice", "pad"):
        assert (f"stablehlo.{operation}" in text) == (platform_name != "cuda")
