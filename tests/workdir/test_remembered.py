"""Which training photographs are kept, within which bytes, and what is damaged is not read."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from fgvc_jax.data.view import View
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import remembered, storage, thumbnails
from fgvc_jax.workdir.remembered import Nearest

CLASSES = ("a", "b", "c")
MEMBER = "m" * 64
RECORD = SimpleNamespace(
    classes=CLASSES,
    digests={"train": {"contents": "d" * 64, "files": "f" * 64}},
    experiment=SimpleNamespace(data=SimpleNamespace(view=View())),
)


class Source:
    labels = np.repeat([0, 1, 2], [20, 3, 7]).astype(np.int32)
    ids = np.arange(30, dtype=np.int32)
    names = tuple(f"{i:03d}.png" for i in range(30))
    groups = None

    def __len__(self):
        return 30


def chosen(most, order=None):
    order = np.arange(30) if order is None else order
    rows = remembered.evenly(Source.labels[order], [Source.names[i] for i in order], most)
    return sorted(order[rows].tolist())


@pytest.mark.parametrize("most", [1, 2, 3, 9, 12, 19, 29, 30, 99])
def test_each_class_has_as_many_as_any_other_that_has_them(most):
    counts = np.bincount(Source.labels[chosen(most)], minlength=3)
    assert counts.sum() == min(most, 30)
    for count, there in zip(counts, (20, 3, 7), strict=True):
        assert count == there or count >= counts.max() - 1


def test_the_choice_is_one_whatever_the_order_and_fewer_are_some_of_more():
    shuffled = np.random.default_rng(0).permutation(30)
    assert chosen(11) == chosen(11, shuffled)
    assert set(chosen(7)) < set(chosen(11)) < set(chosen(20))
    assert remembered.evenly(Source.labels, Source.names, 11).tolist() == chosen(11)
    hostile = remembered.evenly(np.zeros(2, int), ["\udcff.png", "x"], 5)
    assert hostile.tolist() == [0, 1]


@pytest.mark.parametrize("width", [16, 384, 2048, 4 * 2048, 10**9])
def test_vectors_and_thumbnails_stay_within_their_bytes(width):
    count = remembered.fitting(width)
    assert 1 <= count <= remembered.MOST
    assert count == 1 or 2 * width * count + thumbnails.HEADER <= 25_000_000
    assert remembered.fitting(2048) == 5_000 and remembered.fitting(4 * 2048) == 1_525
    share = thumbnails.bytes_each(count, remembered.PICTURES)
    assert share * count < remembered.PICTURES <= 15_000_000
    assert thumbnails.side(count, 448, remembered.PICTURES) >= 100


@pytest.fixture
def part(tmp_path):
    found, rows = remembered.part_of(tmp_path, Source(), RECORD, 6)
    assert found.names == tuple(Source.names[row] for row in rows)
    with remembered.keep(found, [MEMBER], [4]) as (vectors,):
        vectors[:] = np.eye(6, 4)
    return found


def test_what_is_kept_is_found_by_what_it_is_of(part, tmp_path):
    found = remembered.find(tmp_path, RECORD)
    assert found.names == part.names and found.labels.tolist() == part.labels.tolist()
    assert remembered.has(found, MEMBER) and not remembered.has(found, "n" * 64)
    assert remembered.embedding(found, MEMBER).tolist() == np.eye(6, 4).tolist()
    assert not remembered.is_kept(found, [MEMBER])  # which lacks the photographs
    for other in ({"classes": ("a", "b")}, {"digests": {"train": {"contents": "e" * 64}}}):
        assert remembered.find(tmp_path, SimpleNamespace(**vars(RECORD) | other)) is None


def test_other_numbers_of_photographs_make_way(part, tmp_path):
    more, _ = remembered.part_of(tmp_path, Source(), RECORD, 9)
    with remembered.keep(more, [MEMBER], [2]) as (vectors,):
        vectors[:] = 1
    remembered.forget_others(more)
    assert [f.name for f in (tmp_path / "predictions").iterdir()] == [more.folder.name]


@pytest.mark.parametrize(
    ("key", "value"), [("labels", [0, 1, 2, 0, 1, 3]), ("labels", [0, 1, 2, 0, 1, -1]),
                       ("names", ["x"]), ("classes", ["a"]), ("labels", []), ("names", 3)]
)  # fmt: skip
def test_a_list_that_is_damaged_is_not_read(part, tmp_path, key, value):
    file = part.folder / "images.json"
    storage.write_json(file, json.loads(file.read_text()) | {key: value})
    assert remembered.find(tmp_path, RECORD) is None


@pytest.mark.parametrize(
    "array", [np.zeros((5, 4), np.float16), np.zeros(6, np.float16), np.zeros((6, 4), np.float32),
              np.full((6, 4), np.nan, np.float16)]
)  # fmt: skip
def test_vectors_that_are_damaged_are_not_searched(part, array):
    storage.write_array(part.path(MEMBER, "embedding"), array)
    with pytest.raises(UserError, match="damaged"):
        remembered.embedding(part, MEMBER)
    assert not remembered.has(part, MEMBER)


def test_neighbours_of_errors_come_back_or_are_none_where_damaged(part):
    assert Nearest.read(part, [MEMBER]) is None
    kept = Nearest((MEMBER,), "digest", {3: [(5, 0.5), (0, 0.25)]})
    kept.write(part)
    assert Nearest.read(part, [MEMBER]) == kept
    (file,) = part.folder.glob("*.nearest.json")
    whole = json.loads(file.read_text())
    for found in ({"3": [[6, 0.5]]}, {"x": []}, {"3": [[0]]}, [1], {"3": 1}):
        storage.write_json(file, whole | {"found": found})
        assert Nearest.read(part, [MEMBER]) is None
