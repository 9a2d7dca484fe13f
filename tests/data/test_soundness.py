"""What is found in a dataset: each trouble alone, in a set that has no other."""

import io
import zlib

import numpy as np
import pytest
from conftest import ROOT, SHARED
from photographs import encoded, photograph
from PIL import Image, ImageEnhance

from fgvc_jax.data import soundness
from fgvc_jax.data.soundness import findings
from fgvc_jax.data.sources import open_source


@pytest.fixture
def dataset(tmp_path):
    """Two classes of six training and two test images; call it to add files and inspect them."""
    numbers = iter(range(1000))
    for part, count in (("train", 6), ("test", 2)):
        for label in "ab":
            (tmp_path / part / label).mkdir(parents=True)
            for i in range(count):
                photograph(next(numbers)).save(tmp_path / part / label / f"{i}.png")

    def add(files=(), few=2, **how):
        for name, data in dict(files).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data if isinstance(data, bytes) else encoded(data))
        splits = open_source(f"folder:{tmp_path}")
        pictures = soundness.examine_all(splits, threads=2, progress=iter)
        return findings(splits, pictures, few=few, **how)

    return add


def names(finding):
    return [[picture.name for picture in group] for group in finding.groups]


def test_a_sound_set_has_no_findings(dataset):
    assert dataset() == []


def test_files_that_cannot_be_read(dataset):
    whole = encoded(photograph(900), "JPEG")
    broken = {"cut.jpg": whole[: len(whole) // 2], "text.png": b"hello", "empty.jpg": b""}
    (found,) = dataset({f"train/a/{name}": data for name, data in broken.items()}, stops="so many")
    assert found.level == "stops" and found.count == 3 and "would stop: so many." in found.advice
    (same,) = dataset()
    assert same.level == "look" and same.lines == found.lines and "leaves these" in same.advice
    assert all(any(name in line for line in found.lines) for name in broken)
    assert any("cut off" in line for line in found.lines)


@pytest.mark.parametrize(
    ("picture", "remark"),
    [
        (photograph(1).resize((63, 90)), "tiny: 63 x 90 pixels"),
        (photograph(1).resize((700, 100)), "700 x 100 pixels, squeezed to a square"),
        (Image.new("RGB", (100, 100), (9, 200, 9)), "uniform"),
        (ImageEnhance.Brightness(photograph(77)).enhance(0.16), "almost black"),
        (
            Image.fromarray(np.asarray(photograph(78).convert("L")).astype(np.uint16) * 200),
            "16 bits a pixel, of which 8 are kept",
        ),
    ],
)
def test_suspicious_files(dataset, picture, remark):
    found = dataset({"train/a/odd.png": picture})
    (files,) = [one for one in found if "may not be" in one.title]
    assert files.level == "look" and names(files) == [["train/a/odd.png"]]
    assert files.groups[0][0].remarks == (remark,)


def test_turned_photographs(dataset):
    exif = Image.Exif()
    exif[0x0112] = 6
    (found,) = dataset({"train/a/phone.jpg": encoded(photograph(900), "JPEG", exif=exif)})
    assert found.level == "note" and names(found) == [["train/a/phone.jpg"]]
    assert found.groups[0][0].size == (150, 200)  # upright


COPY = photograph(2)  # train/a/2.png
VARIANTS = {
    "smaller": lambda p: p.resize((150, 112)),
    "brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.2),
    "again": lambda p: Image.open(io.BytesIO(encoded(p, "JPEG", quality=40))),
}


def test_the_same_picture_in_several_parts(dataset):
    (found,) = dataset({"test/a/copy.png": encoded(COPY)})
    assert found.level == "look" and found.title == "The same picture in several parts"
    assert names(found) == [["train/a/2.png", "test/a/copy.png"]]


@pytest.mark.parametrize("variant", VARIANTS)
def test_nearly_the_same_picture_in_several_parts(dataset, variant):
    (found,) = dataset({"test/a/copy.png": VARIANTS[variant](COPY)})
    assert found.title == "Nearly the same picture in several parts"
    assert names(found) == [["train/a/2.png", "test/a/copy.png"]] and "group" in found.advice


def test_the_same_picture_under_several_labels(dataset):
    exact, near = dataset({"train/b/c.png": encoded(COPY), "train/b/d.png": COPY.resize((100, 75))})
    assert exact.title == "The same picture under several labels"
    assert names(exact) == [["train/a/2.png", "train/b/c.png"]]
    assert near.title == "Nearly the same picture under several labels"
    assert names(near) == [["train/a/2.png", "train/b/c.png", "train/b/d.png"]]


def test_copies_within_a_class_are_a_note(dataset):
    (found,) = dataset({"train/a/copy.png": encoded(COPY)})
    assert found.level == "note" and found.title == "The same picture twice in a class"


def test_uniform_pictures_are_no_copies_of_each_other(dataset):
    plain = {f"train/a/{i}{i}.png": Image.new("RGB", (90, 90), (i, i, i)) for i in (1, 2)}
    (found,) = dataset(plain)
    assert "may not be" in found.title and found.count == 2


def test_distances_are_found_whatever_the_block(dataset, monkeypatch):
    monkeypatch.setattr(soundness, "BLOCK_BYTES", 1)
    parts, labels = dataset({"test/b/copy.png": COPY.resize((100, 75))})
    assert names(parts) == names(labels) == [["train/a/2.png", "test/b/copy.png"]]


def test_classes_with_few_images(dataset):
    few, without = dataset({f"train/c/{i}.png": photograph(100 + i) for i in range(3)}, few=4)
    assert few.title == "Classes with fewer than 4 training images"
    assert list(few.lines) == ["c: 3 to train on"]
    assert without.title == "Classes without test images" and list(without.lines) == ["c"]


def test_odd_names(dataset):
    odd = {
        "A_b": "", "x\u202egnp": "invisible or control characters", "line\nbreak": "invisible",
        " space": "begins or ends with a space", "Cafe\u0301": "", "a-B ": "begins or ends",
    }  # fmt: skip
    files = {f"{part}/{name}/1.png": photograph(zlib.crc32(f"{part} {name}".encode()))
             for part in ("train", "test") for name in odd}  # fmt: skip
    more = {"train/a/PIC.png": photograph(300), "train/a/pic.png": photograph(301)}
    (found,) = dataset({**files, **more}, few=0)
    assert found.title == "Odd names" and found.level == "look"
    for name, oddity in odd.items():
        assert not oddity or any(f'class "{name}": {oddity}' in line for line in found.lines)
    assert 'classes "A_b" and "a-B ": one class under several names?' in found.lines
    assert 'folder or file "Cafe\u0301": accents stored apart from their letters' in found.lines
    assert sum("differs from another only in" in line for line in found.lines) == 2
    assert len(found.lines) == 5 + 1 + 2


def test_what_programs_write_for_nothing_and_for_numbers_is_odd(dataset):
    names = ("nan", "1", "1.0", "2", "10")
    files = {f"{part}/{name}/1.png": photograph(zlib.crc32(f"{part} {name}".encode()))
             for part in ("train", "test") for name in names}  # fmt: skip
    (found,) = dataset(files, few=0)
    assert list(found.lines) == [
        'class "nan": what programs write where there is no value',
        'classes "1" and "1.0": one class under several names?',
    ]


def test_arrays_are_examined_too():
    splits = open_source("sketchbirds")
    picture = soundness.examine(splits.train, 3, part="train", orientation="stored")
    assert picture.size == (96, 96) and not picture.problem and not picture.remarks
    assert picture.name == splits.train.names[3] and picture.bits.shape == (256,)


def test_perceptual_hashes_are_those_of_imagehash():
    """Bits that ImageHash 4.3.2 gave for photographs of CUB-200 and drawn birds."""
    drawn, compared = open_source("sketchbirds").test, 0
    for line in (ROOT / "tests/golden/perceptual_hashes.txt").read_text().splitlines():
        name, bits = line.split("\t")
        if name.startswith("sketchbirds"):
            picture = Image.fromarray(drawn[int(name.split()[1])]["image"])
        elif SHARED.exists():
            picture = Image.open(SHARED / name).convert("RGB")
        else:
            continue
        gray = picture.convert("L").resize((128, 128), Image.Resampling.BILINEAR)
        assert np.packbits(soundness.perceptual_hash(gray)).tobytes().hex() == bits, name
        compared += 1
    assert compared >= 8
