"""What is asked for is what is computed, on every platform: alike, and float32 where it is said."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from platforms import waves

from fgvc_jax import networks, transfer
from fgvc_jax.networks.heads import FusionHead, KTHead, LinearHead, StageHead
from fgvc_jax.networks.kernels.platforms import precision
from fgvc_jax.objectives import csdnet_memory


@pytest.mark.sampled(2)
@pytest.mark.slow
@pytest.mark.parametrize("platform", ["tpu", "cuda", "cpu"], indirect=True)
@pytest.mark.parametrize("name", ["vgg_micro", "resnet_micro"])
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


@pytest.mark.sampled(4)
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
    queue = csdnet_memory.empty_queue(8, 4)

    def loss(queries, keys, labels):
        similarity, same, other = csdnet_memory.contrast(queries, labels, keys, queue)
        return csdnet_memory.margin_contrast(similarity, same, other, margin=0.4)

    features = jax.ShapeDtypeStruct((6, 4), jnp.float32)
    labels = jax.ShapeDtypeStruct((6,), jnp.int32)
    traced = jax.jit(jax.grad(loss)).trace(features, features, labels)
    found = products(traced.lower(lowering_platforms=(platform_name,)).as_text())
    assert found == [("f32", True)] * 2
