"""Two copies of a dataset whose names have their accents in two forms, as a Mac (NFD) and most
programs (NFC) write them, are one dataset: the same parts, order, labels, groups and digests."""

import hashlib
import json
import unicodedata

import numpy as np
import pytest
from datasets import placeholders, refused, write

from fgvc_jax.data import csvfile, grouped, taxonomy
from fgvc_jax.data.sources import open_source, restrict
from fgvc_jax.utils import digests
from fgvc_jax.workdir import columns, remembered, training_images

# NFC sorts é behind z, NFD before f.
CLASSES = "épinette", "fichte", "zirbe"
IMAGES = [f"{name}/{letter}{i}.jpg" for name in CLASSES for letter in "éfz" for i in range(4)]


def form(text, how):
    return unicodedata.normalize(how, text)


def copy(root, how, names, lists=()):
    """A folder of files with these names, and of texts, in one form of accents."""
    files = {form(name, how): hashlib.sha256(name.encode()).digest() for name in names}
    return write(root / how, files | {name: form(text, how) for name, text in dict(lists).items()})


def rows(header, line):
    return "\n".join([header, *(line(i, name) for i, name in enumerate(IMAGES))])


LISTED = rows("path,label", lambda i, name: f"{name},{name.split('/')[0]}")
GROUPED = rows(
    "path,label,baum", lambda i, name: f"{name},{name.split('/')[0]},{'éfz'[i % 3]}{i // 6}"
)
PARTS = [f"{'test' if i % 3 else 'train'}/{name}" for i, name in enumerate(IMAGES)]
BOXES = {
    "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES)],
    "images": [{"id": i, "file_name": name} for i, name in enumerate(IMAGES)],
    "annotations": [
        {"image_id": i, "category_id": CLASSES.index(name.split("/")[0]), "bbox": [0, 0, 2, 2]}
        for i, name in enumerate(IMAGES)
    ],
}


@pytest.mark.parametrize(
    ("spec", "names", "lists", "split_by"),
    [
        ("folder:{}", IMAGES, {}, ""),
        ("folder:{}", PARTS, {}, ""),
        ("folder:{},nested", [f"éa/{name}" for name in IMAGES], {}, ""),
        ("csv:{}/list.csv", IMAGES, {"list.csv": LISTED}, ""),
        ("csv:{}/list.csv", IMAGES, {"list.csv": GROUPED}, "baum"),
        ("coco:{}/boxes.json", IMAGES, {"boxes.json": json.dumps(BOXES, ensure_ascii=False)}, ""),
    ],
    ids=["split", "parts", "nested", "list", "groups", "boxes"],
)
def test_two_forms_are_one_dataset(tmp_path, spec, names, lists, split_by):
    def known(how):
        root = copy(tmp_path, how, names, lists.items())
        splits = open_source(spec.format(root), split_by=split_by)
        splits = restrict(splits, classes=0, images_per_class=7, validation=0.3, seed=3)
        found = {
            name: (
                [part[i]["image"] for i in range(len(part))],
                part.labels.tolist(),
                part.ids.tolist(),
                None if part.groups is None else part.groups.tolist(),
            )
            for name, part in splits.parts.items()
        }
        train = splits.train
        return (
            splits.classes,
            splits.lineages,
            found,
            digests.of_data(splits, {}),
            training_images.marks(train, None).tolist(),
            remembered.evenly(train.labels, train.names, 5).tolist(),
        )

    one, apart = known("NFC"), known("NFD")
    assert one == apart
    assert one[0] == ("fichte", "zirbe", "épinette")


def test_names_that_are_composed_stay_in_their_parts(tmp_path):
    """The split of a folder as it always was."""
    root = copy(tmp_path, "NFC", IMAGES)
    names = open_source(f"folder:{root}").test.names
    wanted = [
        name
        for species in ("fichte", "zirbe", "épinette")
        for name in sorted(
            sorted(
                (each for each in IMAGES if each.startswith(species)),
                key=lambda each: hashlib.sha256(f"0 test {each}".encode()).digest(),
            )[:2]
        )
    ]
    assert list(names) == wanted


def test_names_that_only_differ_by_the_form_stay_two(tmp_path):
    both = [form("é.jpg", how) for how in ("NFC", "NFD")]
    write(tmp_path, placeholders(*(f"{c}/{name}" for c in "ab" for name in (*both, "f.jpg"))))
    splits = open_source(f"folder:{tmp_path}")
    assert len(splits.names) == 6
    for part in splits.parts.values():
        assert [part[i]["image"].decode() for i in range(len(part))] == list(part.names)


def test_a_group_in_two_forms_is_one(tmp_path):
    groups = [form("André", how) for how in ("NFC", "NFD")]
    text = f"path,label,split,group\n1.jpg,a,train,{groups[0]}\n2.jpg,a,test,{groups[1]}\n"
    write(tmp_path, {"list.csv": text} | placeholders("1.jpg", "2.jpg"))
    refused(f"csv:{tmp_path / 'list.csv'}", "group 'André' is in test here and in train")


def test_what_a_list_says_is_found_in_either_form(tmp_path):
    text = form("path,label,site\né.jpg,a,Prés\nf.jpg,a,Prés\n", "NFD")
    file = write(tmp_path, {"list.csv": text.replace("Prés", "Pr\u00e9s", 1)}) / "list.csv"
    wanted = {"é.jpg": "Prés", "f.jpg": "Prés"}
    assert grouped.values(file, "site") == wanted
    assert csvfile.beside(file).of.keys() == wanted.keys()
    for name in (form("é.jpg", how) for how in ("NFC", "NFD")):
        assert columns.read(file, "site", [name, "f.jpg"]).values == ("Prés", "Prés")


def test_folders_above_classes_are_one_group_in_either_form(tmp_path):
    above = [form("Érables", how) for how in ("NFC", "NFD")]
    names = [f"{above[i]}/{'éf'[i]}/{n}.jpg" for i in (0, 1) for n in (1, 2)]
    write(tmp_path, placeholders(*(form(name, "NFD") if "é" in name else name for name in names)))
    splits = open_source(f"folder:{tmp_path},nested")
    found = taxonomy.of_folders(splits.lineages)
    assert found.names == (splits.classes, ("Érables",))
    np.testing.assert_array_equal(found.groups[1], [0, 0])
