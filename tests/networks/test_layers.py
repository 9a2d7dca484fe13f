"""Building blocks against NumPy in float64."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgvc_jax.networks.layers import BatchNorm, Conv, LayerNorm, linear, stages, stochastic_depth
from fgvc_jax.utils.errors import ArgumentError


def waves(*shape):
    return np.sin(0.37 * np.arange(np.prod(shape), dtype=np.float64) ** 2).reshape(shape)


def convolve(x, kernel, stride, padding):
    size = kernel.shape[0]
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows, columns = ((n - size) // stride + 1 for n in x.shape[1:3])
    out = np.empty((len(x), rows, columns, kernel.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            patch = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
            out[:, i, j] = np.einsum("bhwi,hwio->bo", patch, kernel)
    return out


@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (7, 2, 3), (1, 1, 0), (1, 2, 0)]
)
def test_convolution(size, stride, padding):
    x, kernel, bias = waves(2, 9, 8, 3), waves(size, size, 3, 4), waves(4)
    conv = Conv(4, size, stride, padding, use_bias=True, dtype=jnp.float32)
    variables = {"params": {"kernel": jnp.float32(kernel), "bias": jnp.float32(bias)}}
    expected = convolve(x, kernel, stride, padding) + bias
    for apply in (conv.apply, jax.jit(conv.apply)):
        got = apply(variables, jnp.float32(x))
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_convolution_keeps_float32_parameters():
    conv = Conv(4, 1, 1, 0, use_bias=True, dtype=jnp.bfloat16)
    x = jax.ShapeDtypeStruct((1, 4, 4, 3), jnp.float32)
    y, variables = jax.eval_shape(conv.init_with_output, jax.random.key(0), x)
    assert y.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


def test_initial_spread_is_torchs():
    conv = Conv(64, 3, 1, 1, use_bias=False, dtype=jnp.float32)
    kernel = conv.init(jax.random.key(0), jnp.ones((1, 4, 4, 32)))["params"]["kernel"]
    assert np.std(kernel) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)

    params = linear(50, 400, "fc").init(jax.random.key(0), jnp.ones((1, 400)))["params"]
    for leaf in (params["kernel"], params["bias"]):
        assert np.abs(leaf).max() <= 1 / 20
        assert np.std(leaf) == pytest.approx(1 / 20 / 3**0.5, rel=0.2)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_layer_norm_is_flaxs_with_two_passes_to_the_last_bit(dtype):
    """On the CPU, gradients included."""
    x = jnp.asarray(waves(3, 5, 8) + 2, dtype)
    norms = LayerNorm(dtype), nn.LayerNorm(dtype=dtype, use_fast_variance=False)
    start = [norm.init(jax.random.key(0), x) for norm in norms]
    assert jax.tree.structure(start[0]) == jax.tree.structure(start[1])
    variables = jax.tree.map(lambda v: v + jnp.float32(waves(*v.shape)), start[0])

    def both(norm):
        y, pull = jax.vjp(lambda v, x: x + norm.apply(v, x), variables, x)
        return y, pull(y)

    ours, theirs = (jax.tree.leaves(jax.jit(partial(both, norm))()) for norm in norms)
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(np.float32(one), np.float32(other))


def batch_norm(groups, dtype=jnp.float32):
    params = {"scale": jnp.array([2.0, 0.5, 1.0]), "bias": jnp.array([0.0, 1.0, -1.0])}
    stats = {"mean": jnp.array([0.3, -0.2, 0.0]), "var": jnp.array([1.0, 4.0, 0.25])}
    return BatchNorm(groups, dtype), {"params": params, "batch_stats": stats}


def normalised(x, mean, var):
    return (x - mean) / np.sqrt(var + 1e-5) * np.array([2.0, 0.5, 1.0]) + np.array([0.0, 1.0, -1.0])


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("shape", [(4, 3, 5, 3), (6, 3)])
def test_batch_norm_in_training(groups, shape):
    x = 3 + waves(*shape)
    parts = np.split(x, groups)
    flat = [part.reshape(-1, 3) for part in parts]
    expected = np.concatenate(
        [normalised(part, f.mean(0), f.var(0)) for part, f in zip(parts, flat, strict=True)]
    )
    mean = np.mean([f.mean(0) for f in flat], axis=0)
    var = np.mean([f.var(0, ddof=1) for f in flat], axis=0)

    module, variables = batch_norm(groups)
    y, updated = module.apply(variables, jnp.float32(x), True, mutable=["batch_stats"])
    stats = updated["batch_stats"]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stats["mean"], 0.9 * np.array([0.3, -0.2, 0]) + 0.1 * mean, 1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 * np.array([1, 4, 0.25]) + 0.1 * var, 1e-5)


@pytest.mark.parametrize("train", [True, False])
def test_batch_norm_with_an_epsilon_of_its_own(train):
    x = jnp.float32(0.1 * waves(6, 3))
    module, variables = batch_norm(1)
    variance = x.var(0) if train else variables["batch_stats"]["var"]

    def answer(epsilon, x):
        return module.clone(epsilon=epsilon).apply(variables, x, train, mutable=["batch_stats"])[0]

    bias = variables["params"]["bias"]
    share = np.sqrt((variance + 1e-5) / (variance + 0.1))
    wanted = (answer(1e-5, x) - bias) * share + bias
    np.testing.assert_allclose(answer(0.1, x), wanted, rtol=1e-4, atol=1e-5)
    # Its gradient is of the same function: beside differences.
    towards = jnp.float32(waves(6, 3)[::-1])
    slope = jnp.vdot(jax.grad(lambda x: jnp.sum(answer(0.1, x) ** 3))(x), towards)
    ends = [jnp.sum(answer(0.1, x + step * towards) ** 3) for step in (-1e-2, 1e-2)]
    np.testing.assert_allclose(slope, (ends[1] - ends[0]) / 2e-2, rtol=1e-2)


def test_convolution_padded_as_tensorflows_same():
    """An even map of an odd kernel in steps of two: nothing before, one behind."""
    x, kernel = waves(2, 6, 5, 3), waves(3, 3, 3, 4)
    conv = Conv(4, 3, 2, "SAME", use_bias=False, dtype=jnp.float32)
    got = conv.apply({"params": {"kernel": jnp.float32(kernel)}}, jnp.float32(x))
    padded = np.pad(x, ((0, 0), (0, 1), (1, 1), (0, 0)))
    np.testing.assert_allclose(got, convolve(padded, kernel, 2, 0), rtol=1e-4, atol=1e-5)


def test_batch_norm_gradient_is_that_of_the_plain_formula():
    x, weights = jnp.float32(waves(8, 3)), jnp.float32(waves(3, 8).T)
    module, variables = batch_norm(1)

    def plain(x):
        centred = x - x.mean(0)
        y = centred / jnp.sqrt((centred**2).mean(0) + 1e-5) * variables["params"]["scale"]
        return (weights * y).sum()

    def ours(x):
        return (weights * module.apply(variables, x, True, mutable=["batch_stats"])[0]).sum()

    gradients = [jax.jit(jax.grad(loss))(x) for loss in (ours, plain)]
    np.testing.assert_allclose(*gradients, rtol=1e-3, atol=1e-5)


def test_batch_norm_in_evaluation():
    x = waves(4, 2, 2, 3)
    module, variables = batch_norm(3)  # groups mean nothing here: 4 need not divide into 3
    y = module.apply(variables, jnp.float32(x), False)
    expected = normalised(x, np.array([0.3, -0.2, 0.0]), np.array([1.0, 4.0, 0.25]))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_batch_norm_statistics_are_float32_and_exact_far_from_zero():
    module, variables = batch_norm(1, jnp.bfloat16)
    x = 100 + waves(64, 3)
    y, updated = module.apply(variables, jnp.float32(x), True, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    expected = 0.9 * np.array([1, 4, 0.25]) + 0.1 * x.var(0, ddof=1)
    np.testing.assert_allclose(updated["batch_stats"]["var"], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("groups", "shape", "message"),
    [(4, (6, 2, 2, 3), "does not divide into `groups` 4"), (2, (2, 3), "more than one value")],
)
def test_batch_norm_refuses(groups, shape, message):
    module, variables = batch_norm(groups)
    with pytest.raises(ArgumentError, match=message):
        module.apply(variables, jnp.ones(shape), True, mutable=["batch_stats"])


def test_stochastic_depth_leaves_out_whole_images_at_its_rate():
    keys = jax.random.split(jax.random.key(0), 4000)
    shares = np.asarray(stochastic_depth(jnp.ones((4000, 2, 3)), keys, 0.25, 7))
    assert (shares == shares[:, :1, :1]).all()
    assert set(np.unique(shares)) == {0.0, np.float32(1 / 0.75)}
    assert (shares[:, 0, 0] == 0).mean() == pytest.approx(0.25, abs=0.03)


def test_stochastic_depth_is_a_function_of_the_key_and_the_branch():
    keys = jax.random.split(jax.random.key(0), 64)

    def left_out(keys, number):
        return np.asarray(stochastic_depth(jnp.ones((len(keys), 1)), keys, 0.5, number))[:, 0] == 0

    everything = left_out(keys, 0)
    np.testing.assert_array_equal(everything[40:], left_out(keys[40:], 0))
    assert (everything != left_out(keys, 1)).any()
    branch = jnp.ones((64, 1))
    assert stochastic_depth(branch, None, 0.5, 0) is branch
    assert stochastic_depth(branch, keys, 0.0, 0) is branch


def test_stages_count_their_blocks_and_rates_over_the_whole_network():
    """Also those that run behind a frozen trunk."""
    found = list(stages((1, 2, 3, 1), 0.6, "", "stage5"))
    assert [each[:3] for each in found] == [
        (0, "stage2", 0), (1, "stage3", 1), (2, "stage4", 3), (3, "stage5", 6),
    ]  # fmt: skip
    rates = [rate for each in found for rate in each[3]]
    np.testing.assert_allclose(rates, np.arange(7) / 10, atol=1e-12)
    assert list(stages((1, 2, 3, 1), 0.6, "stage3", "stage4")) == found[2:3]
