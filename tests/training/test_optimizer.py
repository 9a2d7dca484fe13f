"""The optimizer against torch's rule written out in numpy, and the schedules' known values."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import first_quick

from fgvc_jax import networks
from fgvc_jax.networks.heads import LinearHead
from fgvc_jax.training.optimizer import Layers, optimizer, schedule


def rates(kind="cosine_epoch", peak=0.1, steps_per_epoch=3, epochs=4, warmup_steps=0):
    rate = schedule(
        peak, kind=kind, steps_per_epoch=steps_per_epoch, epochs=epochs,
        warmup_steps=warmup_steps, step_epochs=2, step_factor=0.1,
    )  # fmt: skip
    return np.array([float(rate(step)) for step in range(steps_per_epoch * epochs)])


def test_cosine_per_epoch_is_the_papers():
    epochs = np.repeat(np.arange(4), 3)
    expected = 0.1 / 2 * (1 + np.cos(np.pi * epochs / 4))
    np.testing.assert_allclose(rates(), expected, rtol=1e-5)


def test_cosine_per_step_falls_from_peak_to_zero():
    values = rates("cosine")
    assert values[0] == pytest.approx(0.1)
    assert np.all(np.diff(values) < 0)
    assert values[-1] == pytest.approx(0.05 * (1 + np.cos(np.pi * 11 / 12)), rel=1e-4)


def test_step_drops_every_two_epochs():
    np.testing.assert_allclose(rates("step"), [0.1] * 6 + [0.01] * 6, rtol=1e-5)


def test_constant():
    np.testing.assert_allclose(rates("constant"), 0.1)


@pytest.mark.parametrize("kind", ["cosine_epoch", "cosine", "step", "constant"])
def test_warm_up_rises_linearly_from_zero(kind):
    values = rates(kind, warmup_steps=4)
    np.testing.assert_allclose(values[:4], [0, 0.025, 0.05, 0.075], rtol=1e-5)
    if kind == "cosine":
        assert values[4] == pytest.approx(0.1)


def run(transform, gradients, start):
    params, state = start, transform.init(start)
    for gradient in gradients:
        updates, state = transform.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def make(name="sgd", clip_norm=0.0, decayed="all", layers=None):
    return optimizer(
        name, backbone=lambda step: 0.01, heads=lambda step: 0.1, momentum=0.9,
        weight_decay=0.05, decayed=decayed, clip_norm=clip_norm, layers=layers,
    )  # fmt: skip


def test_sgd_is_torchs_with_two_groups():
    rng = np.random.default_rng(0)
    start = {"backbone": {"w": rng.normal(size=3)}, "heads": {"logits": {"w": rng.normal(size=2)}}}
    gradients = [
        {"backbone": {"w": rng.normal(size=3)}, "heads": {"logits": {"w": rng.normal(size=2)}}}
        for _ in range(4)
    ]
    ours = run(make(), gradients, start)
    for path, rate in ((("backbone", "w"), 0.01), (("heads", "logits", "w"), 0.1)):
        weight, *steps = (np.copy(_at(tree, path)) for tree in (start, *gradients))
        buffer = np.zeros_like(weight)
        for gradient in steps:  # torch.optim.SGD, documentation, without dampening
            buffer = 0.9 * buffer + (gradient + 0.05 * weight)
            weight = weight - rate * buffer
        np.testing.assert_allclose(_at(ours, path), weight, rtol=1e-5)


def _at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def test_clipping_is_over_both_groups():
    start = {"backbone": jnp.zeros(1), "heads": jnp.zeros(1)}
    gradient = {"backbone": jnp.array([3.0]), "heads": jnp.array([4.0])}
    ours = run(make(clip_norm=1.0), [gradient], start)
    np.testing.assert_allclose(ours["backbone"], [-0.01 * 0.6], rtol=1e-5)
    np.testing.assert_allclose(ours["heads"], [-0.1 * 0.8], rtol=1e-5)


def test_adamw_decouples_the_weight_decay():
    start = {"backbone": jnp.array([2.0]), "heads": jnp.array([2.0])}
    zero = {"backbone": jnp.zeros(1), "heads": jnp.zeros(1)}
    ours = run(make("adamw"), [zero], start)
    np.testing.assert_allclose(ours["backbone"], [2.0 * (1 - 0.01 * 0.05)], rtol=1e-6)
    np.testing.assert_allclose(ours["heads"], [2.0 * (1 - 0.1 * 0.05)], rtol=1e-6)


def test_only_kernels_decay_when_asked():
    start = {"backbone": {"kernel": jnp.array([2.0]), "bias": jnp.array([2.0])}, "heads": {}}
    ours = run(make("adamw", decayed="kernels"), [jax.tree.map(jnp.zeros_like, start)], start)
    np.testing.assert_allclose(ours["backbone"]["kernel"], [2.0 * (1 - 0.01 * 0.05)], rtol=1e-6)
    assert ours["backbone"]["bias"] == 2


# Layers by parts of a parameter's path, as the authors count them; what follows them is the last.
LAYERS = {
    "convnext_base": (
        13,
        {
            "stem_1": 0,
            "stages_0/blocks_2": 1,
            "stages_1/downsample_1": 2,
            "stages_1/blocks_0": 2,
            "stages_2/downsample_0": 3,
            "stages_2/blocks_2/gamma": 3,
            "stages_2/blocks_3": 4,
            "stages_2/blocks_26": 11,
            "stages_3/downsample_1": 12,
            "stages_3/blocks_2": 12,
        },
    ),
    "swin_base": (
        25,
        {
            "patch_embed": 0,
            "layers_0/blocks_0": 1,
            "layers_0/blocks_1": 2,
            "layers_1/downsample": 2,
            "layers_2/downsample": 4,
            "layers_2/blocks_17/attn/relative_position_bias_table": 22,
            "layers_3/blocks_1": 24,
            "norm": 25,
        },
    ),
    "dinov3_b16": (13, {"reg_token": 0, "blocks_11": 12, "norm": 13}),
    "vit_b16": (
        13,
        {
            "cls_token": 0,
            "pos_embed": 0,
            "patch_embed": 0,
            "blocks_0": 1,
            "blocks_11": 12,
            "norm": 13,
        },
    ),
}


def build(name, frozen=""):
    heads = {"logits": LinearHead(classes=2)}
    return networks.create(name, heads=heads, dtype=jnp.float32, batch_norm_groups=1, frozen=frozen)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_counted_as_by_the_authors(name):
    count, expected = LAYERS[name]
    backbone = build(name).backbone
    assert backbone.layers == count
    assert {path: backbone.layer(path.split("/")) for path in expected} == expected


# The first layer behind stage3; in Swin's, merging belongs to the block before.
FIRST_TRAINED = {"convnext_micro": 3, "swin_micro": 3, "dinov3_micro": 3}


@pytest.mark.parametrize("frozen", ["", "stage3"])
@pytest.mark.parametrize("name", first_quick(FIRST_TRAINED))
def test_layers_learn_at_the_stated_rates(name, frozen):
    """A frozen trunk takes its layers away and leaves the others as they were."""
    network = build(name, frozen)

    def initialize(image):
        inputs, _ = network.init_with_output(jax.random.key(0), image, method="features")
        return network.init(jax.random.key(0), inputs, False)["params"]

    shapes = jax.eval_shape(initialize, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
    params = jax.tree.map(lambda leaf: np.zeros((), np.float32), shapes)
    backbone = network.backbone
    transform = make(layers=Layers(0.5, backbone.layers, backbone.layer))
    moved = run(transform, [jax.tree.map(np.ones_like, params)], params)
    assert {float(leaf) for leaf in jax.tree.leaves(moved["heads"])} == {np.float32(-0.1)}
    seen = set()
    for path, leaf in jax.tree.leaves_with_path(moved["backbone"]):
        layer = backbone.layer([key.key for key in path])
        assert float(leaf) == pytest.approx(-0.01 * 0.5 ** (backbone.layers - layer), rel=1e-5)
        seen.add(layer)
    last = backbone.layers - (name == "convnext_micro")  # whose final norm is the head's
    assert seen == set(range(FIRST_TRAINED[name] if frozen else 0, last + 1))
