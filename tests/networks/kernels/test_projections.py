"""Queries, keys and values against one plain product: every platform's form, on the CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import first_quick
from platforms import lowered, waves

from fgvc_jax.networks.kernels.projections import qkv


@pytest.mark.parametrize("use_bias", first_quick([True, False]))
def test_queries_keys_and_values_and_their_gradients(platform, use_bias):
    x, kernel = jnp.float32(waves(2, 3, 8)), jnp.float32(waves(8, 24))
    bias = jnp.float32(waves(24)) if use_bias else None

    def plain(x, kernel, bias):
        y = x @ kernel + (0 if bias is None else bias)
        return jnp.moveaxis(y.reshape(2, 3, 3, 4, 2), 2, 0)  # 4 heads of 2

    got, gradient = jax.vjp(lambda *x: jnp.stack(qkv(*x, 4)), x, kernel, bias)
    expected, its = jax.vjp(plain, x, kernel, bias)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    dy = jnp.float32(waves(*expected.shape)) + 1
    pairs = zip(*(jax.tree.leaves(pull(dy)) for pull in (gradient, its)), strict=True)
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("platform_name", ["cpu", "cuda", "tpu"])
def test_only_a_tpu_makes_queries_keys_and_values_one_by_one(platform_name):
    text = lowered(lambda x, w: qkv(x, w, None, 2), platform_name, (2, 3, 8), (8, 24))
    assert text.count("dot_general") == (9 if platform_name == "tpu" else 3)
