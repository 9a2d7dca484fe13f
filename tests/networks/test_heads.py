"""Heads against NumPy, and which gradients they let through."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgvc_jax.networks.heads import FusionHead, KTHead, LinearHead, StageHead, embedding
from fgvc_jax.utils.errors import ArgumentError


@pytest.fixture(scope="module")
def taps():
    rng = np.random.default_rng(0)
    shapes = {
        "stage3": (4, 6, 6, 3),
        "stage4": (4, 3, 3, 4),
        "stage5": (4, 2, 2, 5),
        "token": (4, 6),
    }
    return {name: jnp.float32(rng.normal(size=shape)) for name, shape in shapes.items()}


def filled(head, taps):
    """Variables of `head` with numbers from NumPy, which need no compilation."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(lambda: head.init(jax.random.key(0), taps, False))
    return jax.tree.map(lambda leaf: jnp.float32(rng.normal(size=leaf.shape)), shapes)


def dense(x, params):
    return x @ np.float64(params["kernel"]) + np.float64(params["bias"])


def norm(x, params):
    scale, bias = np.float64(params["scale"]), np.float64(params["bias"])
    return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * scale + bias


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def vector(taps, name, pool):
    value = np.float64(taps["token" if pool == "token" else name])
    return value if pool == "token" else getattr(value, pool)((1, 2))


def two_layers(x, params):
    x = norm(dense(norm(x, params["bn1"]), params["fc1"]), params["bn2"])
    return dense(elu(x), params["fc2"])


def concatenated(taps, *names):
    return np.hstack([vector(taps, name, "mean") for name in names])


CASES = {
    "linear": (
        LinearHead(classes=7),
        lambda taps, p: dense(vector(taps, "stage5", "mean"), p["fc"]),
    ),
    "linear on the token": (
        LinearHead(classes=7, pool="token"),
        lambda taps, p: dense(vector(taps, "", "token"), p["fc"]),
    ),
    "kt": (
        KTHead(classes=7, width=8),
        lambda taps, p: two_layers(vector(taps, "stage5", "max"), p),
    ),
    "stage": (
        StageHead(classes=7, tap="stage4"),
        lambda taps, p: dense(norm(vector(taps, "stage4", "mean"), p["bn1"]), p["fc"]),
    ),
    "fusion": (
        FusionHead(classes=7, width=8, taps=("stage3", "stage5"), detach=True),
        lambda taps, p: two_layers(concatenated(taps, "stage3", "stage5"), p),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits(case, dtype, taps):
    head, reference = CASES[case]
    taps = {name: tap.astype(dtype) for name, tap in taps.items()}
    variables = filled(head, taps)
    logits, _ = head.apply(variables, taps, True, mutable=["batch_stats"])
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, reference(taps, variables["params"]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("detach", [True, False])
def test_fusion_gradient_into_the_backbone(detach, taps):
    head = FusionHead(classes=7, width=8, taps=("stage3", "stage4"), detach=detach)
    variables = filled(head, taps)

    @jax.jit
    def loss(taps):
        logits, _ = head.apply(variables, taps, True, mutable=["batch_stats"])
        return jax.nn.logsumexp(logits) + logits[0, 0]

    gradients = jax.grad(loss)(taps)
    for tap in ("stage3", "stage4"):
        assert (np.abs(gradients[tap]).max() == 0) == detach
    assert np.abs(gradients["stage5"]).max() == 0  # not among its taps


def test_the_embedding_is_what_the_head_pools_and_of_other_taps_the_average(taps):
    for head, tap, pool in (
        (KTHead(classes=2, width=3), "stage5", "max"),
        (LinearHead(classes=2, pool="norm"), "stage5", "mean"),
        (LinearHead(classes=2, pool="token"), "token", "token"),
        (LinearHead(classes=2, tap="stage3", pool="max"), "stage3", "max"),
    ):
        for asked in ("", tap):
            np.testing.assert_allclose(
                embedding(head, taps, asked), vector(taps, tap, pool), rtol=1e-5, atol=1e-6
            )
        for other in {"stage4", "stage5", "token"} - {tap}:
            kind = "token" if other == "token" else "mean"
            np.testing.assert_allclose(
                embedding(head, taps, other), vector(taps, other, kind), rtol=1e-5, atol=1e-6
            )


def test_unknown_taps_and_pooling_are_refused(taps):
    with pytest.raises(ArgumentError, match="no tap 'stage6', only stage3, "):
        StageHead(classes=2, tap="stage6").init(jax.random.key(0), taps, False)
    without = {name: tap for name, tap in taps.items() if name != "token"}
    with pytest.raises(ArgumentError, match="`pool` is 'token'.* no tap 'token'"):
        LinearHead(classes=2, pool="token").init(jax.random.key(0), without, False)
    with pytest.raises(ArgumentError, match="`pool` is 'median': choose avg"):
        LinearHead(classes=2, pool="median").init(jax.random.key(0), taps, False)
