"""Vision towers in files of OpenCLIP and transformers. Their numbers: test_golden_networks.py."""

import json
import logging
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT
from safetensors.numpy import save_file

from fgvc_jax import networks
from fgvc_jax.networks import towers
from fgvc_jax.networks.heads import LinearHead
from fgvc_jax.networks.weights import load_torch
from fgvc_jax.utils.errors import UserError

TEXTS = {
    "visual": (
        "token_embedding.weight", "positional_embedding", "transformer.resblocks.0.ln_1.bias",
        "ln_final.weight", "text_projection", "logit_scale", "visual.proj",
    ),
    "vision_model": (
        "text_model.embeddings.token_embedding.weight", "text_model.head.bias",
        "text_projection.weight", "visual_projection.weight", "logit_scale",
    ),
}  # fmt: skip


def tower(file):
    """The tensors of a file that golden_towers.py knows, without a classifier."""
    found = {}
    for line in (ROOT / f"tests/golden/{file}.txt").read_text().splitlines():
        _, kind, name, *rest = line.split()
        if kind == "tensor" and not name.startswith("classifier."):
            shape = tuple(int(side) for side in rest[0].split(","))
            found[name] = np.sin(np.arange(np.prod(shape), dtype=np.float32)).reshape(shape)
    return found


def load(name, tensors, folder, size=32):
    heads = {"logits": LinearHead(classes=3, pool="token")}
    made = networks.create(name, heads=heads, dtype=jnp.float32, batch_norm_groups=1)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: made.init(jax.random.key(0), x, False), images)
    save_file(tensors, folder / "w.safetensors")
    return load_torch(folder / "w.safetensors", shapes)["params"]["backbone"]


def same(one, other):
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


@pytest.mark.parametrize(("file", "name"), [("openclip", "bioclip2"), ("siglip", "siglip2")])
def test_a_text_tower_is_left_aside_by_name_and_alone_it_is_refused(file, name, tmp_path, caplog):
    tensors = tower(file)
    alone = load(f"{name}_micro", tensors, tmp_path)
    part = next(iter(tensors)).partition(".")[0]
    text = {each: np.ones((2, 2), np.float32) for each in TEXTS[part]}
    with caplog.at_level(logging.INFO):
        beside = load(f"{name}_micro", tensors | text, tmp_path)
    assert same(alone, beside)
    assert f"left aside, {len(text)} tensors ({min(text)!r}, " in caplog.text
    text = {name: value for name, value in text.items() if not name.startswith("visual")}
    with pytest.raises(
        UserError, match="hold a text tower alone .*name the file that has the visi"
    ):
        load(f"{name}_micro", text, tmp_path)


def without(name):
    return lambda tensors: {k: v for k, v in tensors.items() if k != name}


LAYER = "vision_model.encoder.layers.3"


@pytest.mark.parametrize(
    ("file", "name", "change", "words"),
    [
        (
            "openclip",
            "bioclip2_micro",
            without("visual.transformer.resblocks.2.attn.in_proj_bias"),
            "1 missing ('visual.transformer.resblocks.2.attn.in_proj_bias')",
        ),
        (
            "siglip",
            "siglip2_micro",
            without(f"{LAYER}.self_attn.k_proj.weight"),
            f"1 missing ('{LAYER}.self_attn.k_proj.weight'), 2 unexpected "
            f"('{LAYER}.self_attn.q_proj.weight', '{LAYER}.self_attn.v_proj.weight')",
        ),
        (
            "openclip",
            "bioclip2_micro",
            lambda tensors: tensors | {"visual.extra.weight": np.ones(3, np.float32)},
            "1 unexpected ('visual.extra.weight')",
        ),
        (
            "openclip",
            "bioclip2_micro",
            lambda tensors: tensors | {"visual.conv1.weight": np.ones((24, 3, 8, 8), np.float32)},
            "1 of another shape ('visual.conv1.weight' (24, 3, 8, 8) for (16, 3, 8, 8)); it looks "
            "like the vision tower of a CLIP of width 24 and patches of 8 px",
        ),
        ("siglip", "vit_micro", dict, "missing ('vision_model.embeddings.class_embedding')"),
        ("openclip", "dinov3_micro", dict, "missing ("),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_as_the_file_names_it(file, name, change, words, tmp_path):
    with pytest.raises(UserError, match=re.escape(words)) as error:
        load(name, change(tower(file)), tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", ["openclip", "clip", "siglip", "registers"])
def test_a_tower_by_itself_and_one_in_a_wrapper_are_the_same(file, tmp_path):
    """transformers 5 has no `vision_model.` in a tower's own names."""
    tensors = tower(file)
    part = next(iter(tensors)).partition(".")[0]
    names = {"registers": "dinov2_reg_micro", "siglip": "siglip2_micro"}
    name = names.get(file, "bioclip2_micro")
    expected = load(name, tensors, tmp_path)
    short = {each.removeprefix(f"{part}."): value for each, value in tensors.items()}
    assert same(expected, load(name, short, tmp_path))
    wrapped = {f"module.{each}": value for each, value in tensors.items()}
    assert same(expected, load(name, wrapped, tmp_path))


def test_a_siglip_in_openclips_file_has_timms_names(tmp_path):
    expected = load("siglip2_micro", tower("siglip2"), tmp_path)
    inner = {f"visual.trunk.{name}": value for name, value in tower("siglip2").items()
             if not name.startswith("head.")}  # fmt: skip
    inner |= {"text.ln_final.bias": np.ones(2, np.float32), "logit_bias": np.ones(1, np.float32)}
    assert same(expected, load("siglip2_micro", inner, tmp_path))


def test_the_class_tokens_position_of_registers_becomes_part_of_it(tmp_path):
    """DINOv2's authors call them register_tokens, and add a position to the class token."""
    timms = tower("dinov2_reg")
    theirs = {name.replace("reg_token", "register_tokens"): v for name, v in timms.items()
              if not name.startswith("head.")}  # fmt: skip
    added = np.full((1, 1, 16), 0.25, np.float32)
    theirs["pos_embed"] = np.concatenate([added, timms["pos_embed"]], axis=1)
    expected = load("dinov2_reg_micro", timms, tmp_path)
    found = load("dinov2_reg_micro", theirs, tmp_path)
    np.testing.assert_allclose(found.pop("cls_token"), expected.pop("cls_token") + 0.25)
    assert same(expected, found)


@pytest.mark.parametrize(("file", "name"), [("openclip", "bioclip2"), ("siglip", "siglip2")])
def test_positions_are_resampled_for_another_image_size(file, name, tmp_path):
    expected = load(f"{name}_micro", tower(file), tmp_path)["pos_embed"]
    larger = load(f"{name}_micro", tower(file), tmp_path, size=48)["pos_embed"]
    first = int(name == "bioclip2")  # the class token's
    assert larger.shape == (1, first + 36, 16)
    np.testing.assert_array_equal(larger[0, :first], expected[0, :first])
    corners = np.asarray(larger[0, first:]).reshape(6, 6, 16)[[0, 0, 5, 5], [0, 5, 0, 5]]
    before = np.asarray(expected[0, first:]).reshape(4, 4, 16)[[0, 0, 3, 3], [0, 3, 0, 3]]
    assert np.allclose(corners, before, atol=1e-6) == (name == "siglip2")


def test_files_of_others_are_left_to_others():
    for name in ("layer1.0.conv1.weight", "vit.embeddings.cls_token", "blocks.0.norm1.weight"):
        assert towers.vision_tower({name: (1,), "conv1.weight": (1,)}, dict) is None
        assert towers.text_alone([name]) == ""


CLIP = {"model_type": "clip", "hidden_act": "gelu"}


@pytest.mark.parametrize(
    ("config", "told", "refused"),
    [
        ("config.json", {**CLIP, "vision_config": {"hidden_act": "quick_gelu"}}, True),
        ("config.json", {"model_type": "clip", "vision_config": {"hidden_size": 768}}, True),
        ("config.json", {**CLIP, "vision_config": {"hidden_act": "gelu"}}, False),
        ("config.json", {"model_type": "clip_vision_model"}, True),
        ("config.json", {"model_type": "siglip", "vision_config": {}}, False),
        ("config.json", {"architecture": "vit_large_patch14_clip_quickgelu_224"}, True),
        (
            "config.json",
            {"architecture": "vit_base_patch16_clip_224", "pretrained_cfg": {"tag": "openai"}},
            True,
        ),
        (
            "config.json",
            {"architecture": "vit_base_patch16_clip_224", "pretrained_cfg": {"tag": "laion2b"}},
            False,
        ),
        ("open_clip_config.json", {"model_cfg": {"quick_gelu": True, "vision_cfg": {}}}, True),
        ("open_clip_config.json", {"model_cfg": {"vision_cfg": {"layers": 24}}}, False),
        ("config.json", [{"vision_config": {"hidden_act": "quick_gelu"}}], False),
        ("config.json", {"vision_config": 1, "model_cfg": None, "pretrained_cfg": []}, False),
    ],
)
def test_a_clip_with_another_gelu_is_refused_where_its_configuration_tells(
    config, told, refused, tmp_path
):
    (tmp_path / config).write_text(json.dumps(told))
    if refused:
        with pytest.raises(UserError, match="QuickGELU, as the configuration beside them says"):
            load("bioclip2_micro", tower("openclip"), tmp_path)
    else:
        load("bioclip2_micro", tower("openclip"), tmp_path)


def test_openais_own_archive_is_told_by_what_it_has_beside(tmp_path):
    beside = {name: np.ones((), np.float32) for name in ("input_resolution", "vocab_size")}
    with pytest.raises(UserError, match="OpenAI's CLIP's, whose QuickGELU no network here"):
        load("bioclip2_micro", tower("openclip") | beside, tmp_path)


def test_a_configuration_that_cannot_be_read_says_nothing(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip"')
    load("bioclip2_micro", tower("openclip"), tmp_path)
