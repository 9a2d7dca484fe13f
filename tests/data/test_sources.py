"""Names of datasets, and smaller versions of them."""

from hashlib import sha256

import numpy as np
import pytest

from fgvc_jax.data.records import stratified
from fgvc_jax.data.sources import OPENERS, Source, Splits, Subset, open_source, restrict
from fgvc_jax.utils.errors import UserError


class Numbers:
    """A source whose images are their own position."""

    def __init__(self, labels, first_id, groups=None):
        self.labels = np.asarray(labels, np.int32)
        self.ids = np.arange(first_id, first_id + len(labels), dtype=np.int32)
        self.names = [f"image {number}" for number in self.ids]
        self.groups = None if groups is None else np.array(groups, str)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"image": index, "label": int(self.labels[index]), "id": int(self.ids[index])}

    def stat(self, index):
        return int(self.ids[index]), 0


def splits(per_class=10, classes=4, validation=None):
    labels = np.tile(np.arange(classes), per_class)
    return Splits(
        train=Numbers(labels, 100),
        test=Numbers(np.arange(classes), 500),
        classes=tuple("abcdefgh"[:classes]),
        validation=validation,
    )


def same(dataset, *, classes=0, images_per_class=0, validation=0.0, seed=0):
    return restrict(
        dataset,
        classes=classes,
        images_per_class=images_per_class,
        validation=validation,
        seed=seed,
    )


def test_nothing_asked_for_changes_nothing():
    dataset = splits()
    assert same(dataset) == dataset


def test_subset_keeps_ids_and_composes():
    source = Numbers([0, 1, 2, 0, 1, 2], 50, groups=[*"abcdef"])
    subset = Subset(Subset(source, [5, 3, 1]), np.array([2, 0]))
    assert isinstance(source, Source) and isinstance(subset, Source)
    assert subset.names == ("image 51", "image 55") and subset.groups.tolist() == ["b", "f"]
    assert [subset.stat(i) for i in range(2)] == [(51, 0), (55, 0)]
    assert Subset(Numbers([0], 50), [0]).groups is None
    assert len(subset) == 2
    assert subset.ids.tolist() == [51, 55] and subset.labels.tolist() == [1, 2]
    assert [subset[i]["id"] for i in range(2)] == [51, 55]
    with pytest.raises(IndexError):
        subset[2]


def test_first_classes_in_every_part():
    small = same(splits(validation=Numbers([3, 0, 1], 900)), classes=2)
    assert small.classes == ("a", "b")
    for part in (small.train, small.test, small.validation):
        assert set(part.labels) == {0, 1}
    assert len(small.train) == 20 and small.validation.ids.tolist() == [901, 902]


def test_a_part_of_other_classes_only_is_told_before_training():
    with pytest.raises(UserError, match="data.classes=2 leaves no validation image"):
        same(splits(validation=Numbers([3, 2], 900)), classes=2)


def test_first_images_of_each_class():
    dataset = Splits(Numbers([2, 0, 0, 1, 2, 0, 2, 1], 0), Numbers([0], 50), ("a", "b", "c"))
    small = same(dataset, images_per_class=2)
    assert small.train.ids.tolist() == [0, 1, 2, 3, 4, 7]
    assert small.test is dataset.test
    assert len(same(dataset, images_per_class=100).train) == 8


def test_validation_is_stratified_disjoint_and_seeded():
    dataset = splits()
    small = same(dataset, validation=0.3)
    assert np.bincount(small.validation.labels).tolist() == [3, 3, 3, 3]
    assert np.bincount(small.train.labels).tolist() == [7, 7, 7, 7]
    assert sorted([*small.train.ids, *small.validation.ids]) == dataset.train.ids.tolist()
    assert small.test is dataset.test
    assert same(dataset, validation=0.3).validation.ids.tolist() == small.validation.ids.tolist()
    other = same(dataset, validation=0.3, seed=1)
    assert other.validation.ids.tolist() != small.validation.ids.tolist()


def test_validation_leaves_every_class_an_image():
    dataset = Splits(Numbers([0, 1, 1, 1, 1], 0), Numbers([0], 50), ("a", "b"))
    small = same(dataset, validation=0.99)
    assert np.bincount(small.train.labels).tolist() == [1, 1]
    assert small.validation.labels.tolist() == [1, 1, 1]


def test_validation_keeps_groups_together():
    """Ten images of a class in five groups: two of ten means one whole group."""
    labels = np.repeat([0, 1], 10)
    groups = [f"bird {i // 2}" for i in range(20)]
    dataset = Splits(Numbers(labels, 0, groups), Numbers([0, 1], 50), ("a", "b"))
    small = same(dataset, validation=0.2)
    assert np.bincount(small.validation.labels).tolist() == [2, 2]
    assert not set(small.validation.groups) & set(small.train.groups)
    other = same(dataset, validation=0.2, seed=5)
    assert set(other.validation.groups) != set(small.validation.groups)
    one_group = Splits(Numbers([0, 0], 0, ["x", "x"]), Numbers([0], 50), ("a",))
    with pytest.raises(UserError, match="takes no image.*groups stay together"):
        same(one_group, validation=0.5)


def test_restrictions_together():
    small = same(splits(), classes=3, images_per_class=4, validation=0.5)
    assert np.bincount(small.train.labels).tolist() == [2, 2, 2]
    assert np.bincount(small.validation.labels).tolist() == [2, 2, 2]
    # Of the first four images of each class, not of any four.
    assert max(*small.train.ids, *small.validation.ids) < 100 + 4 * 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": 5}, "data.classes=5 .* at most 4"),
        ({"classes": -1}, "data.classes=-1"),
        ({"images_per_class": -1}, "data.images_per_class=-1"),
        ({"validation": 1.0}, r"data.validation=1.0 .* \[0, 1\)"),
        ({"validation": -0.1}, "data.validation=-0.1"),
        ({"validation": float("nan")}, "data.validation=nan"),
        ({"validation": 0.001}, "takes no image: the largest class has 10"),
    ],
)
def test_impossible_restrictions(options, words):
    with pytest.raises(UserError, match=words):
        same(splits(), **options)


def test_restriction_without_test_images():
    dataset = Splits(Numbers([0, 1], 0), Numbers([1], 50), ("a", "b"))
    with pytest.raises(UserError, match="data.classes=1 leaves no test image"):
        same(dataset, classes=1)


def test_validation_cannot_be_split_off_twice():
    with pytest.raises(UserError, match="validation part of its own"):
        same(splits(validation=Numbers([0], 900)), validation=0.1)


def test_stratified_follows_the_key_not_the_order():
    labels = np.repeat([0, 1], 50)
    keys = np.array([f"image {i}" for i in range(100)])
    marked = stratified(labels, keys, 0.2, seed=3, at_least=0)
    order = np.random.default_rng(0).permutation(100)
    assert stratified(labels[order], keys[order], 0.2, seed=3, at_least=0).tolist() == (
        marked[order].tolist()
    )
    # A golden value: the choice must stay what it is, or old splits cannot be repeated.
    ranked = sorted(range(50), key=lambda i: sha256(f"3 image {i}".encode()).hexdigest())
    assert np.flatnonzero(marked[:50]).tolist() == sorted(ranked[:10])


def test_stratified_marks_at_least():
    assert stratified(np.zeros(3), range(3), 0.01, seed=0, at_least=1).sum() == 1
    assert stratified(np.zeros(1), range(1), 0.9, seed=0, at_least=1).sum() == 0


def test_stratified_marks_groups_as_a_whole():
    labels = np.repeat([0, 1], 20)
    groups = [f"g{i // 7}" for i in range(40)]  # of seven, the third in both classes
    for seed in range(20):
        marked = stratified(labels, groups, 0.35, seed=seed, at_least=1)
        for group in set(groups):
            assert len({bool(m) for m, g in zip(marked, groups, strict=True) if g == group}) == 1
        assert all(1 <= n <= 14 for n in np.bincount(labels[marked], minlength=2))
    # The group of seven is far more than wanted, but the class must have one.
    wide = stratified(labels[:14], groups[:14], 0.05, seed=0, at_least=1)
    assert wide.sum() == 7
    # It holds all of a class: it stays.
    assert not stratified(np.array([0, 0, 1]), ["a", "a", "a"], 0.9, seed=0, at_least=1).any()


def test_sketchbirds():
    dataset = open_source("sketchbirds")
    assert isinstance(dataset.train, Source) and isinstance(dataset.test, Source)
    assert not set(dataset.train.ids) & set(dataset.test.ids)
    assert len({*dataset.train.names, *dataset.test.names}) == 24 * 75
    assert dataset.test[30]["name"] == f"sketchbirds/{dataset.test.names[30]}"
    assert dataset.train.stat(0) is None and dataset.orientation == "stored"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("cubs:/data", "did you mean 'cub'"),
        ("imagenet", "known are sketchbirds, folder:PATH"),
        ("/data/birds", "folder:PATH"),
        ("", "known are"),
        ("sketchbirds:/data", "takes no path"),
        *((f"{name}:", f"write {name}:PATH") for name in OPENERS if name != "sketchbirds"),
        *((name, f"write {name}:PATH") for name in OPENERS if name != "sketchbirds"),
    ],
)
def test_names_that_are_none(spec, words):
    with pytest.raises(UserError, match=words):
        open_source(spec)


@pytest.mark.parametrize("name", ["folder", "cub", "cars", "aircraft", "ultra"])
def test_missing_folder(name, tmp_path):
    with pytest.raises(UserError, match="none' does not exist"):
        open_source(f"{name}:{tmp_path}/none")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file' is not a folder"):
        open_source(f"{name}:{tmp_path}/file")


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", "n" * 300, "x/" * 3000, "nul\0byte"])
@pytest.mark.parametrize("name", ["folder", "cub", "csv", "tfds"])
def test_paths_that_cannot_be(name, path):
    with pytest.raises(UserError) as caught:
        open_source(f"{name}:{'birds@' if name == 'tfds' else ''}{path}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["folder", "cub", "cars", "aircraft", "ultra"])
def test_empty_folder_is_one_clear_line(name, tmp_path):
    root = tmp_path / "odd\nname"
    root.mkdir()
    with pytest.raises(UserError) as caught:
        open_source(f"{name}:{root}")
    assert "odd\\nname" in str(caught.value) and "\n" not in str(caught.value)
