"""ResNets and the networks they are part of. Their numbers against torch: test_weights.py."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import first_quick

from fgvc_jax import networks
from fgvc_jax.networks.heads import KTHead, LinearHead
from fgvc_jax.networks.weights import load_torch
from fgvc_jax.utils.errors import ArgumentError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def build(name, head=None, dtype=jnp.float32, groups=1):
    heads = {"logits": head or KTHead(classes=5, width=16)}
    return networks.create(name, heads=heads, dtype=dtype, batch_norm_groups=groups)


def shapes(network, size, batch=2):
    """Shapes of the variables and of (taps, outputs), without computing anything."""
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, False), images)
    return variables, jax.eval_shape(lambda v, x: network.apply(v, x, False), variables, images)


# The counts are torchvision's without the classifier.
@pytest.mark.parametrize(
    ("name", "parameters", "width"),
    first_quick(
        [
            ("resnet18", 11_176_512, 512),
            ("resnet50", 23_508_032, 2048),
            ("resnet34", 21_284_672, 512),
            ("resnet50_v1", 23_508_032, 2048),
            ("resnet101", 42_500_160, 2048),
            ("resnet101_v1", 42_500_160, 2048),
        ],
        2,
    ),
)
def test_parameters_and_strides(name, parameters, width):
    variables, (taps, outputs) = shapes(build(name), 64)
    assert sum(x.size for x in jax.tree.leaves(variables["params"]["backbone"])) == parameters
    assert {tap: x.shape[1:3] for tap, x in taps.items()} == {
        "stage2": (16, 16),
        "stage3": (8, 8),
        "stage4": (4, 4),
        "stage5": (2, 2),
    }
    assert taps["stage5"].shape[-1] == width
    assert outputs["logits"].shape == (2, 5)
    assert outputs["features"].shape == (2, width)


def test_odd_sizes_round_as_torchs_do():
    _, (taps, _) = shapes(build("resnet18"), 97)
    assert [x.shape[1] for x in taps.values()] == [25, 13, 7, 4]


@pytest.mark.parametrize(("name", "size"), [("resnet_small", 80), ("resnet_micro", 32)])
def test_small_variants_keep_a_map_worth_attending_to(name, size):
    _, (taps, _) = shapes(build(name), size)
    assert [size // x.shape[1] for x in taps.values()] == [4, 8, 8, 8]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_last_stride_of_one_doubles_the_grid_of_attention_and_no_variable():
    heads = {"logits": LinearHead(classes=5)}
    common = {"heads": heads, "dtype": jnp.float32, "batch_norm_groups": 1}
    for name in ("resnet18", "resnet50_v1"):
        variables, (taps, _) = shapes(networks.create(name, **common, last_stride=1), 64)
        assert [x.shape[1] for x in taps.values()] == [16, 8, 4, 4]
        usual, (other, _) = shapes(networks.create(name, **common), 64)
        assert other["stage5"].shape[1] == 2
        assert jax.tree.map(lambda x: x.shape, variables) == jax.tree.map(lambda x: x.shape, usual)
    with pytest.raises(ArgumentError, match="`last_stride` 1: vgg16 is no ResNet"):
        networks.create("vgg16", **common, last_stride=1)


def test_compute_dtype_leaves_parameters_statistics_and_logits_float32():
    variables, (taps, outputs) = shapes(build("resnet_micro", dtype=jnp.bfloat16), 32)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert {x.dtype for x in taps.values()} == {jnp.dtype("bfloat16")}
    assert {x.dtype for x in outputs.values()} == {jnp.dtype("float32")}


@pytest.fixture(scope="module")
def micro():
    network = build("resnet_micro", groups=2)
    rng = np.random.default_rng(0)  # its numbers cost no compilation
    variables = jax.tree.map(
        lambda leaf: jnp.float32(rng.normal(0.5, 0.2, leaf.shape)).clip(0.1),
        shapes(network, 32)[0],
    )
    variables["params"] = jax.tree.map(lambda leaf: leaf - 0.3, variables["params"])
    return network, variables, jnp.float32(rng.normal(size=(4, 32, 32, 3)))


@pytest.mark.slow
def test_outputs_of_taps_are_the_networks(micro):
    network, variables, images = micro
    taps, outputs = jax.jit(lambda v, x: network.apply(v, x, False))(variables, images)
    eager = network.apply(variables, taps, False, method="outputs")
    np.testing.assert_allclose(eager["logits"], outputs["logits"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs["features"], taps["stage5"].mean((1, 2)), rtol=1e-5)


def test_groups_train_as_separate_batches(micro):
    network, variables, images = micro

    @jax.jit
    def train(variables, images):
        return network.apply(variables, images, True, mutable=["batch_stats"])

    (_, outputs), updated = train(variables, images)
    # Two groups of a batch with every image doubled: each group is one half of it, twice.
    halves = [train(variables, jnp.concatenate([half, half])) for half in (images[:2], images[2:])]
    expected = jnp.concatenate([half[0][1]["logits"][:2] for half in halves])
    np.testing.assert_allclose(outputs["logits"], expected, rtol=1e-3, atol=1e-4)
    means = [half[1]["batch_stats"]["backbone"]["bn1"]["mean"] for half in halves]
    got = updated["batch_stats"]["backbone"]["bn1"]["mean"]
    np.testing.assert_allclose(got, np.mean(means, axis=0), rtol=1e-4, atol=1e-6)


def test_unknown_name_suggests_one():
    with pytest.raises(ArgumentError, match="did you mean resnet50"):
        build("resnet_50")
    with pytest.raises(ArgumentError, match="choose one of resnet18, "):
        build("inception")


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
def test_pretrained_answers_as_in_torch():
    network = build("resnet50_v1", LinearHead(classes=1000))
    variables, _ = shapes(network, 224)
    variables = load_torch(SHARED / "resnet50_v1_in1k.safetensors", variables)
    with np.load(SHARED / "resnet50_v1_reference.npz") as reference:
        expected = dict(reference)
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    images = (expected["images"].astype(np.float32) / 255 - mean) / std
    taps, outputs = jax.jit(lambda v, x: network.apply(v, x, False))(variables, images)

    got = {f"{name}_mean": tap.mean((1, 2)) for name, tap in taps.items()}
    got["logits"] = outputs["logits"]
    for name, value in got.items():
        error = np.abs(value - expected[name]).max() / np.abs(expected[name]).max()
        assert error < 1e-4, name
