import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgvc_jax.data.records import Source
from fgvc_jax.data.sketchbirds import (
    MAX_SPECIES,
    PARTS,
    SEED,
    VARIANTS,
    defining_parts,
    draw_bird,
    open_sketchbirds,
    species_codes,
    species_names,
)
from fgvc_jax.utils.errors import UserError

CODES = species_codes(24)
SIZE = 64


@pytest.fixture(scope="module")
def splits():
    return open_sketchbirds(seed=SEED, train_per_class=3, test_per_class=2, size=SIZE)


@pytest.mark.parametrize("count", [2, 24, MAX_SPECIES])
def test_any_two_species_differ_in_at_least_two_parts(count):
    codes = species_codes(count)
    assert codes.shape == (count, len(PARTS))
    assert codes.min() >= 0 and codes.max() < 4
    distance = (codes[:, None] != codes[None]).sum(axis=-1)
    assert distance[~np.eye(count, dtype=bool)].min() >= 2


def test_fewer_species_are_the_first_of_more():
    np.testing.assert_array_equal(species_codes(MAX_SPECIES)[:24], CODES)
    assert species_names(species_codes(MAX_SPECIES))[:24] == species_names(CODES)


def test_no_part_decides_alone_and_every_variant_occurs():
    for part in CODES.T:
        counts = np.bincount(part, minlength=4)
        assert counts.min() >= 2 and counts.max() <= 12


def test_species_have_close_relatives_and_every_part_defines_some_of_them():
    distance = (CODES[:, None] != CODES[None]).sum(axis=-1) + 9 * np.eye(24, dtype=int)
    assert (distance.min(axis=1) == 2).all()
    defining = defining_parts(CODES)
    assert defining.shape == CODES.shape
    assert defining.sum(axis=1).min() >= 2
    assert defining.sum(axis=0).min() >= 4


def test_defining_parts_by_hand():
    codes = np.array([[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 2, 2], [3, 3, 3, 3]])
    expected = [[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1]]
    np.testing.assert_array_equal(defining_parts(codes), np.array(expected, bool))


def test_names_are_unique_and_say_what_the_bird_is():
    codes = species_codes(MAX_SPECIES)
    names = species_names(codes)
    assert len(set(names)) == MAX_SPECIES
    for name, code in zip(names, codes, strict=True):
        variants = {VARIANTS[part][v] for part, v in zip(PARTS, code, strict=True)}
        assert set(name.split(" ")) <= variants
        assert name.split(" ")[-1] in VARIANTS["bill_shape"]


def test_splits_are_sources_that_share_no_image(splits):
    for source, per_class in ((splits.train, 3), (splits.test, 2)):
        assert isinstance(source, Source)
        assert len(source) == len(source.labels) == len(source.ids) == 24 * per_class
        assert source.labels.dtype == source.ids.dtype == np.int32
        np.testing.assert_array_equal(np.bincount(source.labels), per_class)
        np.testing.assert_array_equal(source.labels, np.arange(len(source)) % 24)
    assert len(np.unique(np.concatenate([splits.train.ids, splits.test.ids]))) == 24 * 5
    assert splits.classes == species_names(CODES) and splits.validation is None
    images = {s[i]["image"].tobytes() for s in (splits.train, splits.test) for i in range(48)}
    assert len(images) == 96


def test_record(splits):
    record = splits.train[25]
    assert record["image"].shape == (SIZE, SIZE, 3) and record["image"].dtype == np.uint8
    assert (record["label"], record["id"]) == (1, 25)
    assert record["name"] == f"sketchbirds/train/{splits.classes[1].replace(' ', '-')}/0001"
    assert splits.test[0]["id"] == 72
    with pytest.raises(IndexError):
        splits.train[72]


def test_image_is_a_function_of_seed_split_and_index(splits):
    image = splits.train[7]["image"]
    more = open_sketchbirds(seed=SEED, train_per_class=9, test_per_class=1, size=SIZE)
    np.testing.assert_array_equal(more.train[7]["image"], image)
    other = open_sketchbirds(seed=SEED + 1, train_per_class=3, test_per_class=2, size=SIZE)
    assert (other.train[7]["image"] != image).mean() > 0.5


def test_another_process_draws_the_same_bits(splits):
    script = (
        "import sys; from fgvc_jax.data.sketchbirds import SEED, open_sketchbirds\n"
        f"s = open_sketchbirds(seed=SEED, train_per_class=3, test_per_class=2, size={SIZE}).test\n"
        "for i in (9, 3, 40): sys.stdout.buffer.write(s[i]['image'].tobytes())"
    )
    there = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout
    assert there == b"".join(splits.test[i]["image"].tobytes() for i in (9, 3, 40))


def test_masks_cover_the_bird_and_are_disjoint(splits):
    areas = []
    for source, i in [(s, i) for s in (splits.train, splits.test) for i in range(len(s))]:
        masks = source.masks(i)
        assert tuple(masks) == PARTS
        assert all(m.shape == (SIZE, SIZE) and m.dtype == bool for m in masks.values())
        np.testing.assert_array_equal(masks["bill_shape"], masks["bill_colour"])
        assert sum(masks[p].astype(int) for p in PARTS if p != "bill_colour").max() == 1
        areas.append([mask.sum() for mask in masks.values()])
    areas = np.array(areas)
    assert ((areas >= 8).mean(axis=0) > 0.8).all(), "a part is hidden or tiny in too many images"
    assert (areas.min(axis=0) < 0.6 * np.median(areas, axis=0)).all(), "a part is never covered"


def test_masks_leave_the_image_as_it_is(splits):
    code = dict(zip(PARTS, CODES[splits.train.labels[5]].tolist(), strict=True))
    rng = np.random.default_rng([SEED, 0, 5])
    image, masks = draw_bird(rng, code, size=SIZE, with_masks=True)
    np.testing.assert_array_equal(splits.train[5]["image"], image)
    assert all((masks[part] == m).all() for part, m in splits.train.masks(5).items())


def test_parts_by_name(splits):
    parts = splits.train.parts(30)
    assert [VARIANTS[part].index(parts[part]) for part in PARTS] == CODES[30 % 24].tolist()


def test_contact_sheet_is_small_enough_for_a_readme(tmp_path):
    script = Path(__file__).resolve().parents[2] / "scripts" / "contact_sheet.py"
    sheet = runpy.run_path(str(script))
    output = tmp_path / "new" / "sheet.png"
    sheet["main"](sheet["Arguments"](output=output, masks=True))
    with Image.open(output) as image:
        assert image.format == "PNG" and image.width > 6 * 96 and image.height > 7 * 96
    assert output.stat().st_size < 200_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"species": 1}, "2 to 200 species, not 1"),
        ({"species": 201}, "2 to 200 species, not 201"),
        ({"size": 16}, "16 px"),
        ({"test_per_class": 0}, "at least one"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(UserError, match=message):
        open_sketchbirds(seed=SEED, **options)
