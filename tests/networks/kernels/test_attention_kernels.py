"""Attention without its (T, T) matrix against the plain form: values, gradients, and when."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

from fgvc_jax.networks.kernels.attention import attend, attention_on, cudnn_attend, splash_attend

pytestmark = pytest.mark.slow


def mesh_of(*devices):
    return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))


def heads(dtype, *, batch=2, tokens=17, count=2, width=64):
    rng = np.random.default_rng(0)
    shape = batch, tokens, count, width
    return [jnp.asarray(rng.normal(size=shape), dtype) for _ in range(4)]


def test_the_plain_form_is_the_softmax_formula():
    q, k, v, _ = (np.float64(x) for x in heads(jnp.float32))
    scores = np.einsum("btnd,bsnd->bnts", q, k) / 8
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    expected = np.einsum("bnts,bsnd->btnd", weights, v)
    got = attend(*(jnp.float32(x) for x in (q, k, v)))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("tokens", [17, 130])
def test_splash_attention_and_its_gradients_are_the_plain_ones(tokens):
    mesh = mesh_of(*jax.devices("cpu")[:1])
    *qkv, dy = heads(jnp.bfloat16, tokens=tokens)

    def both(function):
        y, gradient = jax.vjp(function, *qkv)
        return y, *gradient(dy)

    ours = both(lambda *x: splash_attend(*x, mesh=mesh, interpret=True))
    exact = [jnp.float32(x) for x in qkv]
    y, gradient = jax.vjp(attend, *exact)
    for got, expected in zip(ours, (y, *gradient(jnp.float32(dy))), strict=True):
        assert got.dtype == jnp.bfloat16
        scale = np.abs(expected).max()
        np.testing.assert_allclose(np.float32(got), expected, atol=0.02 * scale)


def device(platform, kind, capability="9.0"):
    return SimpleNamespace(platform=platform, device_kind=kind, compute_capability=capability)


@pytest.mark.parametrize(
    ("found", "kernel"),
    [
        (device("cpu", "cpu"), None),
        (device("gpu", "NVIDIA H100 80GB HBM3"), "cudnn_attend"),
        (device("gpu", "Tesla V100", "7.0"), None),
        (device("gpu", "NVIDIA V100", "7.0"), None),
        (device("tpu", "TPU v5 lite"), "splash_attend"),
    ],
)
def test_each_device_has_its_kernel_in_bfloat16_and_the_plain_form_otherwise(
    found, kernel, monkeypatch
):
    from fgvc_jax.networks.kernels import attention

    for name in ("attend", "cudnn_attend", "splash_attend"):
        monkeypatch.setattr(attention, name, lambda *x, name=name, **options: name)
    devices = SimpleNamespace(devices=np.array([found, found]), size=2)
    choose = attention_on(devices)
    q, k, v, _ = heads(jnp.bfloat16)
    assert choose(q, k, v) == (kernel or "attend")
    assert choose(q[:1], k[:1], v[:1]) == "attend"  # one image does not divide over two devices
    assert choose(*(jnp.float32(x) for x in (q, k, v))) == "attend"


@pytest.mark.slow
def test_cudnn_takes_an_odd_number_of_tokens():
    pytest.importorskip("jax_cuda13_plugin")
    shapes = [jax.ShapeDtypeStruct((2, 785, 2, 64), jnp.bfloat16)] * 3
    lowered = jax.jit(cudnn_attend).trace(*shapes).lower(lowering_platforms=("cuda",))
    assert "fmha" in lowered.as_text()
    assert lowered.out_info.shape == (2, 785, 2, 64)


@pytest.mark.slow
def test_cudnn_is_vectorised_over_members():
    pytest.importorskip("jax_cuda13_plugin")
    shapes = [jax.ShapeDtypeStruct((3, 2, 785, 2, 64), jnp.bfloat16)] * 3
    step = jax.jit(jax.vmap(cudnn_attend))
    lowered = step.trace(*shapes).lower(lowering_platforms=("cuda",))
    assert "fmha" in lowered.as_text()
    assert lowered.out_info.shape == (3, 2, 785, 2, 64)
