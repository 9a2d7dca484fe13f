"""Micro networks beside timm's, OpenCLIP's and those of transformers: taps, gradients, names,
layouts (scripts/golden_networks.py, golden_towers.py)."""

import re
import runpy
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT
from safetensors.numpy import load_file, save_file

from fgvc_jax import networks
from fgvc_jax.networks.heads import LinearHead
from fgvc_jax.networks.weights import export_torch, load_torch

script = runpy.run_path(str(ROOT / "scripts/golden_networks.py"))
waves, SIZE = script["waves"], script["SIZE"]
NORM = re.compile(r"\bbn\d\.weight$")
NETWORKS = {name: family for family, (_, made) in script["MICRO"].items() for name in made}
# By the names of their files, which are not those of timm.
TOWERS = {
    "openclip": "bioclip2_micro",
    "clip": "bioclip2_micro",
    "siglip": "siglip2_micro",
    "registers": "dinov2_reg_micro",
}
# Compiling them takes long; what is special to a family is in its own tests, too.
SOME = [
    name if name == "vit_micro" else pytest.param(name, marks=pytest.mark.slow)
    for name in (*NETWORKS, *TOWERS)
]


@cache
def golden(name):
    """({tap: values}, {tensor: shape} in the file, {tensor: (shape, values)} of the gradient) of
    timm's network, or of a tower."""
    taps, tensors, gradients = {}, {}, {}
    for line in (ROOT / f"tests/golden/{NETWORKS.get(name, name)}.txt").read_text().splitlines():
        network, kind, key, *rest = line.split()
        if network != TOWERS.get(name, name):
            continue
        if kind == "tap":
            taps[key] = [float(value) for value in rest]
        else:
            shape = tuple(int(side) for side in rest[0].split(","))
            if kind == "tensor":
                tensors[key] = shape
            if values := [float(value) for value in rest[1:]]:
                gradients[key] = shape, values
    return taps, tensors, gradients


@pytest.fixture
def network(request):
    name = TOWERS.get(request.param, request.param)
    head = LinearHead(classes=3, pool=networks.pooling(name))
    made = networks.create(name, heads={"logits": head}, dtype=jnp.float32, batch_norm_groups=1)
    return request.param, made


@pytest.fixture
def variables(network, tmp_path):
    """Ours, loaded from a file with timm's names, or a tower's own."""
    name, made = network
    tensors = {
        tensor: np.float32(script["pattern"](tensor, shape))
        for tensor, shape in golden(name)[1].items()
    }
    for norm in [tensor.removesuffix("weight") for tensor in tensors if NORM.search(tensor)]:
        for running in (f"{norm}running_mean", f"{norm}running_var"):
            shape = tensors[f"{norm}weight"].shape
            tensors[running] = np.float32(script["pattern"](running, shape))
    save_file(tensors, tmp_path / "theirs.safetensors")
    images = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: made.init(jax.random.key(0), x, False), images)
    return load_torch(tmp_path / "theirs.safetensors", shapes)


@pytest.mark.sampled(2)
@pytest.mark.slow
@pytest.mark.parametrize("network", SOME, indirect=True)
def test_taps_and_gradients_are_theirs(network, variables, tmp_path):
    name, made = network
    taps, _, gradients = golden(name)
    images = jnp.float32(script["images"](SIZE))

    def loss(params):
        # A batch norm answers as in inference, as timm's did.
        train = "batch_stats" not in variables
        maps, outputs = made.apply({**variables, "params": params}, images, train)
        answers = {**maps, "logits": outputs["logits"]}
        parts = [(x * jnp.float32(waves(0.19, x.shape))).mean() for x in map(answers.get, taps)]
        return sum(parts), answers

    gradient, answers = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    assert answers.keys() == taps.keys()
    for tap, expected in taps.items():
        value = np.asarray(answers[tap], np.float64)
        kept = script["of_tap"](value)
        np.testing.assert_allclose(kept[0], expected[0], rtol=1e-4, err_msg=tap)
        np.testing.assert_allclose(
            kept[1:], expected[1:], rtol=1e-4, atol=1e-4 * np.abs(value).max(), err_msg=tap
        )
    export_torch(tmp_path / "gradient.safetensors", {"params": gradient})
    found = load_file(tmp_path / "gradient.safetensors")
    assert found.keys() == gradients.keys()
    for tensor, (shape, expected) in gradients.items():
        assert found[tensor].shape == shape
        kept = script["of_gradient"](np.float64(found[tensor]))
        tolerance = 1e-4 * expected[0] + 1e-7
        np.testing.assert_allclose(kept, expected, rtol=0, atol=tolerance, err_msg=tensor)


@pytest.mark.parametrize("network", NETWORKS, indirect=True)
def test_names_and_layouts_are_timms_both_ways(network, variables, tmp_path):
    export_torch(tmp_path / "ours.safetensors", variables)
    ours, theirs = (load_file(tmp_path / f"{n}.safetensors") for n in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    for tensor, value in theirs.items():
        np.testing.assert_array_equal(ours[tensor], value)
