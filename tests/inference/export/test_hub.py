"""A hub's folder gives back the members, and timm reads it where it has such a network."""

import json
import math
import sys
import types

import numpy as np
import pytest
from exports import CLASSES, images, selftest, trained
from safetensors.numpy import load_file, save_file

import fgvc_jax
from fgvc_jax.inference.export import hub, writing
from fgvc_jax.utils.errors import UserError


def written(of, path):
    path.mkdir(exist_ok=True)
    (path / "README.md").write_text(hub.write(of, path))
    return path


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    """Two members of a frozen trunk."""
    of = trained(frozen="stage3")
    return of, written(of, tmp_path_factory.mktemp("hub"))


def copied(path, to, **changes):
    """The folder with other files: bytes, or a function of a file's content as JSON or tensors."""
    to.mkdir()
    for file in path.iterdir():
        change = changes.get(file.name.replace(".", "_").replace("-", "_"), lambda value: value)
        if change is None:
            continue
        if isinstance(change, bytes):
            (to / file.name).write_bytes(change)
        elif file.suffix == ".json":
            (to / file.name).write_text(json.dumps(change(json.loads(file.read_text()))))
        elif file.suffix == ".safetensors":
            save_file(change(load_file(file)), to / file.name)
        else:
            (to / file.name).write_bytes(file.read_bytes())
    return to


def test_it_answers_as_the_members(ensemble):
    of, path = ensemble
    loaded = fgvc_jax.load(path)
    assert loaded.classes == CLASSES and len(loaded.members) == 2
    some = images(of, 2)
    np.testing.assert_allclose(loaded.predict(some), of.model.predict(some), atol=1e-6)
    assert len(fgvc_jax.load(str(path), members=1).members) == 1


def test_a_model_is_loaded_by_its_name_on_the_hub(ensemble, monkeypatch):
    of, path = ensemble
    asked = []

    def download(repository, allow_patterns):
        asked.append((repository, allow_patterns))
        return str(path)

    client = types.SimpleNamespace(snapshot_download=download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    loaded = fgvc_jax.load("hf:org/birds")
    assert loaded.classes == CLASSES and len(loaded.members) == 2
    assert asked == [("org/birds", ["config.json", "model.safetensors", "model-*.safetensors"])]
    with pytest.raises(UserError, match="expected hf:ORG/NAME"):
        fgvc_jax.load("hf:birds")


@pytest.mark.sampled(2)
@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"objective": "hsd"},
        {"name": "vit_micro"},
        {"name": "vgg_micro"},
        {"name": "efficientnet_micro"},
    ],
)
def test_every_family_comes_back(options, tmp_path):
    of = trained(**options, members=1)
    some = images(of, 1)
    loaded = fgvc_jax.load(written(of, tmp_path))
    np.testing.assert_allclose(loaded.predict(some), of.model.predict(some), atol=1e-6)


def test_each_file_is_a_whole_network_with_torchs_names(ensemble):
    _, path = ensemble
    first, second = (load_file(path / f"{name}.safetensors") for name in ("model", "model-02"))
    assert first.keys() == second.keys() >= {"conv1.weight", "bn1.running_mean"}
    np.testing.assert_array_equal(first["conv1.weight"], second["conv1.weight"])  # the trunk's
    assert any((first[name] != second[name]).any() for name in first)
    assert all(value.dtype == np.float32 for value in first.values())
    modes = {file.stat().st_mode for file in path.iterdir()}
    assert len(modes) == 1  # the weights can be read by whoever can read the rest


def test_no_folder_of_this_machine_is_told(tmp_path):
    import dataclasses

    of = trained(members=1)
    data = dataclasses.replace(of.experiment.data, source="folder:/home/me/birds", cache="/home/me")
    network = dataclasses.replace(of.experiment.network, weights="/home/me/a.safetensors")
    spec = dataclasses.replace(of.experiment, data=data, network=network, workdir="/home/me/run")
    written(dataclasses.replace(of, experiment=spec), tmp_path)
    for name in ("config.json", "README.md"):
        text = (tmp_path / name).read_text()
        assert "/home" not in text and "folder:birds" in text and "a.safetensors" in text


def dropped(tensors):
    return {name: value for name, value in tensors.items() if not name.endswith("fc2.bias")}


def resized(tensors):
    return tensors | {"conv1.weight": np.zeros((4, 3, 5, 5), np.float32)}


def edited(**values):
    return lambda saved: saved | {"fgvc_jax": saved["fgvc_jax"] | values}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config_json": None}, "no config.json"),
        ({"config_json": b"{"}, "none of an export"),
        ({"config_json": b"[" * 100_000}, "none of an export"),
        ({"config_json": b"[1]"}, "none of an export"),
        ({"config_json": b"\xff"}, "cannot be read"),
        ({"config_json": edited(format=2)}, "format 2.*reads format 1"),
        ({"config_json": edited(members=["../model.safetensors"])}, "no files of this folder"),
        ({"config_json": edited(members=[])}, "no files of this folder"),
        ({"config_json": edited(members=[1])}, "none of an export"),
        ({"config_json": edited(members={"model.safetensors": 1})}, "no files of this folder"),
        ({"config_json": edited(which=None)}, "which epoch"),
        ({"config_json": edited(members=["gone.safetensors"])}, "no such file"),
        ({"config_json": edited(experiment={"data": {"resize": "wide"}})}, "data.resize"),
        ({"config_json": edited(experiment={"network": {"head_width": 10**12}})}, "at most"),
        ({"config_json": edited(experiment={"network": 1})}, "none of an export"),
        ({"config_json": edited(experiment={"unknown": 1})}, "unknown field"),
        ({"config_json": lambda saved: saved | {"label_names": "abc"}}, "no class names"),
        ({"config_json": lambda saved: saved | {"label_names": ["a"]}}, "lack heads"),
        ({"model_safetensors": b"no"}, "cannot be read"),
        ({"model_safetensors": dropped}, "lack heads.*heads.logits"),
        ({"model_safetensors": resized}, "of another shape"),
        ({"model_02_safetensors": None}, "no such file"),
    ],
)
def test_a_damaged_folder_is_told_in_one_line(ensemble, changes, words, tmp_path):
    path = copied(ensemble[1], tmp_path / "hub", **changes)
    with pytest.raises(UserError, match=words) as told:
        fgvc_jax.load(path)
    assert "\n" not in str(told.value)


def test_another_trunk_is_told(ensemble, tmp_path):
    def other(tensors):
        return tensors | {"conv1.weight": tensors["conv1.weight"] + 1}

    path = copied(ensemble[1], tmp_path / "hub", model_02_safetensors=other)
    with pytest.raises(UserError, match="another frozen trunk"):
        fgvc_jax.load(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"members": 3}, "--members is 3: 2 are"), ({"which": "selected"}, "--which final")],
)
def test_members_that_are_not_there_are_told(ensemble, options, words):
    with pytest.raises(UserError, match=words):
        fgvc_jax.load(ensemble[1], **options)


def test_other_exports_are_not_loaded(tmp_path):
    (tmp_path / writing.MARK).write_text("{}")
    with pytest.raises(UserError, match="--format hub"):
        fgvc_jax.load(tmp_path)


@pytest.mark.parametrize(("crop", "side"), [(448, 600), (32, 36), (224, 256), (160, 176)])
def test_timm_resizes_to_the_side_that_we_do(crop, side):
    assert math.floor(crop / hub._share(crop, side)) == side


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"members": 1, "head": "linear"}, []),
        ({"members": 2, "head": "linear"}, ["averaged"]),
        ({"members": 1}, ["no such head (`kt`)"]),
        ({"members": 1, "head": "linear", "objective": "knn"}, ["no such head (`knn`)"]),
        ({"members": 1, "head": "linear", "name": "vgg_micro"}, ["was not compared"]),
        ({"members": 1, "head": "linear", "view": {"fit": "pad"}}, ["pads images with another"]),
        ({"members": 1, "head": "linear", "view": {"fit": "crop"}}, []),
        ({"members": 1, "head": "linear", "pool": "max"}, ["does not pool so"]),
        ({"members": 1, "head": "linear", "objective": "hsd"}, ["no heads"]),
        ({"members": 1, "head": "linear", "name": "resnet18", "last_stride": 1}, ["stride"]),
    ],
)
def test_why_timm_would_answer_otherwise(options, words):
    of = trained(**{"name": "vit_micro"} | options)
    found = hub.obstacles(of)
    assert len(found) == len(words)
    assert all(word in reason for word, reason in zip(words, found, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"name": "resnet18"},
        {"name": "efficientnet_lite0", "pool": "avg"},
        {"name": "vit_micro", "pool": "avg"},
        *(
            {"name": f"{family}_micro"}
            for family in (
                "vit",
                "dinov2",
                "dinov2_reg",
                "dinov3",
                "bioclip2",
                "siglip2",
                "convnext",
                "swin",
            )  # fmt: skip
        ),
    ],
)
def test_timm_answers_as_we_do(options, tmp_path):
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    of = trained(head="linear", members=1, **options)
    path = tmp_path / "out"
    assert writing.write(of, path, "hub", hub.FORMAT) == selftest(path).strip()
    network = timm.create_model(f"local-dir:{path}", pretrained=True).eval()
    some = images(of, 2)
    shown = torch.tensor(some[:, 2:34, 2:34]).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        answered = network((shown - 0.5) / 0.5).softmax(-1).numpy()
    np.testing.assert_allclose(answered, of.model.predict(some), atol=1e-4)
