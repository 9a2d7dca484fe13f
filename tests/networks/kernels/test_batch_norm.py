"""Batch norm and layer norm against NumPy in float64: every platform's form, on the CPU."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import first_quick
from platforms import waves

from fgvc_jax.networks.kernels.batch_norm import batch_normalize, variance
from fgvc_jax.networks.layers import BatchNorm, Conv, conv_norm


def statistics_error(values, shift):
    """Largest relative error of the variance, and of y's gradient, against float64's."""
    x = np.float32(values)
    channels = x.shape[-1]
    exact, dy = x.astype(np.float64), waves(*x.shape)
    centred = exact - exact.mean(0)
    deviation = np.sqrt(centred.var(0) + 1e-5)
    unit = centred / deviation
    dx = (dy - dy.mean(0) - unit * (dy * unit).mean(0)) / deviation

    def run(x, shift):
        ones, zeros = jnp.ones(channels), jnp.zeros(channels)
        y, gradient, (_, var) = jax.vjp(
            lambda x: (lambda y, *rest: (y, rest))(*batch_normalize(x[None], ones, zeros, shift)),
            x,
            has_aux=True,
        )
        return var, gradient(jnp.float32(dy)[None])[0]

    var, gradient = jax.jit(run)(x, jnp.full(channels, shift, jnp.float32))
    return (
        np.abs(var.ravel() / centred.var(0) - 1).max(),
        np.abs(gradient - dx).max() / np.abs(dx).max(),
    )


@pytest.mark.sampled(2)
@pytest.mark.slow
def test_statistics_are_exact_far_from_zero_where_the_running_mean_has_settled(platform):
    """Channels whose mean is 1,000 times their deviation, a running mean 0.1 deviations off."""
    values = 1000 + np.random.default_rng(0).normal(size=(25_000, 8))
    error, gradient_error = statistics_error(values, shift=1000.1)
    assert error < 1e-6
    assert gradient_error < 1e-3  # the values themselves are rounded to 6e-5 deviations


def test_statistics_in_the_first_steps_while_the_running_mean_is_zero(platform):
    values = 30 + np.random.default_rng(0).normal(size=(25_000, 8))
    error, gradient_error = statistics_error(values, shift=0.0)
    assert error < (1e-6 if platform == "cpu" else 1e-3)  # bfloat16 rounds to 4e-3
    assert gradient_error < 1e-3


def test_a_constant_channel_keeps_a_variance_of_zero(platform):
    x = jnp.full((1, 1000, 2), 0.1)
    y, _, var = batch_normalize(x, jnp.ones(2), jnp.array([0.5, -0.5]), jnp.zeros(2))
    assert (var >= 0).all()
    np.testing.assert_allclose(var, 0, atol=1e-7)
    np.testing.assert_allclose(y, np.broadcast_to([0.5, -0.5], x.shape), atol=1e-3)


@pytest.mark.parametrize("ratio", [0, 3, 30, 1000])
def test_a_layer_norm_far_from_zero(platform, ratio):
    """A mean of `ratio` deviations: in bfloat16 the variance is off by less than rounding the
    channels has added to it, in float32 by nothing; and so is the gradient."""
    x = np.random.default_rng(0).normal(size=(64, 768)) + ratio
    for dtype, error in ((jnp.float32, 1e-5), (jnp.bfloat16, 1e-5 + 1e-6 * ratio**2)):
        rounded = jnp.asarray(x, dtype)
        wide = rounded.astype(jnp.float32)
        exact = np.float64(wide)
        centred = exact - exact.mean(-1, keepdims=True)

        def of_rows(wide, dtype=dtype):
            return variance(wide, jnp.mean(wide, -1, keepdims=True), dtype)

        var, pull = jax.vjp(jax.jit(of_rows), wide)
        np.testing.assert_allclose(var[:, 0], centred.var(-1), rtol=error)
        np.testing.assert_allclose(pull(jnp.ones_like(var))[0], 2 / 768 * centred, atol=1e-5)


@pytest.mark.parametrize("platform_name", ["cpu", "cuda", "tpu"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_layer_norm_of_bfloat16_takes_one_pass_on_a_gpu(platform_name, dtype):
    """A second one would subtract the mean from all channels."""

    def of_rows(x):
        wide = x.astype(jnp.float32)
        return variance(wide, jnp.mean(wide, -1, keepdims=True), x.dtype)

    traced = jax.jit(of_rows).trace(jax.ShapeDtypeStruct((4, 8), dtype))
    text = traced.lower(lowering_platforms=(platform_name,)).as_text()
    second = re.search("subtract .* tensor<4x8xf32>", text)
    assert bool(second) == (platform_name != "cuda" or dtype == jnp.float32)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("use_bias", first_quick([True, False]))
@pytest.mark.parametrize("size", first_quick([3, 1]))
def test_a_norm_in_inference_and_its_gradient(platform, size, use_bias):
    """What a GPU folds into the weights, against the convolution and the norm one by one."""
    conv = Conv(5, size, 1, size // 2, use_bias, jnp.float32)
    norm = BatchNorm(1, jnp.float32)

    class Both(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return conv_norm(conv.copy(name="conv"), norm.copy(name="norm"), x, train)

    x = jnp.float32(waves(2, 4, 3, 6))
    variables = Both().init(jax.random.key(0), x, False)
    variables = jax.tree.map(lambda v: v + 0.5 + jnp.float32(waves(*v.shape)) / 3, variables)

    def plain(variables, x):
        y = conv.apply({"params": variables["params"]["conv"]}, x)
        return norm.apply({kind: part["norm"] for kind, part in variables.items()}, y, False)

    got, gradient = jax.vjp(lambda v, x: Both().apply(v, x, False), variables, x)
    expected, its = jax.vjp(plain, variables, x)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    dy = jnp.float32(waves(*expected.shape)) + 1
    for ours, theirs in zip(jax.tree.leaves(gradient(dy)), jax.tree.leaves(its(dy)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
