"""Datasets as people find them: the index whose images exist, and where the dataset begins."""

import os

import pytest
from datasets import contents, placeholders, refused, write
from scipy.io import savemat
from test_layouts import AIRCRAFT, CUB, ULTRA, car, cars_devkit, cars_single, cells

from fgvc_jax.data.sources import open_source


@pytest.mark.parametrize(
    ("kind", "files", "deeper"),
    [
        ("cub", CUB, "CUB_200_2011"),
        ("aircraft", {f"data/{name}": text for name, text in AIRCRAFT.items()}, "a/fgvc-2013b"),
        ("ultra", ULTRA, "Cotton80"),
    ],
)
def test_one_folder_too_high(tmp_path, kind, files, deeper):
    write(tmp_path / deeper, files)
    refused(f"{kind}:{tmp_path}", f"give {kind}:{tmp_path}/{deeper}")
    open_source(f"{kind}:{tmp_path}/{deeper}")


@pytest.mark.parametrize(
    ("kind", "index"),
    [
        *(("cub", name) for name in ("images.txt", "classes.txt")),
        ("aircraft", "images_variant_trainval.txt"),
        ("ultra", "anno/train.txt"),
        ("cars", "devkit/cars_meta.mat"),
        ("csv", "list.csv"),
    ],
)
def test_an_index_that_is_a_pipe_does_not_hang(tmp_path, kind, index):
    cars_devkit(write(tmp_path, CUB | AIRCRAFT | ULTRA))
    (tmp_path / index).unlink(missing_ok=True)
    os.mkfifo(tmp_path / index)
    refused(f"{kind}:{tmp_path}{'/list.csv' if kind == 'csv' else ''}", "it is no regular file")


def test_a_leftover_index_of_cars_shadows_no_complete_devkit(tmp_path):
    cars_devkit(tmp_path)
    savemat(tmp_path / "cars_annos.mat", {"class_names": cells(["left", "over"])})
    splits = open_source(f"cars:{tmp_path}")
    assert contents(splits.test) == [("cars_test/00001.jpg", 0, 2)]
    refused(f"cars:{tmp_path / '..'}/{tmp_path.name}/devkit", "holds neither")


def test_a_leftover_devkit_of_cars_shadows_no_single_folder(tmp_path):
    cars_single(tmp_path, [car(1, 1, 0), car(2, 2, 1), car(3, 2, 0)])
    (tmp_path / "devkit").mkdir()
    assert len(open_source(f"cars:{tmp_path}").train) == 2


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            ["cars_annos.mat", "cars_train/cars_train/00001.jpg", "cars_test/cars_test/00001.jpg"],
            [
                "is Kaggle's copy of Stanford Cars",
                "move the images of cars_train/cars_train/",
            ],
        ),
        (["car_data/car_data/train/BMW/1.jpg", "names.csv"], ["folder:", "/car_data/car_data"]),
        (["cars_annos.mat"], ["without the images that it lists: unpack car_ims/"]),
    ],
)
def test_copies_of_cars_are_named(tmp_path, files, words):
    refused(f"cars:{write(tmp_path, placeholders(*files))}", *words)


@pytest.mark.parametrize("nested", [("train", "test"), ("test",)])
def test_kaggles_cars_opens_when_what_is_said_of_it_is_done(tmp_path, nested):
    """An empty cars_train/cars_train/, as moving its images leaves, brought the same message again;
    where only cars_test/ was deeper, and where devkit/ was, another place was named."""
    root = cars_devkit(tmp_path)
    for part in nested:
        (root / f"cars_{part}").rename(root / "images")
        (root / f"cars_{part}").mkdir()
        (root / "images").rename(root / f"cars_{part}" / f"cars_{part}")
    (root / "car_devkit").mkdir()
    (root / "devkit").rename(root / "car_devkit" / "devkit")
    refused(f"cars:{root}", "is Kaggle's copy of Stanford Cars", "move the images of cars_train/")
    for image in root.glob("cars_*/cars_*/*"):
        image.rename(image.parents[1] / image.name)
    refused(f"cars:{root}", f"has its devkit/ in '{root}/car_devkit/devkit': move it up")
    (root / "car_devkit" / "devkit").rename(root / "devkit")
    assert len(open_source(f"cars:{root}").train) == 2


def test_the_separate_labels_of_cars(tmp_path):
    root = cars_devkit(tmp_path)
    labels = root / "cars_test_annos_withlabels.mat"
    other = labels.rename(root / "cars_test_annos_withlabels (1).mat")
    refused(f"cars:{root}", "has the labels of the test part", f"rename '{other}'")
    other.unlink()
    refused(f"cars:{root}", "a file apart from its devkit: fetch it and put it beside devkit/")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"images.txt": "0000139e-21dc-4d0c-bfe1-4cae3c85c829 0817/1.jpg\n"}, "is NABirds"),
        ({"images.txt": "1 0817/1.jpg\n", "hierarchy.txt": "1 0\n"}, "is NABirds"),
        ({"lists/files.txt": "001.Auk/1.jpg\n"}, "is CUB-200 of 2010"),
    ],
)
def test_relatives_of_cub_are_named(tmp_path, files, words):
    refused(f"cub:{write(tmp_path, files)}", words, "give csv:FILE")
