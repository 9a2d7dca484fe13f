"""GELU against SciPy in float64, relu(x + y) against itself to the last bit: every platform's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from platforms import waves
from scipy import special

from fgvc_jax.networks.kernels.activations import add_relu, gelu


def test_gelu_and_its_gradient(platform):
    """Within 1e-6 of float64's, of the value's size where that is above 1."""
    x = np.linspace(-12, 12, 4801)
    below = special.ndtr(x)
    y, gradient = jax.vjp(jax.jit(lambda x: gelu(x)), jnp.float32(x))
    np.testing.assert_allclose(y, x * below, rtol=1e-6, atol=1e-6)
    slope = below + x * np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(gradient(jnp.full(x.shape, 2.0))[0], 2 * slope, atol=2e-6)


def test_gelu_in_bfloat16_is_that_of_float32_rounded():
    """On the CPU, where it is ours."""
    x = jnp.linspace(-4, 4, 801).astype(jnp.bfloat16)
    y, gradient = jax.vjp(gelu, x)
    wide, its = jax.vjp(gelu, x.astype(jnp.float32))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.float32(y), np.float32(wide.astype(jnp.bfloat16)))
    got, expected = (pull(jnp.ones_like(at))[0] for pull, at in ((gradient, y), (its, wide)))
    np.testing.assert_array_equal(np.float32(got), np.float32(expected.astype(jnp.bfloat16)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_add_relu_is_relu_of_the_sum_to_the_last_bit(platform, dtype):
    x, y = jnp.asarray(waves(4096), dtype), jnp.asarray(3 * waves(4096)[::-1], dtype)
    y = y.at[:100].set(-x[:100])  # sums of exactly 0
    x = x.at[100].set(jnp.nan)
    dy = jnp.asarray(waves(4096) + 2, dtype)
    got, gradient = jax.vjp(add_relu, x, y)
    expected, plain = jax.vjp(lambda x, y: nn.relu(x + y), x, y)
    np.testing.assert_array_equal(np.float32(got), np.float32(expected))
    assert np.isnan(got[100])
    for ours, its in zip(gradient(dy), plain(dy), strict=True):
        np.testing.assert_array_equal(ours, its)
