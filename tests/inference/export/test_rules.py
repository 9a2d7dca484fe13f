"""Each rule against JAX: the same function under onnxruntime."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from fgvc_jax.inference.export import rules  # noqa: E402


def check(function, shape=(5, 6), count=3):
    """A function of (constants, images as floats in [0, 1]) gives the same in both."""
    constants = np.random.default_rng(0).normal(size=(4, *shape[-1:])).astype(np.float32)

    def whole(constants, images):
        return function(constants, images.astype(jnp.float32) / 255)

    made = rules.model_of(whole, constants, shape)
    session = runtime.InferenceSession(made.SerializeToString())
    images = np.random.default_rng(1).integers(0, 256, (count, *shape), np.uint8)
    (answered,) = session.run(None, {"images": images})
    wanted = whole(constants, images)
    assert answered.dtype == wanted.dtype and answered.shape == wanted.shape
    np.testing.assert_allclose(answered, wanted, rtol=1e-5, atol=1e-6)


ELEMENTWISE = {
    "arithmetic": lambda c, x: (x + 2) * (x - c[0]) / (3 + jnp.abs(-x)),
    "exponentials": lambda c, x: jnp.exp(x) + jnp.log(1 + x) + jnp.expm1(x) + jnp.sqrt(x),
    "powers": lambda c, x: x**3 + x**2 + lax.rsqrt(1 + x) + jnp.square(x),
    "sigmoids": lambda c, x: jax.nn.sigmoid(x) + jnp.tanh(x) + lax.erf(x) + lax.erfc(x),
    "comparisons": lambda c, x: (
        jnp.where((x > 0.5) | (x <= 0.1), x, c[1])
        + jnp.where((x >= 0.3) & (x != 0) & ~(x < 0.2), 1.0, 2.0)
    ),
    "bounds": lambda c, x: jnp.maximum(x - 0.5, 0) - jnp.minimum(0.25, x) + jnp.maximum(x, c[3]),
    "limits": lambda c, x: jnp.clip(x, 0.2, 0.7) + jnp.sign(c[2]) + jnp.minimum(x, c[3]),
    "half": lambda c, x: x.astype(jnp.float16).astype(jnp.float32),
    "finite": lambda c, x: jnp.where(jnp.isfinite(jnp.log(x - x)), 1.0, 2.0),
    "elu": lambda c, x: jax.nn.elu(x - 0.5) + jax.nn.gelu(x, approximate=False),
}
SHAPES = {
    "reshape": lambda c, x: x.reshape(x.shape[0], 30),
    "rows": lambda c, x: x.reshape(-1, 6),
    "transpose": lambda c, x: jnp.moveaxis(x, 1, 2) + 1,
    "slice": lambda c, x: x[:, 1::2] + x[:, 0, None],
    "concatenate": lambda c, x: jnp.concatenate(
        [jnp.broadcast_to(c[:1], (x.shape[0], 1, 6)), x], axis=1
    ),
    "split": lambda c, x: sum(part.sum(1) for part in jnp.split(x[..., :5], [2, 3], axis=1)),
    "stack": lambda c, x: jnp.stack([x, 2 * x], axis=1),
    "broadcast": lambda c, x: jnp.broadcast_to(x[:, :1], x.shape).sum(1),
    "constant": lambda c, x: jnp.broadcast_to(c[0], (x.shape[0], 6)),
    "a constant sum": lambda c, x: jnp.broadcast_to(c[0], (x.shape[0], 6)) + 1,
    "a constant beside rows": lambda c, x: jnp.concatenate(
        [jnp.broadcast_to(c[0], (5 * x.shape[0], 6)), x.reshape(-1, 6)], axis=1
    ),
}
COMPUTED = {
    "sums over no axis": lambda c, x: x.sum(()) + x.max((), initial=0),
    "sums": lambda c, x: x.sum(1) + x.max(1) + x.min((1, 2))[:, None],
    "softmax": lambda c, x: jax.nn.softmax(x @ c.T) + jax.nn.logsumexp(x),
    "product": lambda c, x: jnp.einsum("btd,bsd->bts", x, x),
    "contraction": lambda c, x: jnp.einsum("btd,kd->bkt", x, c),
    "largest": lambda c, x: lax.top_k(x, 2)[0] + lax.top_k(x @ c.T, 2)[1],
}


@pytest.mark.parametrize("name", ELEMENTWISE | SHAPES | COMPUTED)
def test_a_rule_is_as_jax(name):
    check((ELEMENTWISE | SHAPES | COMPUTED)[name])


@pytest.mark.parametrize(("window", "stride", "padding"), [(3, 2, 1), (2, 2, 0), (1, 1, 0)])
def test_pools_and_convolutions(window, stride, padding):
    from fgvc_jax.networks.kernels import activations, convolutions, pooling

    def network(c, x):
        kernel = jnp.broadcast_to(c.T[None, None], (window, window, 3, 4))
        y = lax.conv_general_dilated(
            x, kernel, (stride, stride), [(padding, padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        y = activations.add_relu(y, convolutions.pointwise(y, jnp.eye(4)))
        return pooling.max_pool(y, window, stride, padding)

    check(network, shape=(9, 9, 3))


def test_equal_arrays_that_came_and_went_are_not_taken_for_each_other():
    def function(c, x):
        for n in range(20):
            x = x * jnp.tile(jnp.transpose(c * n), (30, 2))[:5, :6]
        return x

    check(function, shape=(5, 6))


def test_an_unknown_primitive_is_named():
    with pytest.raises(NotImplementedError, match="primitive sin of JAX"):
        check(lambda c, x: jnp.sin(x))


def pool(x, stride=(1, 1, 1, 1), pads=((0, 0),) * 4):
    return lax.reduce_window(x[..., None], -jnp.inf, lax.max, (1, 2, 2, 1), stride, pads)


# What a rule does not hold for would be written, and answer otherwise.
UNKNOWN = {
    "the primitive scan": lambda c, x: lax.fori_loop(0, 3, lambda _, y: 2 * y, x),
    "the primitive reduce ": lambda c, x: lax.reduce(x, 0.0, lambda a, b: a + 2 * b, (1,)),
    "a choice": lambda c, x: lax.cond(x.sum() > 0, lambda y: y, lambda y: 2 * y, x),
    "a part of the images": lambda c, x: x[:2],
    "a part": lambda c, x: jnp.split(x, [2])[1],
    "the number of images": lambda c, x: x - x.mean(0),
    "iota of a value": lambda c, x: x + lax.iota(jnp.float32, len(x))[:, None, None],
    "maxima": lambda c, x: pool(x, stride=(2, 1, 1, 1)),
    "maxima but over": lambda c, x: pool(x, pads=((0, 0), (0, 0), (0, 0), (1, 0))),
}


@pytest.mark.parametrize("named", UNKNOWN)
def test_what_no_rule_holds_for_is_refused(named):
    with pytest.raises(NotImplementedError, match=f"no rule for {named}"):
        check(UNKNOWN[named])
