"""Pretrained weights that load without a word, and are of another network or other images."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import SHARED, needs_shared, tiny
from flax.traverse_util import flatten_dict, unflatten_dict

from fgvc_jax.config import Network
from fgvc_jax.data import sources
from fgvc_jax.data.images import decode
from fgvc_jax.training import suitability
from fgvc_jax.training.run import Run

DATA = dataclasses.replace(tiny().data, orientation="stored", decode="exact")
RESNET = SHARED / "resnet50_v1_in1k.safetensors"


@pytest.fixture(scope="module")
def birds():
    source = sources.open_source(f"cub:{SHARED / 'cub200_2010'}").train
    rows = np.linspace(0, len(source) - 1, 8).astype(int)
    return np.stack([decode(source[int(row)], 160, orientation="stored") for row in rows])


def variables(name, weights):
    spec = tiny(network=Network(name=name, weights=str(weights), head="linear"))
    return Run(spec).start.pretrained(1)


@pytest.mark.slow
@needs_shared
@pytest.mark.parametrize(
    ("name", "normalize", "named"),
    [
        ("resnet50_v1", "imagenet", []),
        ("resnet50", "imagenet", ["try --network.name resnet50_v1"]),
        ("resnet50_v1", "half", ["try --data.normalize imagenet in place of half"]),
    ],
)
def test_a_real_networks_other_variant_and_normalisation_are_named(name, normalize, named, birds):
    said = suitability.of_network(name, variables(name, RESNET), birds, normalize)
    assert len(said) == len(named)
    assert all(words in line for words, line in zip(named, said, strict=True))


def remembering(name, images, normalize):
    """Random variables whose batch norms remember what they see of images."""
    drawn = Run(tiny(network=Network(name=name, head="linear"))).start
    whole = {kind: {"backbone": tree["backbone"]} for kind, tree in drawn.variables(1).items()}
    made = suitability.Remembering(name, whole)
    seen = flatten_dict(made.remembered(images, normalize))
    known = flatten_dict(whole["batch_stats"])
    return {**whole, "batch_stats": unflatten_dict({**known, **seen})}


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", ["vgg_micro", "resnet_micro", "efficientnet_micro"])
def test_weights_that_saw_other_images_are_told(name):
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    known = remembering(name, images, "imagenet")
    assert suitability.of_network(name, known, images, "imagenet") == []
    (line,) = suitability.of_network(name, known, images, "half")
    assert "try --data.normalize imagenet in place of half" in line


def test_networks_without_batch_norm_remember_nothing():
    images = np.zeros((2, 32, 32, 3), np.uint8)
    assert (
        suitability.of_network("vit_micro", {"params": {}, "batch_stats": {}}, images, "half") == []
    )


def test_few_images_say_nothing():
    images = np.zeros((suitability.IMAGES // 2 - 1, 32, 32, 3), np.uint8)
    known = {"params": {}, "batch_stats": {"backbone": {}}}
    assert suitability.of_network("resnet_micro", known, images, "half") == []


def test_members_that_are_alike_are_asked_once(monkeypatch):
    calls = []
    monkeypatch.setattr(suitability, "of_network", lambda *a: calls.append(a[0]) or ["a doubt"])
    network = SimpleNamespace(name="resnet50", weights="a.safetensors")
    own = SimpleNamespace(name="resnet50", weights="package:x")
    experiment = SimpleNamespace(
        each=(network, network, own, network),
        of=lambda number: SimpleNamespace(data=DATA),
        data=DATA,
    )
    train = sources.open_source("sketchbirds").train
    run = SimpleNamespace(
        experiment=experiment,
        splits=SimpleNamespace(train=train),
        start=SimpleNamespace(pretrained=lambda number: {}),
    )
    assert suitability.doubts(run) == ["a doubt"]
    assert calls == ["resnet50"]
