"""Vision transformers' structure. Their numbers against torch: test_weights.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import first_quick

from fgvc_jax import networks
from fgvc_jax.networks.heads import LinearHead
from fgvc_jax.networks.vit import LAST, turn, turns
from fgvc_jax.utils.errors import ArgumentError


def build(name, pool="token", dtype=jnp.float32):
    heads = {"logits": LinearHead(classes=5, pool=pool)}
    return networks.create(name, heads=heads, dtype=dtype, batch_norm_groups=1)


def init_shapes(network, size):
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    return jax.eval_shape(lambda x: network.init(jax.random.key(0), x, False), images), images


# The counts are timm's at 224 px, without the classifier.
@pytest.mark.parametrize(
    ("name", "parameters", "width"),
    [
        ("vit_b16", 85_798_656, 768),
        ("vit_s16", 21_665_664, 384),
        pytest.param("dinov3_b16", 85_641_216, 768, marks=pytest.mark.slow),
        pytest.param("dinov3_s16", 21_586_944, 384, marks=pytest.mark.slow),
        pytest.param("siglip2_b16", 92_884_224, 768, marks=pytest.mark.slow),
    ],
)
def test_parameters_and_maps(name, parameters, width):
    network = build(name, dtype=jnp.bfloat16)
    variables, images = init_shapes(network, 224)
    assert sum(x.size for x in jax.tree.leaves(variables["params"]["backbone"])) == parameters
    taps, outputs = jax.eval_shape(lambda v, x: network.apply(v, x, False), variables, images)
    maps = {f"stage{i}": (2, 14, 14, width) for i in range(2, 6)}
    assert {tap: x.shape for tap, x in taps.items()} == maps | {"token": (2, width)}
    assert {x.dtype for x in taps.values()} == {jnp.dtype("bfloat16")}
    assert {x.dtype for x in outputs.values()} == {jnp.dtype("float32")}


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("pool", first_quick(["token", "avg"]))
def test_features_are_the_class_token_and_every_head_may_choose(pool):
    network = build("vit_micro", pool)
    rng = np.random.default_rng(0)
    variables, images = jax.tree.map(
        lambda leaf: jnp.float32(rng.normal(0, 0.3, leaf.shape)), init_shapes(network, 32)
    )
    taps, outputs = jax.jit(lambda v, x: network.apply(v, x, False))(variables, images)
    np.testing.assert_array_equal(outputs["features"], taps["token"])
    head = variables["params"]["heads"]["logits"]["fc"]
    vector = taps["token"] if pool == "token" else taps["stage5"].mean((1, 2))
    expected = vector @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(outputs["logits"], expected, rtol=1e-4, atol=1e-5)


def test_bioclip2_at_224_px_is_the_published_vit_l14():
    """timm's vit_large_patch14_clip_224 without a classifier."""
    variables, _ = init_shapes(build("bioclip2_l14"), 224)
    assert sum(x.size for x in jax.tree.leaves(variables["params"]["backbone"])) == 303_179_776


def test_images_that_patches_do_not_tile_are_refused():
    with pytest.raises(ArgumentError, match="multiple of 16"):
        init_shapes(build("vit_s16"), 100)


def test_images_of_another_size_than_at_init_are_refused():
    network = build("vit_micro")
    variables, _ = init_shapes(network, 32)
    images = jnp.ones((1, 40, 40, 3))
    with pytest.raises(ArgumentError, match="built for 17"):
        jax.eval_shape(lambda v: network.apply(v, images, False), variables)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("dinov2_s14", 22_056_192),
        pytest.param("dinov2_b14", 86_579_712, marks=pytest.mark.slow),
        ("dinov2_reg_s14", 22_057_344),
    ],
)
def test_dinov2_at_its_own_image_size_has_as_many_parameters_as_timms(name, parameters):
    variables, _ = init_shapes(build(name), 518)
    assert sum(x.size for x in jax.tree.leaves(variables["params"]["backbone"])) == parameters


def test_rotary_positions_serve_every_image_size():
    network = build("dinov3_micro")
    variables, _ = init_shapes(network, 32)
    for size in ((40, 40), (32, 64)):
        images = jnp.ones((1, *size, 3))
        taps, _ = jax.eval_shape(lambda v, x=images: network.apply(v, x, False), variables)
        assert taps["stage5"].shape == (1, size[0] // 8, size[1] // 8, 16)


def test_products_of_turned_vectors_depend_on_their_distance_alone():
    cosines, sines = turns(4, 4, 8, before=2)
    rng = np.random.default_rng(0)
    q, k = (jnp.float32(np.tile(rng.normal(size=8), (1, 18, 1, 1))) for _ in "qk")
    products = jnp.einsum("btnd,bsnd->ts", turn(q, cosines, sines), turn(k, cosines, sines))
    patches = products[2:, 2:].reshape(4, 4, 4, 4)  # rows and columns of one, of the other
    np.testing.assert_allclose(patches[0, 1, 2, 3], patches[1, 0, 3, 2], rtol=1e-4)
    assert abs(patches[0, 1, 2, 3] - patches[0, 1, 2, 2]) > 1e-3
    # What is before the patches is not turned.
    np.testing.assert_allclose(products[0, 1], (q[0, 0, 0] * k[0, 0, 0]).sum(), rtol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("name", ["siglip2", "bioclip2", "dinov2_reg", "dinov3"])
def test_a_tower_goes_on_from_a_stage_as_if_it_had_not_stopped(name):
    """Without a class token the state has none; what pools the patches is behind it."""
    network = build(f"{name}_micro")
    rng = np.random.default_rng(0)
    variables, images = jax.tree.map(
        lambda leaf: jnp.float32(rng.normal(0, 0.3, leaf.shape)), init_shapes(network, 32)
    )

    def halves(network, images):
        _, state = network.backbone(images, False, until=LAST)
        taps, _ = network.backbone(state, False, after=LAST)
        return taps, state

    whole, _ = jax.jit(lambda v, x: network.apply(v, x, False))(variables, images)
    late, state = jax.jit(lambda v, x: network.apply(v, x, method=halves))(variables, images)
    assert ("token" in state) == (name != "siglip2")
    assert late.keys() == {"stage5", "token"}
    for tap, value in late.items():
        np.testing.assert_allclose(value, whole[tap], rtol=1e-4, atol=1e-5)
