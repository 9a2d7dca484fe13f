"""Datasets in their makers' layouts: what is right is read, what is wrong is named."""

from pathlib import Path

import numpy as np
import pytest
from conftest import first_quick
from datasets import contents, placeholders, refused, write
from scipy.io import savemat

from fgvc_jax.data.sources import open_source

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


# CUB

CUB = {
    "classes.txt": "1 001.Auk\n2 002.Wren\n",
    "images.txt": "7 001.Auk/a.jpg\r\n3 002.Wren/b c.jpg\r\n\r\n9 001.Auk/d.jpg\r\n",
    "image_class_labels.txt": "3 2\n7 1\n9 1\n",
    "train_test_split.txt": "3 1\n7 1\n9 0\n",
    **placeholders("images/001.Auk/a.jpg", "images/002.Wren/b c.jpg", "images/001.Auk/d.jpg"),
}


def test_cub(tmp_path):
    splits = open_source(f"cub:{write(tmp_path, CUB)}")
    assert (splits.orientation, splits.decode) == ("stored", "exact")  # as publications have them
    assert splits.classes == ("001.Auk", "002.Wren")
    assert contents(splits.train) == [
        ("images/002.Wren/b c.jpg", 1, 3),
        ("images/001.Auk/a.jpg", 0, 7),
    ]
    assert contents(splits.test) == [("images/001.Auk/d.jpg", 0, 9)]


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("images.txt", "a.jpg", "../../../etc/passwd", ["images.txt' line 1", "not a path inside"]),
        ("images.txt", "001.Auk/a.jpg", "/etc/passwd", ["images.txt' line 1", "not a path inside"]),
        ("images.txt", "a.jpg", "z.jpg", ["images.txt' line 1", "/001.Auk/z.jpg' does not exist"]),
        ("images.txt", "001.Auk/d", "001.Auk/a", ["line 4", "is already listed by", "line 1"]),
        ("images.txt", "9 ", "7 ", ["images.txt' line 4: 7 is already on line 1"]),
        ("images.txt", "9 ", "99999999999 ", ["images.txt' line 4: id 99999999999 is above"]),
        ("images.txt", "9 ", "-9 ", ["images.txt' line 4: '-9' is not a whole number"]),
        ("images.txt", "9 ", "٩ ", ["images.txt' line 4: '٩' is not a whole number"]),
        ("images.txt", "9 ", f"{'9' * 5000} ", ["images.txt' line 4", "is not a whole number"]),
        ("images.txt", " 001.Auk/d.jpg", "", ["images.txt' line 4: '9' lacks its second column"]),
        ("image_class_labels.txt", "9 1", "9 3", ["labels.txt' line 3: class 3 is outside 1..2"]),
        ("image_class_labels.txt", "9 1", "9 0", ["labels.txt' line 3: class 0 is outside 1..2"]),
        ("image_class_labels.txt", "9 1", "9 1.5", ["labels.txt' line 3: '1.5' is not a whole"]),
        ("image_class_labels.txt", "9 1\n", "", ["images.txt' line 4: image 9 is not in"]),
        ("image_class_labels.txt", "9 1", "9 1\n5 1", ["labels.txt' line 4: image 5 is not in"]),
        ("image_class_labels.txt", "3 2", "3 1", ["class '002.Wren' has no training image"]),
        ("train_test_split.txt", "9 0", "9 2", ["split.txt' line 3: split 2 is outside 0..1"]),
        ("train_test_split.txt", "9 0", "9 1", ["has no image in its test part"]),
        ("train_test_split.txt", "9 0", "9 0\n9 1", ["split.txt' line 4: 9 is already on line 3"]),
        ("classes.txt", "2 002", "3 002", ["classes.txt' line 2: class 3 is outside 1..2"]),
        ("classes.txt", "1 001.Auk\n2 002.Wren\n", " \n", ["classes.txt' is empty"]),
        ("classes.txt", "Auk", "\udcff", ["classes.txt' is not UTF-8"]),
        (
            "classes.txt",
            "2 002.Wren",
            "2 001.Auk",
            ["two classes '001.Auk', number 1 and number 2"],
        ),
    ],
)
def test_cub_mistakes(tmp_path, file, old, new, words):
    text = CUB[file].replace(old, new, 1).encode(errors="surrogateescape")
    refused(f"cub:{write(tmp_path, {**CUB, file: text})}", *words)


@pytest.mark.parametrize("file", [name for name in CUB if name.endswith(".txt")])
def test_cub_missing_index(tmp_path, file):
    (write(tmp_path, CUB) / file).unlink()
    refused(f"cub:{tmp_path}", f"{file}' does not exist")


def test_cub_without_images(tmp_path):
    index = {name: text for name, text in CUB.items() if name.endswith(".txt")}
    refused(f"cub:{write(tmp_path, index)}", "b c.jpg' does not exist (3 images are missing)")


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_cub_true_index_of_2011(tmp_path):
    for file in (SHARED / "cub200_2011_annotations").glob("*.txt"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    lines = (tmp_path / "images.txt").read_text().splitlines()
    names = [line.split()[1] for line in lines]
    for folder in {name.split("/")[0] for name in names}:
        (tmp_path / "images" / folder).mkdir(parents=True)
    for name in names:
        (tmp_path / "images" / name).touch()
    splits = open_source(f"cub:{tmp_path}")
    assert (len(splits.train), len(splits.test), len(splits.classes)) == (5994, 5794, 200)
    assert sorted([*splits.train.ids, *splits.test.ids]) == list(range(1, 11789))
    (tmp_path / "images" / names[4]).unlink()
    refused(f"cub:{tmp_path}", "images.txt' line 5", names[4])


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_cub_set_of_2010():
    splits = open_source(f"cub:{SHARED / 'cub200_2010'}")
    assert (len(splits.train), len(splits.test), len(splits.classes)) == (3000, 3033, 200)
    assert np.bincount(splits.train.labels).tolist() == [15] * 200
    record = splits.test[17]
    assert record["image"] == Path(record["name"]).read_bytes()


# Cars


def struct(rows):
    """Rows of dicts as MATLAB's struct array."""
    array = np.empty((1, len(rows)), dtype=[(name, object) for name in rows[0]])
    for i, row in enumerate(rows):
        array[0, i] = tuple(row.values())
    return array


def cells(names):
    array = np.empty((1, len(names)), object)
    array[0, :] = names
    return array


NAMES = ["Acura TL 2012", "Ram C/V Van 2012"]
BOX = {"bbox_x1": np.uint8(3)}


def cars_devkit(root, train=None, test=None, names=NAMES, beside=True):
    train = train or [{**BOX, "class": 2, "fname": "00001.jpg"}, {"b": 1, "class": 1, "f": "2.jpg"}]
    train[1:] = [dict(zip(train[0], row.values(), strict=True)) for row in train[1:]]
    test = test or [{**BOX, "class": np.uint8(1), "fname": "00001.jpg"}]
    write(root, placeholders("cars_train/00001.jpg", "cars_train/2.jpg", "cars_test/00001.jpg"))
    (root / "devkit").mkdir(exist_ok=True)
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": cells(names)})
    savemat(root / "devkit" / "cars_train_annos.mat", {"annotations": struct(train)})
    folder = root if beside else root / "devkit"
    savemat(folder / "cars_test_annos_withlabels.mat", {"annotations": struct(test)})
    return root


@pytest.mark.parametrize("beside", [True, False])
def test_cars_first_release(tmp_path, beside):
    splits = open_source(f"cars:{cars_devkit(tmp_path, beside=beside)}")
    assert (splits.orientation, splits.decode) == ("stored", "exact")  # as publications have them
    assert splits.classes == tuple(NAMES)
    assert contents(splits.train) == [("cars_train/00001.jpg", 1, 0), ("cars_train/2.jpg", 0, 1)]
    assert contents(splits.test) == [("cars_test/00001.jpg", 0, 2)]


def cars_single(root, rows, names=NAMES):
    write(root, placeholders("car_ims/1.jpg", "car_ims/2.jpg", "car_ims/3.jpg"))
    savemat(root / "cars_annos.mat", {"annotations": struct(rows), "class_names": cells(names)})
    return root


def car(name, label, test):
    return {"relative_im_path": f"car_ims/{name}.jpg", **BOX, "class": label, "test": test}


def test_cars_single_folder_release(tmp_path):
    rows = [car(1, np.uint8(1), np.uint8(0)), car(2, np.uint8(2), 1), car(3, 2.0, np.bool_(False))]
    splits = open_source(f"cars:{cars_single(tmp_path, rows)}")
    assert (splits.orientation, splits.decode) == ("stored", "exact")  # as publications have them
    assert contents(splits.train) == [("car_ims/1.jpg", 0, 0), ("car_ims/3.jpg", 1, 1)]
    assert contents(splits.test) == [("car_ims/2.jpg", 1, 2)]


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("row", "words"),
    first_quick(
        [
            (car(3, 3, 0), ["annotation 3: class 3 is outside 1..2"]),
            (car(3, 0, 0), ["annotation 3: class 0 is outside 1..2"]),
            (car(3, -(2**62), 0), ["annotation 3: class"]),
            (car(3, 1, 2), ["annotation 3: test 2 is outside 0..1"]),
            (car(3, 1.5, 0), ["annotation 3: field 'class' is not one whole number"]),
            (car(3, np.nan, 0), ["annotation 3: field 'class' is not one whole number"]),
            (car(3, np.inf, 0), ["annotation 3: field 'class' is not one whole number"]),
            (car(3, np.array([1, 2]), 0), ["annotation 3: field 'class' is not one whole number"]),
            (car(3, np.zeros((0, 0)), 0), ["annotation 3: field 'class' is not one whole number"]),
            (car(3, "2", 0), ["annotation 3: field 'class' is not one whole number"]),
            (car("../../x", 1, 0), ["annotation 3: 'car_ims/../../x.jpg' is not a path inside"]),
            (car("x\ny", 1, 0), ["annotation 3: image", "x\\ny.jpg' does not exist"]),
            ({**car(3, 1, 0), "relative_im_path": 5}, ["field 'relative_im_path' is not text"]),
            (car(1, 1, 1), ["annotation 3: 'car_ims/1.jpg' is already listed", "annotation 1"]),
        ],
        4,
    ),
)
def test_cars_hostile_annotations(tmp_path, row, words):
    cars_single(tmp_path, [car(1, 1, 0), car(2, 2, 1), row])
    refused(f"cars:{tmp_path}", "cars_annos.mat'", *words)


def test_cars_mistakes(tmp_path):
    refused(f"cars:{tmp_path}", "holds neither cars_annos.mat", "nor devkit/")
    (tmp_path / "car_ims").mkdir()
    (tmp_path / "cars_annos.mat").write_bytes(b"\0" * 600)
    refused(f"cars:{tmp_path}", "cars_annos.mat' is not a readable MATLAB file")
    savemat(tmp_path / "cars_annos.mat", {"annotations": np.zeros(3), "class_names": cells(NAMES)})
    refused(f"cars:{tmp_path}", "cars_annos.mat' has no list 'annotations'")
    savemat(tmp_path / "cars_annos.mat", {"annotations": cells([1]), "class_names": cells(NAMES)})
    refused(f"cars:{tmp_path}", "cars_annos.mat' annotation 1 has no field 'test'")
    savemat(tmp_path / "cars_annos.mat", {"annotations": cells([1])})
    refused(f"cars:{tmp_path}", "cars_annos.mat' has no list 'class_names'")
    names = cells(["a", 5])
    savemat(tmp_path / "cars_annos.mat", {"annotations": cells([1]), "class_names": names})
    refused(f"cars:{tmp_path}", "cars_annos.mat' class 2 has no name")


def test_cars_classes_of_one_name(tmp_path):
    rows = [car(1, 1, 0), car(2, 2, 1)]
    spec = f"cars:{cars_single(tmp_path, rows, names=['Ram  Van', 'Ram Van'])}"
    refused(spec, "calls two classes 'Ram Van', number 1 and number 2 of 2")


@pytest.mark.slow
def test_cars_test_part_without_labels(tmp_path):
    root = cars_devkit(tmp_path, test=[{**BOX, "fname": "00001.jpg"}])
    refused(f"cars:{root}", "annotation 1 has no field 'class'", "cars_test_annos_withlabels.mat")
    (root / "cars_test_annos_withlabels.mat").unlink()
    refused(f"cars:{root}", "cars_test_annos_withlabels.mat' does not exist")


# Aircraft

AIRCRAFT = {
    "images_variant_trainval.txt": "0034309 707-320\n0000002 Spitfire Mk V\n",
    "images_variant_test.txt": "0000003 707-320\n",
    "variants.txt": "Spitfire Mk V\n707-320\n",
    **placeholders("images/0034309.jpg", "images/0000002.jpg", "images/0000003.jpg"),
}


@pytest.mark.parametrize("inside", ["", "data/"])
def test_aircraft(tmp_path, inside):
    write(tmp_path, {f"{inside}{name}": content for name, content in AIRCRAFT.items()})
    splits = open_source(f"aircraft:{tmp_path}")
    assert (splits.orientation, splits.decode) == ("stored", "exact")  # as publications have them
    assert splits.classes == ("Spitfire Mk V", "707-320")
    assert contents(splits.train) == [("images/0034309.jpg", 1, 0), ("images/0000002.jpg", 0, 1)]
    assert contents(splits.test) == [("images/0000003.jpg", 1, 2)]
    assert splits.train[0]["crop_bottom"] == splits.test[0]["crop_bottom"] == 20


def test_aircraft_without_list_of_variants(tmp_path):
    (write(tmp_path, AIRCRAFT) / "variants.txt").unlink()
    assert open_source(f"aircraft:{tmp_path}").classes == ("707-320", "Spitfire Mk V")


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("images_variant_test.txt", "0000003 747\n", ["line 1: variant '747' is not in variants"]),
        ("images_variant_test.txt", "0034309 707-320", ["already listed", "trainval.txt' line 1"]),
        ("images_variant_test.txt", "../x 707-320\n", ["line 1", "not a path inside"]),
        ("images_variant_test.txt", "0000003\n", ["line 1: '0000003' lacks its second column"]),
        ("images_variant_test.txt", "", ["images_variant_test.txt' is empty"]),
        ("images_variant_trainval.txt", "0034309 707-320\n", ["'Spitfire Mk V' has no training"]),
    ],
)
def test_aircraft_mistakes(tmp_path, file, text, words):
    refused(f"aircraft:{write(tmp_path, {**AIRCRAFT, file: text})}", *words)


# Ultra-FGVC

ULTRA = {
    "anno/train.txt": "a 1.png 2\nsub/b.png 1\n",
    "anno/test.txt": "c.png 2",
    **placeholders("images/a 1.png", "images/sub/b.png", "images/c.png"),
}


def test_ultra(tmp_path):
    splits = open_source(f"ultra:{write(tmp_path, ULTRA)}")
    assert (splits.orientation, splits.decode) == ("stored", "exact")  # as publications have them
    assert splits.classes == ("1", "2")
    assert contents(splits.train) == [("images/a 1.png", 1, 0), ("images/sub/b.png", 0, 1)]
    assert contents(splits.test) == [("images/c.png", 1, 2)]


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("test", "c.png 0", ["test.txt' line 1: label 0 is outside 1..2"]),
        ("test", "c.png 1000000000000", ["test.txt' line 1: label 1000000000000 is outside 1..2"]),
        ("test", "c.png", ["test.txt' line 1: 'c.png' is not 'name label'"]),
        ("test", "c.png x", ["test.txt' line 1: 'x' is not a whole number"]),
        ("test", "", ["no image in its test part"]),
        ("test", "sub/b.png 1", ["test.txt' line 1", "already listed", "train.txt' line 2"]),
        ("train", "a 1.png 2\nsub/b.png 2", ["class '1' has no training image"]),
        ("train", "a 1.png 1\nsub/b.png 1", ["class '2' has no training image"]),
    ],
)
def test_ultra_mistakes(tmp_path, file, text, words):
    refused(f"ultra:{write(tmp_path, {**ULTRA, f'anno/{file}.txt': text})}", *words)


def soyageing(root, stages):
    """Two classes at each stage, in the authors' folders; placeholders name their stage."""
    for stage in stages:
        write(root / stage, {
            "anno/train.txt": "a.png 2\nb.png 1\n",
            "anno/test.txt": "c.png 2\n",
            **{f"images/{name}.png": f"{stage} {name}" for name in "abc"},
        })  # fmt: skip
    return root


STAGES = ("R1", "R3", "R4", "R5", "R6")


def test_soyageing_one_stage(tmp_path):
    splits = open_source(f"ultra:{soyageing(tmp_path, STAGES)}/R4")
    assert contents(splits.train) == [("R4 a", 1, 0), ("R4 b", 0, 1)]
    assert contents(splits.test) == [("R4 c", 1, 2)]


def test_soyageing_all_stages(tmp_path):
    splits = open_source(f"ultra:{soyageing(tmp_path, STAGES)}")
    assert splits.classes == ("1", "2")
    names = [name for name, _, _ in contents(splits.train)]
    assert names == [f"{stage} {name}" for stage in STAGES for name in "ab"]
    assert [label for _, label, _ in contents(splits.test)] == [1] * 5
    assert splits.test.names[3] == "R5/images/c.png"
    assert sorted([*splits.train.ids, *splits.test.ids]) == list(range(15))


def test_soyageing_lacks_a_stage(tmp_path):
    root = soyageing(tmp_path, ("R1", "R3", "R5", "R6"))
    refused(f"ultra:{root}", "R4/anno/train.txt' does not exist")
