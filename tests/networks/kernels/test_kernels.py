"""Kernels against NumPy in float64 or the plain form: every platform's, on the CPU."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from platforms import lowered, waves
from scipy import special

from fgvc_jax import networks, transfer
from fgvc_jax.networks.heads import FusionHead, KTHead, LinearHead, StageHead
from fgvc_jax.networks.kernels.activations import add_relu, gelu
from fgvc_jax.networks.kernels.batch_norm import normalize, variance
from fgvc_jax.networks.kernels.platforms import precision
from fgvc_jax.networks.kernels.pooling import max_pool
from fgvc_jax.networks.kernels.projections import qkv
from fgvc_jax.networks.layers import BatchNorm, Conv, conv_norm
from fgvc_jax.objectives import csdnet


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
            lambda x: (lambda y, *rest: (y, rest))(*normalize(x[None], ones, zeros, shift)),
            x,
            has_aux=True,
        )
        return var, gradient(jnp.float32(dy)[None])[0]

    var, gradient = jax.jit(run)(x, jnp.full(channels, shift, jnp.float32))
    return (
        np.abs(var.ravel() / centred.var(0) - 1).max(),
        np.abs(gradient - dx).max() / np.abs(dx).max(),
    )


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
    y, _, var = normalize(x, jnp.ones(2), jnp.array([0.5, -0.5]), jnp.zeros(2))
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


@pytest.mark.parametrize("use_bias", [False, True])
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


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("size", [1, 3])
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


@pytest.mark.parametrize("name", ["resnet_micro", "vgg_micro"])
def test_a_network_in_inference_answers_alike_on_every_platform(platform, name):
    network = networks.create(
        name, heads={"logits": LinearHead(3)}, dtype=jnp.float32, batch_norm_groups=1
    )
    x = jnp.float32(waves(2, 32, 32, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            lax, "platform_dependent", lambda *x, default=None, cpu=None, **_: (cpu or default)(*x)
        )
        variables = network.init(jax.random.key(0), x, False)
        variables = jax.tree.map(lambda v: v + jnp.float32(waves(*v.shape)) / 9, variables)
        expected = network.apply(variables, x, False)
    got = network.apply(variables, x, False)
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("platform_name", ["cpu", "cuda", "tpu"])
def test_only_a_tpu_pools_by_windows(platform_name):
    text = lowered(lambda x: max_pool(x, 3, 2, 1), platform_name, (2, 8, 8, 3))
    assert ("select_and_scatter" in text) == (platform_name == "tpu")


def test_float32_alone_asks_for_precision():
    assert precision(jnp.float32) == precision(np.dtype("float32")) == lax.Precision.HIGHEST
    assert precision(jnp.bfloat16) == lax.Precision.DEFAULT


OLDER = "resnet_micro", "vgg_micro", "vit_micro"
MICRO = [
    name if name in OLDER else pytest.param(name, marks=pytest.mark.slow)
    for name in networks.NAMES
    if name.endswith("micro")
]


def products(text):
    """Of every product in a lowered program: its left type, and whether it asks for exactness."""
    found = []
    for line in text.splitlines():
        if re.search(r"stablehlo\.(dot_general|convolution)", line):
            operand = re.search(r": \(tensor<(?:\d+x)*(\w+)>", line)[1]
            if "lhs_precision_type = bf16" in line:  # what attention's gradient is rounded to
                operand = "bf16"
            found.append((operand, line.count("HIGHEST") == 2))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", MICRO)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("platform_name", ["cuda", "tpu"])
def test_what_is_called_float32_is_float32_on_accelerators(name, dtype, platform_name):
    """Heads and the orthogonal loss, gradients included; the backbone is as asked for."""
    heads = {
        "logits": KTHead(classes=3, width=4),
        "stage3": StageHead(classes=3, tap="stage3"),
        "fusion": FusionHead(classes=3, width=4, taps=("stage3", "stage5"), detach=False),
    }
    network = networks.create(name, heads=heads, dtype=dtype, batch_norm_groups=1)
    images = jax.ShapeDtypeStruct((4, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, False), images)

    def loss(params, rest, images):
        (taps, outputs), _ = network.apply(
            {"params": params, **rest}, images, True, mutable=["batch_stats"]
        )
        overlap = transfer.orthogonal_loss(taps["stage5"], taps["stage5"])
        return sum(logits.sum() for logits in outputs.values()) + overlap

    params = variables.pop("params")
    traced = jax.jit(jax.grad(loss)).trace(params, variables, images)
    found = products(traced.lower(lowering_platforms=(platform_name,)).as_text())
    assert {exact for operand, exact in found if operand == "f32"} == {True}
    in_bfloat16 = [exact for operand, exact in found if operand == "bf16"]
    assert len(in_bfloat16) > 10 if dtype == jnp.bfloat16 else not in_bfloat16
    assert not any(in_bfloat16)


@pytest.mark.parametrize("platform_name", ["cuda", "tpu"])
def test_what_csdnet_compares_is_float32_on_accelerators(platform_name):
    queue = csdnet.empty_queue(8, 4)

    def loss(queries, keys, labels):
        similarity, same, other = csdnet.contrast(queries, labels, keys, queue)
        return csdnet.margin_contrast(similarity, same, other, margin=0.4)

    features = jax.ShapeDtypeStruct((6, 4), jnp.float32)
    labels = jax.ShapeDtypeStruct((6,), jnp.int32)
    traced = jax.jit(jax.grad(loss)).trace(features, features, labels)
    found = products(traced.lower(lowering_platforms=(platform_name,)).as_text())
    assert found == [("f32", True)] * 2
