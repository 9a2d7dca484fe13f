"""Adapters: where they are, how they begin, and what merging them leaves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from fgvc_jax import networks
from fgvc_jax.networks import lora
from fgvc_jax.networks.heads import LinearHead
from fgvc_jax.networks.kernels.attention import attend
from fgvc_jax.networks.vit import Attention
from fgvc_jax.utils.errors import ArgumentError

IMAGES = jnp.float32(np.random.default_rng(0).normal(size=(2, 32, 32, 3)))


def build(name="vit_micro", **options):
    heads = {"logits": LinearHead(classes=3, pool="token")}
    return networks.create(name, heads=heads, dtype=jnp.float32, batch_norm_groups=1, **options)


@pytest.fixture(scope="module")
def start():
    """A ViT with adapters, and its variables at the start, of which all but theirs are random."""
    network = build(lora_rank=2)
    rng = np.random.default_rng(1)
    leaves = flatten_dict(jax.jit(lambda key: network.init(key, IMAGES, False))(jax.random.key(0)))
    drawn = {
        place: leaf if lora.of_adapter(place) else jnp.float32(rng.normal(0, 0.3, leaf.shape))
        for place, leaf in leaves.items()
    }
    return network, unflatten_dict(drawn)


def logits(network, variables):
    _, outputs = jax.jit(lambda v: network.apply(v, IMAGES, False))(variables)
    return np.asarray(outputs["logits"])


def learned(variables):
    rng = np.random.default_rng(2)
    leaves = flatten_dict(variables)
    adapters = {p: jnp.float32(rng.normal(0, 0.3, leaf.shape)) for p, leaf in leaves.items()
                if lora.of_adapter(p)}  # fmt: skip
    return unflatten_dict(leaves | adapters)


@pytest.mark.slow
def test_a_member_begins_as_its_trunk_and_merged_answers_as_it_did(start):
    network, variables = start
    plain = networks.without_adapters(network)
    alone = lora.merged(variables)
    assert not any(lora.of_adapter(place) for place in flatten_dict(alone))
    at_start = logits(network, variables)
    np.testing.assert_allclose(at_start, logits(plain, alone), rtol=1e-5, atol=1e-5)
    after = learned(variables)
    answered = logits(network, after)
    assert np.abs(answered - at_start).max() > 0.1
    np.testing.assert_allclose(logits(plain, lora.merged(after)), answered, rtol=1e-4, atol=1e-4)
    assert networks.without_adapters(plain) is plain


def test_merged_attention_is_what_it_was_up_to_rounding():
    x = jnp.float32(np.random.default_rng(3).normal(size=(1, 5, 8)))
    adapted, plain = (Attention(2, jnp.float32, attend, True, rank) for rank in (3, 0))
    shapes = jax.eval_shape(lambda: adapted.init(jax.random.key(0), x, None))
    rng = np.random.default_rng(4)
    drawn = jax.tree.map(lambda leaf: jnp.float32(rng.normal(0, 0.3, leaf.shape)), shapes)
    expected = adapted.apply(drawn, x, None)
    np.testing.assert_allclose(plain.apply(lora.merged(drawn), x, None), expected, atol=1e-5)
    alone = {name: leaf for name, leaf in drawn["params"].items() if "lora" not in name}
    assert np.abs(plain.apply({"params": alone}, x, None) - expected).max() > 0.1


def test_adapters_are_on_queries_keys_values_and_outputs_of_every_block(start):
    _, variables = start
    found = {p[2:]: leaf.shape for p, leaf in flatten_dict(variables).items() if lora.of_adapter(p)}
    assert found == {
        (f"blocks_{i}", "attn", *place): shape
        for i in range(4)
        for place, shape in {
            ("lora_qkv", "down"): (16, 6),
            ("lora_qkv", "up"): (3, 2, 16),
            ("lora_proj", "down"): (16, 2),
            ("lora_proj", "up"): (1, 2, 16),
        }.items()
    }


def test_what_a_trunk_and_a_member_have_is_put_together_without_copies(start):
    _, variables = start
    leaves = flatten_dict(variables)
    own = {p: leaf for p, leaf in leaves.items() if lora.of_adapter(p) or p[1] == "heads"}
    trunk = {p: leaf for p, leaf in leaves.items() if p not in own}
    whole = lora.joined(unflatten_dict(trunk), {"batch_stats": {}} | unflatten_dict(own))
    assert whole["batch_stats"] == {}
    assert all(leaves[place] is leaf for place, leaf in flatten_dict(whole).items())


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("resnet_micro", {}, "resnet_micro has no adapters, which are for vision transformers"),
        ("swin_micro", {}, "swin_micro has no adapters"),
        ("vit_micro", {"frozen": "stage3"}, "`frozen` stage3 asks for another: leave `frozen` e"),
        ("vit_micro", {"lora_rank": 16}, "vit_micro is 16 wide, choose a smaller one"),
    ],
)
def test_what_makes_no_sense_is_refused(name, options, words):
    with pytest.raises(ArgumentError, match=words):
        build(name, **{"lora_rank": 2} | options)
