"""Datasets as their makers lay them out on disk: CUB, Cars, Aircraft, Ultra-FGVC.

Each `open_*` reads the index and trusts none of it: what is missing, listed twice, out of range or
outside the dataset's folder raises a UserError that names the file and line. Images are opened only
when they are asked for. The splits are the official ones (METHODS, section 4).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from fgvc_jax.data.files import Entry, assemble, shown
from fgvc_jax.data.framing import Box
from fgvc_jax.data.records import TO_TRAIN, Opening, Splits
from fgvc_jax.data.releases import cars_is_single, cars_test_labels, check_cub, home
from fgvc_jax.data.tables import (
    Annotation,
    Table,
    annotation_rows,
    check_same_ids,
    line_of,
    matlab_classes,
    numbers_by_image,
    read_class_table,
    read_lines,
    read_matlab,
    read_table,
    whole_number,
)
from fgvc_jax.data.view import BANNERS
from fgvc_jax.utils.errors import UserError

BOXES, BOXED = "bounding_boxes.txt", ",boxes"  # CUB's file, and what asks for it
SOYAGEING_STAGES = ("R1", "R3", "R4", "R5", "R6")  # folders of Ultra-FGVC's SoyAgeing


def open_cub(path: str, how: Opening = TO_TRAIN) -> Splits:
    """CUB-200-2011 (5,994 / 5,794 images) and what shares its layout; with ",boxes" after the path
    what is inside the box that `bounding_boxes.txt` has around each bird.

    `images.txt` "id path", `image_class_labels.txt` "id class", `train_test_split.txt` "id 1|0"
    (1 = train), `classes.txt` "class name", classes counted from 1; the images in `images/`.
    """
    root = home("cub", path.removesuffix(BOXED), "images.txt")
    check_cub(root)
    images = read_table(root / "images.txt")
    labels = read_table(root / "image_class_labels.txt")
    split = read_table(root / "train_test_split.txt")
    classes = read_class_table(root / "classes.txt")
    for table in (labels, split):
        check_same_ids(images, table)
    boxes = _boxes(root / BOXES, images) if path.endswith(BOXED) else {}
    train: list[Entry] = []
    test: list[Entry] = []
    for image_id in sorted(images.rows):
        label = labels.number(image_id, 1, len(classes), "class") - 1
        part = train if split.number(image_id, 0, 1, "split") else test
        name = images.rows[image_id].value
        box = boxes.get(image_id)
        entry = Entry(f"images/{name}", label, images.at(image_id), image_id, box=box)
        part.append(entry.check())
    return assemble(root, {"train": train, "test": test}, classes, how=how)


def _boxes(file: Path, images: Table) -> dict[int, Box]:
    """The box of each image, in its pixels."""
    rows = numbers_by_image(file, 5)
    boxes = {key: Box(x, y, wide, high) for key, (x, y, wide, high) in rows.items()}
    missing = sorted(images.rows.keys() - boxes.keys())
    if missing:
        raise UserError(f"{shown(file)} lacks image {missing[0]}: is it complete?")
    return boxes


def open_cars(path: str, how: Opening = TO_TRAIN) -> Splits:
    """Stanford Cars, 8,144 / 8,041 images, in either release.

    First: `cars_train/`, `cars_test/`, `devkit/` with `cars_meta.mat`, `cars_train_annos.mat` and
    `cars_test_annos_withlabels.mat` (or this one beside it). Second: `car_ims/`, `cars_annos.mat`.
    """
    root = home("cars", path, "cars_annos.mat", "devkit", "cars_train")
    if cars_is_single(root):
        return _cars_single(root, root / "cars_annos.mat", how)
    meta = root / "devkit" / "cars_meta.mat"
    classes = matlab_classes(meta, *read_matlab(meta, "class_names"))
    parts = {"train": root / "devkit" / "cars_train_annos.mat", "test": cars_test_labels(root)}
    entries = {}
    for part, file in parts.items():
        entries[part] = [
            Entry(f"cars_{part}/{row.text('fname')}", _car_label(row, classes), row.where)
            for row in annotation_rows(file, *read_matlab(file, "annotations"))
        ]
    return assemble(root, entries, classes, how=how)


def _car_label(row: Annotation, classes: Sequence[str]) -> int:
    return row.number("class", 1, len(classes)) - 1


def _cars_single(root: Path, file: Path, how: Opening) -> Splits:
    names, annotations = read_matlab(file, "class_names", "annotations")
    classes = matlab_classes(file, names)
    parts: dict[str, list[Entry]] = {"train": [], "test": []}
    for row in annotation_rows(file, annotations):
        part = parts["test" if row.number("test", 0, 1) else "train"]
        part.append(Entry(row.text("relative_im_path"), _car_label(row, classes), row.where))
    return assemble(root, parts, classes, how=how)


def open_aircraft(path: str, how: Opening = TO_TRAIN) -> Splits:
    """FGVC-Aircraft, 100 variants, 6,667 / 3,333 images; the banner at the bottom is cropped.

    PATH is the folder that holds `images/`, `images_variant_trainval.txt` and
    `images_variant_test.txt` ("image variant"), or the one that holds it as `data/`. Classes are in
    the order of `variants.txt`, sorted by name where that file is absent.
    """
    listed = "images_variant_trainval.txt"
    root = home("aircraft", path, listed, f"data/{listed}")
    if (root / "data").is_dir():
        root = root / "data"
    parts = {"train": listed, "test": "images_variant_test.txt"}
    tables = {part: read_table(root / file, integer_keys=False) for part, file in parts.items()}
    variants = root / "variants.txt"
    if variants.is_file():
        classes = list(dict.fromkeys(line for _, line in read_lines(variants)))
    else:
        classes = sorted({row.value for row in tables["train"].rows.values()})
    labels = {name: label for label, name in enumerate(classes)}
    entries: dict[str, list[Entry]] = {}
    for part, table in tables.items():
        entries[part] = []
        for name, row in table.rows.items():
            if row.value not in labels:
                known = variants.name if variants.is_file() else parts["train"]
                raise UserError(f"{table.at(name)}: variant {row.value!r} is not in {known}")
            entries[part].append(Entry(f"images/{name}.jpg", labels[row.value], table.at(name)))
    return assemble(root, entries, classes, crop_bottom=BANNERS["aircraft"], how=how)


def open_ultra(path: str, how: Opening = TO_TRAIN) -> Splits:
    """The Ultra-FGVC sets (Cotton80, SoyLocal, SoyGene, SoyAgeing, SoyGlobal).

    `images/`, `anno/train.txt` and `anno/test.txt` with lines "name label", labels from 1. The sets
    name no classes: the label as printed is the name. SoyAgeing is five such sets of the same
    classes, photographed at five stages of growth, in folders R1, R3, R4, R5 and R6: each can be
    given alone (`ultra:PATH/R1`), and the folder that holds them is all five together.
    """
    root = home("ultra", path, "anno", *SOYAGEING_STAGES)
    prefixes = [""]
    if not (root / "anno").is_dir() and any((root / stage).is_dir() for stage in SOYAGEING_STAGES):
        prefixes = [f"{stage}/" for stage in SOYAGEING_STAGES]
    entries = {
        part: [entry for prefix in prefixes for entry in _ultra_entries(root, prefix, part)]
        for part in ("train", "test")
    }
    # Every class has a training image, so there are no more classes than training images.
    limit = len(entries["train"])
    for entry in entries["train"] + entries["test"]:
        if not 0 <= entry.label < limit:
            raise UserError(f"{entry.where}: label {entry.label + 1} is outside 1..{limit}")
    count = 1 + max((entry.label for entry in entries["train"] + entries["test"]), default=-1)
    return assemble(root, entries, [str(label + 1) for label in range(count)], how=how)


def _ultra_entries(root: Path, prefix: str, part: str) -> Iterator[Entry]:
    file = root / f"{prefix}anno" / f"{part}.txt"
    for number, line in read_lines(file):
        where = line_of(file, number)
        name, *label = line.rsplit(maxsplit=1)
        if not label:
            raise UserError(f"{where}: {line!r} is not 'name label'")
        yield Entry(f"{prefix}images/{name}", whole_number(label[0], where) - 1, where)
