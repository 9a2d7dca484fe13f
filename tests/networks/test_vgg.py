"""VGG's structure. Its numbers against torch: test_weights.py."""

import jax
import jax.numpy as jnp
import pytest

from fgvc_jax import networks
from fgvc_jax.networks.heads import KTHead
from fgvc_jax.utils.errors import ArgumentError


def shapes(name, size):
    heads = {"logits": KTHead(classes=5, width=16)}
    network = networks.create(name, heads=heads, dtype=jnp.float32, batch_norm_groups=1)
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, False), images)
    taps, _ = jax.eval_shape(lambda v, x: network.apply(v, x, False), variables, images)
    return variables["params"]["backbone"], taps


# The counts are those of torchvision's `features`.
@pytest.mark.parametrize(
    ("name", "parameters", "last"),
    [
        ("vgg16", 14_714_688, "features_28"),
        ("vgg16_bn", 14_723_136, "features_40"),
        ("vgg19", 20_024_384, "features_34"),
        ("vgg19_bn", 20_035_392, "features_49"),
    ],
)
def test_parameters_names_and_strides(name, parameters, last):
    backbone, taps = shapes(name, 64)
    assert sum(x.size for x in jax.tree.leaves(backbone)) == parameters
    convolutions = [module for module in backbone if "kernel" in backbone[module]]
    assert max(convolutions, key=lambda module: int(module.split("_")[1])) == last
    assert {tap: x.shape[1:] for tap, x in taps.items()} == {
        "stage2": (16, 16, 128),
        "stage3": (8, 8, 256),
        "stage4": (4, 4, 512),
        "stage5": (2, 2, 512),
    }


def test_micro_keeps_a_map():
    _, taps = shapes("vgg_micro", 32)
    assert [32 // x.shape[1] for x in taps.values()] == [4, 8, 8, 8]


def test_images_that_vanish_are_refused():
    with pytest.raises(ArgumentError, match="at least 32 px"):
        shapes("vgg16", 31)
