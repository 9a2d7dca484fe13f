"""Max pooling against Flax's: every platform's form, on the CPU."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from platforms import lowered, waves

from fgvc_jax.networks.kernels.pooling import max_pool


@pytest.mark.parametrize(
    ("size", "window", "stride", "padding"), [(7, 3, 2, 1), (8, 3, 2, 1), (7, 2, 2, 0)]
)
def test_max_pool_and_its_gradient(platform, size, window, stride, padding):
    x = jnp.float32(waves(2, size, size, 3)) - 2  # negative: a border of zeros would win

    def reference(x):
        pads = ((padding, padding), (padding, padding))
        return nn.max_pool(x, (window, window), (stride, stride), pads)

    def ours(x):
        return max_pool(x, window, stride, padding)

    np.testing.assert_array_equal(jax.jit(ours)(x), reference(x))
    gradients = [
        jax.jit(jax.grad(lambda x, pool=pool: (pool(x) ** 3).sum()))(x)
        for pool in (ours, reference)
    ]
    np.testing.assert_allclose(*gradients, rtol=1e-5)


def test_max_pool_gives_the_gradient_to_the_first_of_equals(platform):
    gradient = jax.grad(lambda x: max_pool(x, 2, 2, 0).sum())(jnp.zeros((1, 2, 2, 1)))
    np.testing.assert_array_equal(gradient.ravel(), [1, 0, 0, 0])


@pytest.mark.parametrize("place", range(4))
def test_max_pool_keeps_nan(platform, place):
    x = jnp.ones(4).at[place].set(jnp.nan).reshape(1, 2, 2, 1)
    assert jnp.isnan(max_pool(x, 2, 2, 0)).all()


@pytest.mark.parametrize("platform_name", ["cpu", "cuda", "tpu"])
def test_only_a_tpu_pools_by_windows(platform_name):
    text = lowered(lambda x: max_pool(x, 3, 2, 1), platform_name, (2, 8, 8, 3))
    assert ("select_and_scatter" in text) == (platform_name == "tpu")
