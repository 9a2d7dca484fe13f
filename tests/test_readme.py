"""README.md of an export says how good it is, on what, and gives nothing away."""

import dataclasses

import numpy as np
import pytest
from exports import trained
from photographs import photograph
from PIL import Image

from fgvc_jax.inference.export import readme


@pytest.fixture(scope="module")
def of():
    return trained(members=1)


def test_members_that_were_not_judged(of):
    text = readme.text(of, files=["`a`: b"], use="How.\n")
    assert "Not judged yet" in text and "36 x 36 px" in text and "How." in text
    assert text.startswith("# resnet_micro of `sketchbirds`")


def test_chosen_members_are_judged_by_a_command_of_their_own(of):
    model = of.model
    before, model.numbers = model.numbers, (2, 3)
    text = readme.text(of, files=[], use="")
    model.numbers = before
    assert "`python -m fgvc_jax.evaluate --members 2,3`" in text and "Not judged yet" not in text


def test_accuracy_with_intervals(of):
    ends = {"value": 0.5, "low": 0.25, "high": 0.75}
    metrics = {"accuracy": ends, "nll": ends}
    results = {
        "images": {"train": 10, "validation": 0, "test": 4},
        "ensemble": [0.5, 0.5],
        "metrics": {"members": [metrics] * 2, "ensemble": [metrics] * 2},
        "calibration": None,
    }
    text = readme.text(dataclasses.replace(of, results=results), files=[], use="")
    text = " ".join(text.split())  # tables are aligned
    assert "| ensemble of 2 | 50.00 % | 25.00-75.00 % |" in text
    assert "| member 2 | 50.00 % | 25.00-75.00 % |" in text
    assert "0.500 (0.250-0.750)" in text and "(10 train, 4 test images)" in text


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("folder:/home/me/birds/", "folder:birds"),
        ("cub:/data/CUB_200_2011", "cub:CUB_200_2011"),
        ("sketchbirds", "sketchbirds"),
        ("hf:timm/resnet50", "hf:timm/resnet50"),
        ("/home/me/a.safetensors", "a.safetensors"),
        ("", ""),
    ],
)
def test_folders_of_this_machine_are_left_out(word, told):
    assert readme.shareable(word) == told


def test_a_hostile_name_stays_within_its_code(of):
    data = dataclasses.replace(of.experiment.data, source="folder:/x/`a`\n# b\u202e")
    other = dataclasses.replace(of, experiment=dataclasses.replace(of.experiment, data=data))
    (title, *_) = readme.text(other, files=[], use="").splitlines()
    assert title == "# resnet_micro of `folder: a \\n# b\\u202e`"


@pytest.mark.parametrize("orientation", ["stored", "exif"])
def test_new_photographs_are_turned_however_the_dataset_is_read(orientation):
    of = trained(members=1, view={"orientation": orientation})
    assert "exif_transpose" in readme.image_code(of)
    assert "turned as their EXIF tag says" in readme.text(of, files=[], use="")


@pytest.mark.parametrize("decode", ["exact", "scaled"])
@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_the_code_makes_of_a_photograph_what_the_model_does(decode, fit, tmp_path, monkeypatch):
    of = trained(members=1, view={"decode": decode, "fit": fit})
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph(0).resize((800, 600)).save(tmp_path / "bird.jpg", exif=exif)
    monkeypatch.chdir(tmp_path)
    made = {}
    exec(readme.image_code(of), made)
    apart = np.abs(made["images"][0].astype(int) - of.model.square("bird.jpg"))
    assert apart.max() <= (fit == "crop")  # which is computed from another corner
    assert ("at the smallest of" in readme.text(of, files=[], use="")) == (decode == "scaled")


@pytest.mark.parametrize(
    ("source", "told"), [("cub:/data/CUB,boxes", True), ("coco:a.json,b", True), ("cub:C", False)]
)
def test_boxes_are_told_where_the_training_images_were_cut_out(source, told):
    of = trained(members=1, view={"source": source, "margin": 0.25})
    assert ("0.25 of a box's sides beyond" in readme.text(of, files=[], use="")) == told


def test_a_banner_is_told_where_the_training_images_had_one(of):
    assert "cut off" not in readme.text(of, files=[], use="") + readme.image_code(of)
    other = trained(members=1, view={"source": "aircraft:/data/fgvc"})
    assert "had 20 rows at the bottom cut off" in readme.text(other, files=[], use="")
    assert "# image = image.crop((0, 0, image.width, image.height - 20))" in readme.image_code(
        other
    )


def test_what_was_solved_had_no_epochs():
    text = readme.training(trained(objective="knn", head="linear", members=1))
    assert "head `knn`" in text and "the head solved on embeddings of" in text
    assert "epoch" not in text


@pytest.mark.parametrize(
    ("network", "told"),
    [
        ({}, "started from random weights"),
        ({"weights": "/home/me/a.safetensors"}, "started from `a.safetensors`"),
        ({"start": "/home/me/runs/birds"}, "started from the members of `birds`"),
    ],
)
def test_what_the_members_started_from_is_told(of, network, told):
    begun = dataclasses.replace(of.experiment.network, **network)
    other = dataclasses.replace(of, experiment=dataclasses.replace(of.experiment, network=begun))
    assert told in readme.training(other) and "/home" not in readme.training(other)
