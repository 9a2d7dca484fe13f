"""Datasets on disk: what is right is read, what is wrong is named."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from fgvc_jax.data.layouts import open_folder
from fgvc_jax.data.sources import open_source
from fgvc_jax.errors import UserError

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def write(root, files):
    """Files below root: name -> text or bytes; a name without content is a placeholder."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def placeholders(*names):
    return {name: name.encode() for name in names}


def contents(source):
    """(name below the root as the placeholder says, label, id) of each record."""
    records = (source[i] for i in range(len(source)))
    return [(record["image"].decode(), record["label"], record["id"]) for record in records]


def refused(spec, *words):
    with pytest.raises(UserError) as caught:
        open_source(spec)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


# folder


def test_folder_with_parts(tmp_path):
    files = placeholders(
        "train/b/2.png", "train/b/1.JPG", "train/a/1.jpg", "test/b/1.webp", "test/a/9.bmp"
    )
    ignored = placeholders("train/b/notes.txt", "train/b/.hidden.jpg", "train/.c/1.jpg", "README")
    write(tmp_path, {**files, **ignored})
    splits = open_source(f"folder:{tmp_path}")
    assert splits.classes == ("a", "b") and splits.validation is None
    assert contents(splits.train) == [
        ("train/a/1.jpg", 0, 0),
        ("train/b/1.JPG", 1, 1),
        ("train/b/2.png", 1, 2),
    ]
    assert contents(splits.test) == [("test/a/9.bmp", 0, 3), ("test/b/1.webp", 1, 4)]
    assert splits.train.labels.dtype == splits.train.ids.dtype == np.int32
    assert splits.train[0]["name"] == f"{tmp_path}/train/a/1.jpg"
    with pytest.raises(IndexError):
        splits.train[3]


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_folder_other_names_of_the_test_part(tmp_path, name):
    write(tmp_path, placeholders("train/a/1.jpg", f"{name}/a/2.jpg"))
    splits = open_source(f"folder:{tmp_path}")
    assert len(splits.test) == 1 and splits.validation is None


def test_folder_with_three_parts(tmp_path):
    write(tmp_path, placeholders("train/a/1.jpg", "test/a/2.jpg", "val/a/3.jpg"))
    splits = open_source(f"folder:{tmp_path}")
    assert contents(splits.test) == [("test/a/2.jpg", 0, 1)]
    assert contents(splits.validation) == [("val/a/3.jpg", 0, 2)]


def test_folder_that_is_split(tmp_path):
    names = [f"{name}/{i}.jpg" for name, n in {"a": 2, "b": 10, "c": 11}.items() for i in range(n)]
    write(tmp_path, placeholders(*names))
    splits = open_source(f"folder:{tmp_path}")
    assert splits.classes == ("a", "b", "c")
    assert np.bincount(splits.test.labels).tolist() == [1, 2, 2]
    parts = [contents(splits.train), contents(splits.test)]
    assert sorted(name for part in parts for name, _, _ in part) == sorted(names)
    assert sorted(number for part in parts for _, _, number in part) == list(range(len(names)))
    again = open_source(f"folder:{tmp_path}")
    assert contents(again.test) == parts[1]
    assert contents(open_folder(str(tmp_path), seed=1).test) != parts[1]


def test_folder_mistakes(tmp_path):
    cases = {
        "no_test": (["train/a/1.jpg"], ["has train/ but none of test, val", "/train to have it"]),
        "no_train": (["test/a/1.jpg"], ["has test/ but no train/"]),
        "empty": (["train/a/1.jpg", "train/b/x.txt", "test/a/1.jpg"], ["class 'b' has no train"]),
        "unknown": (["train/a/1.jpg", "test/z/1.jpg"], ["/test/z' has no counterpart in train/"]),
        "no_classes": (["train/1.jpg", "test/a/1.jpg"], ["/train' has no class folders"]),
        "nothing_tested": (["train/a/1.jpg", "test/a/x.txt"], ["no image in its test part"]),
        "nested": (["a/b/1.jpg", "a/b/2.jpg"], ["/a/b' is a folder in a class folder"]),
        "single": (["a/1.jpg", "b/1.jpg", "b/2.jpg"], ["/a' has 1 images", "at least 2"]),
        "unclear": (["train/a/1.jpg", "val/a/2.jpg", "valid/a/2.jpg"], ["has val, valid"]),
    }
    for case, (names, words) in cases.items():
        refused(f"folder:{write(tmp_path / case, placeholders(*names))}", str(tmp_path), *words)


def test_folder_links(tmp_path):
    outside = write(tmp_path / "outside", placeholders("1.jpg", "2.jpg"))
    root = write(tmp_path / "set", placeholders("train/a/1.jpg", "test/a/2.jpg", "pool/x.jpg"))
    link = root / "test" / "a" / "9.jpg"

    link.symlink_to(root / "pool" / "x.jpg")
    assert len(open_source(f"folder:{root}").test) == 2  # inside, and nobody else's

    for target, words in {
        outside / "1.jpg": ["'test/a/9.jpg' is a link that leaves"],
        root / "train" / "a" / "1.jpg": ["'test/a/9.jpg' is already listed by", "/train/a'"],
        root / "pool" / "none.jpg": ["/test/a/9.jpg' does not exist"],
        link: ["/test/a/9.jpg' does not exist"],
    }.items():
        link.unlink()
        link.symlink_to(target)
        refused(f"folder:{root}", *words)
    link.unlink()

    (root / "train" / "b").symlink_to(outside)
    refused(f"folder:{root}", "'train/b/1.jpg' is a link that leaves")

    alias = tmp_path / "alias"  # the dataset's folder itself may be a link
    (root / "train" / "b").unlink()
    alias.symlink_to(root)
    assert len(open_source(f"folder:{alias}").train) == 1


def test_image_that_vanishes_is_named(tmp_path):
    write(tmp_path, placeholders("train/a/1.jpg", "test/a/2.jpg"))
    splits = open_source(f"folder:{tmp_path}")
    (tmp_path / "train/a/1.jpg").unlink()
    with pytest.raises(UserError, match="train/a/1.jpg': No such file"):
        splits.train[0]


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
    assert contents(splits.train) == [("car_ims/1.jpg", 0, 0), ("car_ims/3.jpg", 1, 1)]
    assert contents(splits.test) == [("car_ims/2.jpg", 1, 2)]


@pytest.mark.parametrize(
    ("row", "words"),
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
)
def test_cars_hostile_annotations(tmp_path, row, words):
    cars_single(tmp_path, [car(1, 1, 0), car(2, 2, 1), row])
    refused(f"cars:{tmp_path}", "cars_annos.mat'", *words)


def test_cars_mistakes(tmp_path):
    refused(f"cars:{tmp_path}", "holds neither cars_annos.mat", "nor devkit/")
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
