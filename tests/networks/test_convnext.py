"""ConvNeXt's structure. Its numbers against timm's: test_golden_networks.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from fgvc_jax import networks
from fgvc_jax.networks.heads import LinearHead
from fgvc_jax.networks.weights import export_torch, load_torch
from fgvc_jax.utils.errors import ArgumentError


def build(name, dtype=jnp.float32, **options):
    heads = {"logits": LinearHead(classes=5, pool="norm")}
    return networks.create(name, heads=heads, dtype=dtype, batch_norm_groups=1, **options)


def init_shapes(network, size):
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    return jax.eval_shape(lambda x: network.init(jax.random.key(0), x, False), images), images


# The counts are timm's, without the classifier and with the norm before it.
@pytest.mark.sampled(1)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters", "widths"),
    [
        ("convnext_tiny", 27_820_128, (96, 192, 384, 768)),
        pytest.param("convnext_small", 49_454_688, (96, 192, 384, 768), marks=pytest.mark.slow),
        pytest.param("convnext_base", 87_566_464, (128, 256, 512, 1024), marks=pytest.mark.slow),
    ],
)
def test_parameters_and_maps(name, parameters, widths):
    network = build(name, jnp.bfloat16)
    variables, images = init_shapes(network, 224)
    counted = variables["params"]["backbone"], variables["params"]["heads"]["logits"]["norm"]
    assert sum(x.size for x in jax.tree.leaves(counted)) == parameters
    taps, outputs = jax.eval_shape(lambda v, x: network.apply(v, x, False), variables, images)
    maps = {f"stage{i + 2}": (2, 56 >> i, 56 >> i, width) for i, width in enumerate(widths)}
    assert {tap: x.shape for tap, x in taps.items()} == maps
    assert {x.dtype for x in taps.values()} == {jnp.dtype("bfloat16")}
    assert outputs["features"].shape == (2, widths[-1])


def test_images_that_would_shrink_to_nothing_are_refused():
    with pytest.raises(ArgumentError, match="31x31 px are too small .* 32 px"):
        init_shapes(build("convnext_tiny"), 31)


@pytest.fixture(scope="module")
def halves():
    """(network, variables that do something, images) with a rate of one half at the last block."""
    network = build("convnext_micro", stochastic_depth=0.5)
    shapes, _ = init_shapes(network, 32)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: jnp.float32(rng.normal(0, 0.3, leaf.shape)), shapes)
    return network, variables, jnp.float32(rng.normal(size=(6, 32, 32, 3)))


@pytest.mark.exhaustive
@pytest.mark.slow
def test_blocks_are_left_out_by_the_key_alone(halves):
    network, variables, images = halves
    run = jax.jit(lambda x, keys: network.apply(variables, x, True, keys)[0]["stage5"])
    keys = jax.random.split(jax.random.key(1), 6)
    whole, turned = run(images, keys), run(images[::-1], keys[::-1])
    np.testing.assert_allclose(whole, turned[::-1], rtol=1e-4, atol=1e-5)
    other = run(images, jax.random.split(jax.random.key(2), 6))
    assert not np.allclose(whole, other, atol=1e-3)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_without_keys_nothing_is_left_out(halves):
    network, variables, images = halves
    certain = build("convnext_micro")
    for train in (False, True):
        taps, _ = network.apply(variables, images, train)
        expected, _ = certain.apply(variables, images, train)
        np.testing.assert_array_equal(taps["stage5"], expected["stage5"])


@pytest.mark.slow
def test_a_frozen_trunk_is_whole(halves):
    _, variables, images = halves
    frozen = build("convnext_micro", stochastic_depth=0.5, frozen="stage3")
    certain = build("convnext_micro", frozen="stage3")
    features = frozen.apply(variables, images, method="features")
    expected = certain.apply(variables, images, method="features")
    assert features.keys() == {"map", "stage2", "stage3"}
    jax.tree.map(np.testing.assert_array_equal, features, expected)


def test_networks_without_it_refuse_stochastic_depth():
    with pytest.raises(ArgumentError, match="`stochastic_depth` 0.1: resnet_micro has none"):
        build("resnet_micro", stochastic_depth=0.1)


@pytest.mark.sampled(1)
@pytest.mark.slow
@pytest.mark.parametrize(("classes", "loaded"), [(5, {"norm", "fc"}), (4, {"norm"})])
def test_the_norm_before_the_classifier_is_loaded_whatever_the_classes(classes, loaded, tmp_path):
    shapes, _ = init_shapes(build("convnext_micro"), 32)
    rng = np.random.default_rng(0)
    stored = jax.tree.map(lambda leaf: jnp.float32(rng.normal(size=leaf.shape)), shapes)
    export_torch(tmp_path / "w.safetensors", stored)
    assert {"head.norm.weight", "head.fc.bias"} <= load_file(tmp_path / "w.safetensors").keys()
    head = LinearHead(classes=classes, pool="norm")
    network = networks.create(
        "convnext_micro", heads={"logits": head}, dtype=jnp.float32, batch_norm_groups=1
    )
    start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), init_shapes(network, 32)[0])
    found = load_torch(tmp_path / "w.safetensors", start)["params"]["heads"]["logits"]
    assert {part for part in found if all(leaf.any() for leaf in found[part].values())} == loaded
