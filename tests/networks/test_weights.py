"""Weights under torch's names, and every kind of network against an independent torch version.

The stored answers come from plain torch modules with torchvision's and timm's names, in float64,
filled with `pattern` and shown the images of `waves`.
"""

import dataclasses
import json
import logging
import math
import struct
import subprocess
import sys
import types
import zlib
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import first_quick, tiny
from safetensors.numpy import load_file, save_file

from fgvc_jax import networks
from fgvc_jax.config import Network
from fgvc_jax.networks.heads import KTHead, LinearHead
from fgvc_jax.networks.kernels.resample import relative_biases
from fgvc_jax.networks.resnet import Bottleneck, ResNet
from fgvc_jax.networks.vgg import VGG
from fgvc_jax.networks.weights import export_torch, load_torch, resolve
from fgvc_jax.training.run import Run
from fgvc_jax.utils import digests
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir.checkpoint import save_final
from fgvc_jax.workdir.folder import Workdir

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"


def waves(frequency, shape, phase=0.0):
    index = np.arange(math.prod(shape), dtype=np.float64)
    return np.sin(frequency * index**2 + phase).reshape(shape)


def pattern(name, shape):
    """A float64 tensor that is a function of its torch name and shape."""
    values = waves(0.37, shape, zlib.crc32(name.encode()) % 100)
    if len(shape) > 1 and name.endswith("weight"):
        return values * math.sqrt(2 / math.prod(shape[1:]))
    return 0.1 * values + (1.0 if name.endswith(("weight", "running_var")) else 0.0)


def build(name, head=None):
    heads = {"logits": head or LinearHead(classes=3)}
    return networks.create(name, heads=heads, dtype=jnp.float32, batch_norm_groups=1)


def with_backbone(backbone):
    return build("resnet_micro").clone(backbone=backbone(dtype=jnp.float32, batch_norm_groups=1))


def shapes(network, size=32):
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(lambda x: network.init(jax.random.key(0), x, False), images)


def zeros(network, size=32):
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes(network, size))


def torch_tensors(network, size=32):
    """The tensors that a torch network of this architecture has, filled with `pattern`."""

    def torch_shape(path, leaf):
        shape = leaf.shape
        if path[-1].key != "kernel":
            return shape
        return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]

    tensors = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes(network, size)):
        modules = ".".join(key.key for key in path[2:-1])
        for digit in "0123456789":
            modules = modules.replace(f"_{digit}", f".{digit}")
        classifier = "head" if "vit" in type(network.backbone).__module__ else "fc"
        modules = modules.replace("logits.fc", classifier)
        leaves = {"mean": "running_mean", "var": "running_var", "kernel": "weight"}
        last = leaves.get(path[-1].key, path[-1].key).replace("scale", "weight")
        name = f"{modules}.{last}".lstrip(".")
        tensors[name] = np.float32(pattern(name, torch_shape(path, leaf)))
    return tensors


bottlenecks = partial(
    ResNet, depths=(1, 1, 2, 1), widths=(2, 2, 4, 4), strides=(1, 2, 2, 2), stem_size=7
)
plain_vgg = partial(
    VGG, widths=((2, 2), (4, 4), (4,), (6,), (6,)), pools=(2, 2, 2, 2, 2), batch_norm=False
)
token = LinearHead(classes=3, pool="token")

# network, image size, a projection of stage2 ... stage5, logits of the two images
MICRO = [name for name in networks.NAMES if name.endswith("micro")]
GOLDEN = {
    "basic blocks": (
        lambda: build("resnet_micro"),
        32,
        [3.88696, 0.37206, 2.4002, -2.09546],
        [[0.145818, -0.326926, -0.385826], [0.234143, -0.415542, -0.38279]],
    ),
    "bottlenecks v1.5": (
        lambda: with_backbone(partial(bottlenecks, partial(Bottleneck, stride_first=False))),
        64,
        [11.65758, 7.37788, -1.46812, -0.53438],
        [[0.370238, -0.337106, 0.035505], [0.418555, -0.456038, 0.085939]],
    ),
    "bottlenecks v1": (
        lambda: with_backbone(partial(bottlenecks, partial(Bottleneck, stride_first=True))),
        64,
        [11.65758, 6.52191, -1.08258, -0.91144],
        [[0.389062, -0.353087, 0.0648], [0.385265, -0.450175, 0.113222]],
    ),
    "vgg with batch norm": (
        lambda: build("vgg_micro"),
        32,
        [1.15724, -3.60415, 2.44181, -1.54484],
        [[-0.082694, -0.227732, -0.412356], [-0.07124, -0.204378, -0.397919]],
    ),
    "vgg": (
        lambda: with_backbone(plain_vgg),
        64,
        [0.19923, 1.59812, -1.332, -0.27577],
        [[0.056846, -0.038956, -0.147828], [0.058517, -0.034169, -0.13646]],
    ),
    "vision transformer": (
        lambda: build("vit_micro", token),
        32,
        [-13.76963, -14.48143, -25.57766, -21.36032],
        [[-0.382411, -1.691785, -1.727663], [0.087353, 0.388925, -0.849828]],
    ),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", first_quick(GOLDEN))
def test_networks_answer_as_in_torch(case, tmp_path):
    make, size, projections, logits = GOLDEN[case]
    network = make()
    path = tmp_path / "torch.safetensors"
    save_file(torch_tensors(network, size), path)
    variables = load_torch(path, shapes(network, size))
    images = jnp.float32(waves(0.11, (2, size, size, 3)))
    taps, outputs = jax.jit(lambda v, x: network.apply(v, x, False))(variables, images)

    np.testing.assert_allclose(outputs["logits"], logits, rtol=1e-3, atol=1e-5)
    maps = [np.asarray(taps[f"stage{i}"], np.float64) for i in range(2, 6)]
    got = [(m * np.cos(np.arange(m.size)).reshape(m.shape)).sum() for m in maps]
    np.testing.assert_allclose(got, projections, rtol=1e-3, atol=1e-4)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", first_quick(MICRO, 2))
@pytest.mark.parametrize("head", first_quick([LinearHead(classes=3), KTHead(classes=3, width=4)]))
def test_round_trip_is_exact(name, head, tmp_path):
    network = build(name, head)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: jnp.float32(rng.normal(size=x.shape)), shapes(network))
    path = tmp_path / "out.safetensors"
    export_torch(path, variables)
    again = load_torch(path, zeros(network))
    assert jax.tree.structure(again) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, again, variables)


@pytest.mark.parametrize(
    ("name", "head"),
    [("resnet_micro", LinearHead(classes=3)), ("vgg_micro", LinearHead(classes=3))]
    + [("vit_micro", token)],
)
def test_export_has_torchs_names_and_layouts(name, head, tmp_path):
    network = build(name, head)
    tensors = torch_tensors(network)
    save_file(tensors, tmp_path / "in.safetensors")
    export_torch(
        tmp_path / "out.safetensors", load_torch(tmp_path / "in.safetensors", shapes(network))
    )
    out = load_file(tmp_path / "out.safetensors")
    assert out.keys() == tensors.keys()
    for key, value in tensors.items():
        np.testing.assert_array_equal(out[key], value)


# --- what is loaded and what is not


@pytest.fixture
def micro(tmp_path):
    """A function that writes resnet_micro's tensors, changed as asked, and loads them."""

    def load(change, head=None):
        network = build("resnet_micro", head)
        tensors = torch_tensors(build("resnet_micro"))
        change(tensors)
        path = tmp_path / "weights.safetensors"
        save_file(tensors, path)
        return load_torch(path, zeros(network)), tensors

    return load


@pytest.mark.parametrize(
    ("head", "loaded"),
    [
        (LinearHead(classes=3), True),
        (LinearHead(classes=4), False),
        (LinearHead(classes=3, tap="stage4"), False),
        (KTHead(classes=3, width=4), False),
    ],
)
def test_classifier_is_loaded_or_listed_never_guessed(micro, caplog, head, loaded):
    with caplog.at_level(logging.INFO):
        variables, tensors = micro(lambda tensors: None, head)
    heads = jax.tree.leaves(variables["params"]["heads"])
    if loaded:
        kernel = variables["params"]["heads"]["logits"]["fc"]["kernel"]
        np.testing.assert_array_equal(kernel, tensors["fc.weight"].T)
        assert "not needed: none" in caplog.text
    else:
        assert not any(leaf.any() for leaf in heads)
        assert "not needed: 'fc.bias' (3,), 'fc.weight' (3, 16)" in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.slow
def test_a_network_without_batch_norm_starts_from_its_weights(tmp_path):
    file = tmp_path / "w.safetensors"
    network = Network(name="vit_micro", head="linear")
    written = Run(tiny(network=network, members=1, seed=1)).start.variables(1)
    export_torch(file, written)
    run = Run(tiny(network=dataclasses.replace(network, weights=str(file)), members=1))
    found = run.start.variables(1)
    assert found["batch_stats"] == {}
    jax.tree.map(np.testing.assert_array_equal, found, written)
    run.state(1, [])


@pytest.mark.slow
def test_a_workdirs_first_member_is_taken_as_weights(tmp_path):
    """`no such file`, it was told to be."""
    network = Network(name="resnet_micro", head="linear", dtype="float32")
    begun = Run(tiny(tmp_path / "run", network=network, members=1, seed=1))
    begun.check_input()
    workdir = Workdir(tmp_path / "run")
    workdir.claim(begun.record)
    written = begun.start.variables(1)
    save_final(workdir.final(1), written)
    network = dataclasses.replace(network, weights=str(workdir.path))
    run = Run(tiny(network=network, members=1))
    jax.tree.map(np.testing.assert_array_equal, run.start.variables(1), written)
    assert run.start.digests() == [digests.of_arrays(written)]


def test_a_backbone_alone_is_enough_and_counters_are_ignored(micro):
    def change(tensors):
        del tensors["fc.weight"], tensors["fc.bias"]
        tensors["bn1.num_batches_tracked"] = np.array(7)

    variables, tensors = micro(change)
    stats = variables["batch_stats"]["backbone"]["bn1"]
    np.testing.assert_array_equal(stats["var"], tensors["bn1.running_var"])
    assert not variables["params"]["heads"]["logits"]["fc"]["kernel"].any()


@pytest.mark.parametrize("dtype", ["float16", jnp.bfloat16])
def test_half_precision_becomes_float32(micro, dtype):
    def change(tensors):
        tensors.update({name: value.astype(dtype) for name, value in tensors.items()})

    variables, tensors = micro(change)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    kernel = variables["params"]["backbone"]["conv1"]["kernel"]
    expected = tensors["conv1.weight"].astype(np.float32).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("bn1.weight"), r"1 missing \('bn1.weight'\)"),
        (lambda t: t.update({"a\nb": np.zeros(1)}), r"1 unexpected \('a\\nb'\)"),
        (
            lambda t: t.update({"bn1.bias": np.zeros(5)}),
            r"1 of another shape \('bn1.bias' \(5,\) for \(4,\)\); it looks like resnet10",
        ),
        (
            lambda t: t.update({"conv1.weight": np.full((4, 3, 3, 3), np.inf)}),
            "'conv1.weight' holds values that are not finite",
        ),
        (lambda t: t.update({"bn1.bias": np.zeros(4, np.int64)}), "is of type int64"),
    ],
)
def test_faults_are_named_in_one_line(micro, change, message):
    with pytest.raises(UserError, match=message) as caught:
        micro(change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["vgg_micro", "vit_micro"])
def test_another_networks_weights_are_refused(name, tmp_path):
    save_file(torch_tensors(build(name)), tmp_path / "w.safetensors")
    likely = {"vgg_micro": "vgg8_bn", "vit_micro": "a vision transformer of width 16"}[name]
    with pytest.raises(UserError, match=f"missing.*unexpected.*looks like {likely}"):
        load_torch(tmp_path / "w.safetensors", shapes(build("resnet_micro")))


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "prefix",
    first_quick(
        ["module.", "module.backbone.", "_orig_mod.", "backbone.", "model.", "encoder."], 2
    ),
)
@pytest.mark.parametrize("beside", ["", "wrapped"])
def test_what_a_wrapper_put_before_all_names_is_left_out_and_said(prefix, beside, tmp_path, caplog):
    """It was 60 missing and 72 unexpected. Classifiers may be outside of a `backbone.`."""
    network = build("resnet_micro")
    tensors = torch_tensors(network)
    save_file(
        {
            name if not beside and name.startswith("fc.") else prefix + name: value
            for name, value in tensors.items()
        },
        tmp_path / "w.safetensors",
    )
    save_file(tensors, tmp_path / "plain.safetensors")
    with caplog.at_level(logging.INFO):
        found = load_torch(tmp_path / "w.safetensors", zeros(network))
    assert f"its names are read without '{prefix}' before them" in caplog.text
    expected = load_torch(tmp_path / "plain.safetensors", zeros(network))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_prefix_of_some_names_only_is_none(micro):
    def change(tensors):
        for name in [name for name in tensors if name.startswith("layer")]:
            tensors[f"module.{name}"] = tensors.pop(name)

    with pytest.raises(UserError, match="unexpected .'module.layer"):
        micro(change)


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
@pytest.mark.parametrize(
    "name", first_quick(["vgg16", "resnet18", "resnet34", "resnet101", "vit_s16"])
)
def test_real_weights_are_refused_by_other_networks(name):
    variables = shapes(build(name), 64)
    with pytest.raises(UserError, match="it looks like resnet50: choose network.name"):
        load_torch(SHARED / "resnet50_v1_in1k.safetensors", variables)


# --- vision transformers


def test_transformer_loads_at_another_image_size(tmp_path):
    network = build("vit_micro", token)
    save_file(torch_tensors(network), tmp_path / "w.safetensors")
    backbone = load_torch(tmp_path / "w.safetensors", shapes(network, 48))["params"]["backbone"]
    assert backbone["pos_embed"].shape == (1, 37, 16)

    broken = torch_tensors(network) | {"pos_embed": np.zeros((1, 16, 16), np.float32)}
    save_file(broken, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"'pos_embed' \(1, 16, 16\) for \(1, 37, 16\)"):
        load_torch(tmp_path / "w.safetensors", shapes(network, 48))


def original_names(tensors, heads=2):
    """timm's tensors under the names and in the layouts of the transformers' authors."""
    width = tensors["cls_token"].shape[-1]
    attention = "MultiHeadDotProductAttention_1"
    arrays = {
        "cls": tensors["cls_token"],
        "Transformer/posembed_input/pos_embedding": tensors["pos_embed"],
        "embedding/kernel": tensors["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": tensors["patch_embed.proj.bias"],
        "Transformer/encoder_norm/scale": tensors["norm.weight"],
        "Transformer/encoder_norm/bias": tensors["norm.bias"],
        "head/kernel": tensors["head.weight"].T,
        "head/bias": tensors["head.bias"],
    }
    for i in range(4):
        ours, theirs = f"blocks.{i}", f"Transformer/encoderblock_{i}"
        for a, b in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")):
            arrays[f"{theirs}/{b}/scale"] = tensors[f"{ours}.{a}.weight"]
            arrays[f"{theirs}/{b}/bias"] = tensors[f"{ours}.{a}.bias"]
        for a, b in (("fc1", "Dense_0"), ("fc2", "Dense_1")):
            arrays[f"{theirs}/MlpBlock_3/{b}/kernel"] = tensors[f"{ours}.mlp.{a}.weight"].T
            arrays[f"{theirs}/MlpBlock_3/{b}/bias"] = tensors[f"{ours}.mlp.{a}.bias"]
        weights = np.split(tensors[f"{ours}.attn.qkv.weight"], 3)
        biases = np.split(tensors[f"{ours}.attn.qkv.bias"], 3)
        for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            kernel = weight.T.reshape(width, heads, -1)
            arrays[f"{theirs}/{attention}/{part}/kernel"] = kernel
            arrays[f"{theirs}/{attention}/{part}/bias"] = bias.reshape(heads, -1)
        kernel = tensors[f"{ours}.attn.proj.weight"].T.reshape(heads, -1, width)
        arrays[f"{theirs}/{attention}/out/kernel"] = kernel
        arrays[f"{theirs}/{attention}/out/bias"] = tensors[f"{ours}.attn.proj.bias"]
    return arrays


def test_original_transformer_files(tmp_path):
    network = build("vit_micro", token)
    tensors = torch_tensors(network)
    save_file(tensors, tmp_path / "timm.safetensors")
    np.savez(tmp_path / "original.npz", **original_names(tensors))
    expected = load_torch(tmp_path / "timm.safetensors", shapes(network))
    got = load_torch(tmp_path / "original.npz", shapes(network))
    jax.tree.map(np.testing.assert_array_equal, got, expected)


# --- files


def safetensors_bytes(header, data=b""):
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>not found</html>",
        struct.pack("<Q", 1 << 60) + b"{}",
        safetensors_bytes(b"not json"),
        safetensors_bytes({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, b"12"),
        safetensors_bytes({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}}),
    ],
)
@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_damaged_files(content, suffix, tmp_path):
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read") as caught:
        load_torch(path, shapes(build("vit_micro", token)))
    assert "\n" not in str(caught.value)


def test_truncated_download(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(torch_tensors(build("resnet_micro")), path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="cannot be read.*fetch the file again"):
        load_torch(path, shapes(build("resnet_micro")))


def test_npz_runs_no_pickle_and_unpacks_no_giant(tmp_path):
    network, path = build("vit_micro", token), tmp_path / "w.npz"
    arrays = original_names(torch_tensors(network))
    np.savez(path, **arrays | {"cls": np.full((1, 1, 16), None, dtype=object)})
    with pytest.raises(UserError, match="cannot be read .*allow_pickle=False"):
        load_torch(path, shapes(network))

    # Zeros pack well. The shape in the header is refused before anything is unpacked.
    np.savez_compressed(path, **arrays | {"embedding/bias": np.zeros(1 << 20, np.float32)})
    with pytest.raises(UserError, match="'patch_embed.proj.bias' .1048576,. for .16,."):
        load_torch(path, shapes(network))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.pth", "scripts/convert_weights.py"),
        ("pytorch_model.bin", "scripts/convert_weights.py"),
        ("nowhere.safetensors", "no such file"),
        ("hf:resnet50", "expected hf:ORG/NAME"),
        ("hf:a/b/../c", "expected hf:ORG/NAME"),
    ],
)
def test_names_that_lead_nowhere(name, message):
    with pytest.raises(UserError, match=message):
        resolve(name)


def test_weights_that_are_missing_are_told_before_images_are_read(monkeypatch):
    monkeypatch.setattr(
        "fgvc_jax.training.prepared.open_dataset",
        lambda experiment: pytest.fail("images were read"),
    )
    network = dataclasses.replace(tiny().network, weights="missing.safetensors")
    with pytest.raises(UserError, match=r"'missing\.safetensors': no such file"):
        Run(tiny(network=network))


def test_other_kinds_of_files_are_refused(tmp_path):
    (tmp_path / "w.msgpack").touch()
    with pytest.raises(UserError, match="only .safetensors and .npz"):
        load_torch(tmp_path / "w.msgpack", shapes(build("resnet_micro")))


def test_a_hubs_folder_is_its_first_file(tmp_path):
    with pytest.raises(UserError, match="a folder without model.safetensors in it: name the file"):
        resolve(tmp_path)
    (tmp_path / "open_clip_model.safetensors").touch()
    assert resolve(tmp_path) == tmp_path / "open_clip_model.safetensors"
    (tmp_path / "model.safetensors").touch()
    assert resolve(tmp_path) == tmp_path / "model.safetensors"


def test_hub(monkeypatch, tmp_path):
    asked = []

    def download(repository, file):
        asked.append((repository, file))
        if repository == "org/tower" and file == "model.safetensors":
            raise FileNotFoundError(file)
        if repository == "org/away":
            raise ConnectionError("no route\nto host")
        if file == "open_clip_config.json":
            raise FileNotFoundError(file)
        return str(tmp_path / file)

    hub = types.SimpleNamespace(hf_hub_download=download)
    errors = types.SimpleNamespace(EntryNotFoundError=FileNotFoundError)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert resolve("hf:org/name") == tmp_path / "model.safetensors"
    with pytest.raises(UserError, match=r"cannot be fetched \(no route to host\)"):
        resolve("hf:org/away")
    # Beside the weights what says how they are computed, where there is such a file.
    files = "model.safetensors", "config.json", "open_clip_config.json"
    assert asked == [*(("org/name", file) for file in files), ("org/away", files[0])]
    assert resolve("hf:org/tower") == tmp_path / "open_clip_model.safetensors"
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(UserError, match="of a CLIP with QuickGELU, as the configuration beside"):
        resolve("hf:org/name")

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="pip install huggingface_hub"):
        resolve("hf:org/name")


def convert(source, target):
    command = [sys.executable, ROOT / "scripts" / "convert_weights.py", source, target]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed")
def test_converter_says_that_it_needs_torch(tmp_path):
    result = convert(tmp_path / "in.pth", tmp_path / "out.safetensors")
    assert result.returncode == 2
    assert "install torch>=2.10" in result.stderr


@pytest.mark.skipif(find_spec("torch") is None, reason="needs torch")
def test_converter(tmp_path):
    import torch

    network, source, target = build("resnet_micro"), tmp_path / "in.pth", tmp_path / "w.safetensors"
    tensors = torch_tensors(network)
    state = {f"module.{name}": torch.tensor(value) for name, value in tensors.items()}
    torch.save({"state_dict": state, "epoch": 3}, source)
    assert convert(source, target).returncode == 0
    kernel = load_torch(target, shapes(network))["params"]["backbone"]["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel, tensors["conv1.weight"].transpose(2, 3, 1, 0))

    torch.save({"state": convert}, source)  # a pickled function must not be loaded
    refused = convert(source, target)
    assert refused.returncode == 2 and "more than tensors" in refused.stderr


# --- transformers of today


@pytest.mark.slow
def test_a_swin_of_other_windows_is_resampled_and_its_authors_names_are_read(tmp_path):
    """They merge at the end of a stage, timm at the beginning of the next."""
    network = build("swin_micro")
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: jnp.float32(rng.normal(size=x.shape)), shapes(network))
    export_torch(tmp_path / "timm.safetensors", variables)
    tensors = load_file(tmp_path / "timm.safetensors")

    theirs = {"layers.0.blocks.0.attn.relative_position_index": np.zeros((4, 4), np.int64)}
    for name, value in tensors.items():
        stage = name.split(".")[1]
        if ".downsample." in name:
            name = name.replace(f"layers.{stage}.", f"layers.{int(stage) - 1}.", 1)
        theirs[name.replace("head.fc.", "head.")] = value
    save_file(theirs, tmp_path / "authors.safetensors")
    again = load_torch(tmp_path / "authors.safetensors", zeros(network))
    jax.tree.map(np.testing.assert_array_equal, again, variables)

    larger = load_torch(tmp_path / "timm.safetensors", zeros(network, 64))["params"]["backbone"]
    attention = larger["layers_0"]["blocks_1"]["attn"]
    assert attention["relative_position_bias_table"].shape == (49, 1)
    stored = variables["params"]["backbone"]["layers_0"]["blocks_1"]["attn"]
    expected = relative_biases(stored["relative_position_bias_table"], (49, 1))
    np.testing.assert_array_equal(attention["relative_position_bias_table"], expected)

    tensors["layers.0.blocks.1.attn.relative_position_bias_table"] = np.zeros((8, 1), np.float32)
    save_file(tensors, tmp_path / "odd.safetensors")
    with pytest.raises(UserError, match=r"\(8, 1\) for \(9, 1\)\); it looks like a Swin"):
        load_torch(tmp_path / "odd.safetensors", shapes(network))


@pytest.mark.parametrize(
    ("name", "likely"),
    [
        ("convnext_micro", "a ConvNeXt of 1, 1, 4, 1 blocks, 4 channels at first"),
        ("swin_micro", "a Swin transformer of 2, 1, 2, 1 blocks, 4 channels at first"),
        ("dinov3_micro", "a vision transformer of width 16 and patches of 8 px"),
        ("efficientnet_micro", "an EfficientNet of 8 blocks"),
    ],
)
def test_what_a_file_seems_to_be(name, likely, tmp_path):
    export_torch(tmp_path / "w.safetensors", zeros(build(name)))
    with pytest.raises(UserError, match=f"it looks like {likely}"):
        load_torch(tmp_path / "w.safetensors", shapes(build("resnet_micro")))
