"""COCO's annotations as a source: boxes under the names of their categories."""

import io
import json

import numpy as np
import pytest
from datasets import refused, write
from PIL import Image

from fgvc_jax.config import load_config
from fgvc_jax.data import soundness
from fgvc_jax.data.images import content_digest, decode
from fgvc_jax.data.sources import open_source, restrict
from fgvc_jax.utils import digests


def picture(size=(60, 40), box=(30, 10, 20, 20)):
    """Black, and white inside a box."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    x, y, width, height = box
    pixels[y : y + height, x : x + width] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def content(**changes):
    """Four photographs, the first with two boxes; a category without one, a crowd, and a label."""
    images = [
        {"id": n, "file_name": f"./p{n}.png", "width": 60, "height": 40} for n in (1, 2, 3, 4)
    ]
    box = [30, 10, 20, 20]
    annotations = [
        {"image_id": 1, "category_id": 7, "bbox": box},
        {"image_id": 1, "category_id": 5, "bbox": [0.0, 0.0, 30, 40]},
        {"image_id": 2, "category_id": 7, "bbox": box},
        {"image_id": 3, "category_id": 5, "bbox": box},
        {"image_id": 4, "category_id": 7, "bbox": box, "iscrowd": 1},
        {"image_id": 4, "category_id": 5},
    ]
    categories = [
        {"id": 5, "name": "wren"}, {"id": 7, "name": "auk"}, {"id": 9, "name": "owl"}
    ]  # fmt: skip
    found = {"images": images, "annotations": annotations, "categories": categories} | changes
    return json.dumps(found)


@pytest.fixture
def root(tmp_path):
    files = {f"photos/p{n}.png": picture() for n in (1, 2, 3, 4)}
    return write(tmp_path, files | {"boxes.json": content()})


def test_what_is_shown_is_inside_the_boxes(root, caplog):
    splits = open_source(f"coco:{root}/boxes.json,{root}/photos", to_train=False)
    assert splits.classes == ("auk", "wren")
    assert (splits.orientation, splits.decode) == ("exif", "scaled")
    assert ": 2 annotations, of crowds or without a box" in caplog.text
    test = splits.test
    assert test.names == (
        "p1.png#xywh=30,10,20,20", "p1.png#xywh=0,0,30,40", "p2.png#xywh=30,10,20,20",
        "p3.png#xywh=30,10,20,20",
    )  # fmt: skip
    assert test.labels.tolist() == [0, 1, 0, 1] and len(set(test.ids)) == 4
    shown = [decode(test[i], 16, orientation="exif") for i in range(4)]
    assert shown[0][4:-4, 4:-4].min() == 255 and shown[1][:, :12].max() == 0
    wide = decode(test[0], 16, orientation="exif", margin=0.5)
    assert 0.2 < (wide[..., 0] > 127).mean() < 0.3  # a quarter of it


def test_a_smaller_copy_of_the_photographs_serves_as_well(root):
    write(root / "small", {f"p{n}.png": picture((30, 20), (15, 5, 10, 10)) for n in (1, 2, 3, 4)})
    splits = open_source(f"coco:{root}/boxes.json,{root}/small", to_train=False)
    assert decode(splits.test[0], 8, orientation="exif")[2:-2, 2:-2].min() == 255


def test_parts_never_share_a_photograph(tmp_path):
    """Each photograph shows both classes; a part that split boxes would have it on both sides."""
    images = [{"id": n, "file_name": f"p{n}.png", "width": 60, "height": 40} for n in range(20)]
    annotations = [
        {"image_id": n, "category_id": c, "bbox": [10 * c + k, 0, 9, 9]}
        for n in range(20) for c in (1, 2) for k in (0, 20)
    ]  # fmt: skip
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    text = content(images=images, annotations=annotations, categories=categories)
    write(tmp_path, {f"p{n}.png": picture() for n in range(20)} | {"a.json": text})
    splits = open_source(f"coco:{tmp_path}/a.json")
    splits = restrict(splits, classes=0, images_per_class=0, validation=0.2, seed=0)
    parts = {name: {own.partition("#")[0] for own in part.names} for name, part in
             splits.parts.items()}  # fmt: skip
    assert (
        len(parts) == 3 and sum(map(len, parts.values())) == len(set.union(*parts.values())) == 20
    )


def boxes(*boxes, image=1):
    """Annotations of one class."""
    return {"annotations": [{"image_id": image, "category_id": 7, "bbox": box} for box in boxes]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": 3}, "lacks the list 'images'"),
        ({"categories": [{"id": 1}]}, "number 1 of 'categories' has no name"),
        ({"annotations": []}, "has no annotation with a box"),
        (boxes([1, 1, 2, 2], image=9), "annotation 1: image_id 9 is nowhere in the file"),
        (boxes([1, 2, 3]), "annotation 1: the box [1, 2, 3] is not four numbers"),
        (boxes(["1", 2, 3, 4]), "is not four numbers"),
        (boxes([1, 2, 10**400, 4]), "is not four numbers"),
        (boxes([float("nan"), 2, 3, 4]), "of 'p1.png' is not four finite numbers"),
        (boxes([1, 2, 0, 4]), "the box #xywh=1,2,0,4 of 'p1.png' is empty"),
        (boxes([60, 2, 3, 4]), "is outside of its image"),
        (boxes([1, 1, 2, 2], [2, 2, 3, 3]), "has one image or group only"),
        (
            {"categories": [{"id": 5, "name": "a"}, {"id": 7, "name": "a"}]},
            "gives two categories one name",
        ),
        (
            {"images": [{"id": n, "file_name": f"../{n}.png"} for n in (1, 2, 3, 4)]},
            ".png' is not a path inside the dataset",
        ),
    ],
)
def test_what_is_wrong_is_one_line(root, changes, words):
    write(root, {"boxes.json": content(**changes)})
    refused(f"coco:{root}/boxes.json,{root}/photos", words)


WREN = {"id": 5, "name": "wren"}
AUK = {"id": 7, "name": "auk"}


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"categories": [WREN, AUK, {"id": 5, "name": "owl"}]},
         "two of 'categories' have the id 5, 'wren' and 'owl'"),
        ({"images": [{"id": n, "file_name": f"p{n}.png"} for n in (1, 2, 3, 4)]
          + [{"id": 2, "file_name": "p4.png"}]}, "two of 'images' have the id 2, 'p2.png' and"),
        ({"categories": [WREN, {"id": 7, "name": ""}]}, "a category without a name"),
    ],
)  # fmt: skip
def test_ids_and_names_that_say_two_things_are_refused(root, changes, words):
    """The last one won: all that was the first one's got another class, or another photograph."""
    write(root, {"boxes.json": content(**changes)})
    refused(f"coco:{root}/boxes.json,{root}/photos", words, "give")


def test_a_row_that_is_there_twice_says_one_thing(root):
    rows = json.loads(content())["images"]
    write(root, {"boxes.json": content(images=[*rows, rows[0]])})
    splits = open_source(f"coco:{root}/boxes.json,{root}/photos", to_train=False)
    assert len(splits.test) == 4


def test_a_box_that_is_listed_twice_is_told(root):
    twice = boxes([1, 1, 2, 2], [1, 1, 2, 2])
    twice["annotations"] += boxes([1, 1, 2, 2], image=2)["annotations"]
    write(root, {"boxes.json": content(**twice)})
    words = "the box #xywh=1,1,2,2 of 'p1.png' is already listed by"
    refused(f"coco:{root}/boxes.json,{root}/photos", words)


@pytest.mark.parametrize(("text", "words"), [("[", "is not JSON"), ("[]", "holds no JSON object")])
def test_a_file_that_is_no_such_thing_is_told(root, text, words):
    write(root, {"boxes.json": text})
    refused(f"coco:{root}/boxes.json", words)


def test_a_file_that_is_not_there_is_told(root):
    refused(f"coco:{root}/bokses.json", "cannot read")


def test_another_box_is_another_dataset(root):
    """Of the same files, so that nothing that is kept of one is served for the other."""
    spec = f"coco:{root}/boxes.json,{root}/photos"
    known = []
    for box in ([30, 10, 20, 20], [30, 10, 20, 21]):
        write(root, {"boxes.json": content(**boxes(box))})
        splits = open_source(spec, to_train=False)
        contents = {"test": [content_digest(splits.test[0]["image"])]}
        known.append(digests.of_data(splits, contents)["data"])
    assert known[0] != known[1]


def test_boxes_of_one_photograph_are_no_copies_of_each_other(root):
    """Under two labels; a whole photograph twice would be."""
    splits = open_source(f"coco:{root}/boxes.json,{root}/photos", to_train=False)
    pictures = [soundness.examine(splits.test, i, part="test", orientation="exif") for i in (0, 1)]
    assert pictures[0].content != pictures[1].content
    assert [picture.size for picture in pictures] == [(20, 20), (30, 40)]


def test_the_config_of_ones_own_images_takes_it(root):
    found = load_config(f"folder:coco:{root}/boxes.json,{root}/photos", network="resnet50")
    assert found.data.source == f"coco:{root}/boxes.json,{root}/photos"
    assert found.workdir == "runs/boxes"
