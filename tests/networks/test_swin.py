"""Swin transformers' structure. Their numbers against timm's: test_golden_networks.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgvc_jax import networks
from fgvc_jax.networks.heads import LinearHead
from fgvc_jax.networks.swin import divide, join, neighbours, relative_places
from fgvc_jax.utils.errors import ArgumentError


def build(name, dtype=jnp.float32):
    heads = {"logits": LinearHead(classes=5)}
    return networks.create(name, heads=heads, dtype=dtype, batch_norm_groups=1)


def init_shapes(network, *size):
    images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    return jax.eval_shape(lambda x: network.init(jax.random.key(0), x, False), images), images


# The counts are timm's at 224 px, without the classifier.
@pytest.mark.parametrize(
    ("name", "parameters", "width"),
    [
        ("swin_tiny", 27_519_354, 96),
        pytest.param("swin_base", 86_743_224, 128, marks=pytest.mark.slow),
    ],
)
def test_parameters_and_maps(name, parameters, width):
    network = build(name, jnp.bfloat16)
    variables, images = init_shapes(network, 224, 224)
    assert sum(x.size for x in jax.tree.leaves(variables["params"]["backbone"])) == parameters
    taps, _ = jax.eval_shape(lambda v, x: network.apply(v, x, False), variables, images)
    maps = {f"stage{i + 2}": (2, 56 >> i, 56 >> i, width << i) for i in range(4)}
    assert {tap: x.shape for tap, x in taps.items()} == maps
    assert {x.dtype for x in taps.values()} == {jnp.dtype("bfloat16")}


@pytest.mark.slow
@pytest.mark.parametrize(("side", "window"), [(32, 2), (112, 7), (192, 12)])
def test_the_window_grows_with_the_image(side, window):
    """As from 224 to 384 px in the published networks, whose patches are twice as large."""
    variables, _ = init_shapes(build("swin_micro"), side, side)
    for stage in range(4):
        attention = variables["params"]["backbone"][f"layers_{stage}"]["blocks_0"]["attn"]
        assert len(attention["relative_position_bias_table"]) == (2 * window - 1) ** 2


def test_windows_are_divided_and_joined():
    x = jnp.arange(2 * 6 * 4 * 3).reshape(2, 6, 4, 3)
    windows = divide(x, 2)
    np.testing.assert_array_equal(windows[1, 3], x[1, 2:4, 2:4].reshape(4, 3))
    np.testing.assert_array_equal(join(windows, 6, 4), x)


def test_relative_places_are_those_of_the_differences():
    places = relative_places(2)
    assert places.shape == (4, 4)
    assert (np.diag(places) == 4).all()  # the middle of 3x3
    assert places[0, 3] == 0 and places[3, 0] == 8  # up and left of it, down and right


def test_what_a_shift_brings_together_stays_apart():
    """A 4x4 map in windows of 2, shifted by 1: only the first window holds what was one."""
    parts = neighbours(4, 4, 2, 1)
    kinds = [len(set(window.tolist())) for window in parts]
    assert kinds == [1, 2, 2, 4]


@pytest.mark.parametrize("size", [(100, 100), (64, 96), (16, 16)])
def test_images_that_windows_do_not_tile_are_refused(size):
    with pytest.raises(ArgumentError, match="choose a multiple of 32"):
        init_shapes(build("swin_tiny"), *size)


def test_images_of_another_size_than_at_init_are_refused():
    network = build("swin_micro")
    variables, _ = init_shapes(network, 32, 32)
    images = jnp.ones((1, 48, 48, 3))
    with pytest.raises(ArgumentError, match="built for 2x2: give it images of 32x32 px"):
        jax.eval_shape(lambda v: network.apply(v, images, False), variables)
