import numpy as np
import pytest

from fgvc_jax.data.records import (
    Source,
    Splits,
    Subset,
    check_names,
    origin,
    split_keys,
    stratified,
)
from fgvc_jax.data.sketchbirds import open_sketchbirds
from fgvc_jax.utils.errors import UserError

BIRDS = open_sketchbirds(seed=0, species=3, train_per_class=4, test_per_class=2, size=32)


def test_a_subset_has_all_that_belongs_to_its_records():
    part = Subset(Subset(BIRDS.train, [7, 5, 2]), np.array([2, 0]))
    assert isinstance(part, Source) and len(part) == 2
    for i, original in enumerate((2, 7)):
        assert part.names[i] == BIRDS.train.names[original]
        assert part[i]["id"] == part.ids[i] == BIRDS.train.ids[original]
        assert part.stat(i) is None and part.groups is None
        assert origin(part, i) == (BIRDS.train, original)


def test_parts_come_in_one_order_and_only_those_that_there_are():
    assert list(BIRDS.parts) == ["train", "test"]
    with_validation = Splits(BIRDS.train, BIRDS.test, BIRDS.classes, validation=BIRDS.test)
    assert list(with_validation.parts) == ["train", "validation", "test"]


def test_two_classes_of_one_name_are_refused():
    check_names(["a", "b"], "the file")
    with pytest.raises(UserError, match="the file calls two classes 'a', number 1 and number 3"):
        check_names(["a", "b", "a"], "the file")


def test_a_split_is_of_the_seed_and_the_keys_and_not_of_the_order():
    labels, keys = np.repeat([0, 1, 2], 20), [f"image {n}" for n in range(60)]
    marked = stratified(labels, keys, 0.25, seed=1, at_least=1)
    assert np.bincount(labels[marked]).tolist() == [5, 5, 5]
    order = np.random.default_rng(0).permutation(60)
    shuffled = stratified(labels[order], [keys[i] for i in order], 0.25, seed=1, at_least=1)
    assert np.array_equal(shuffled, marked[order])
    assert not np.array_equal(stratified(labels, keys, 0.25, seed=2, at_least=1), marked)


def test_groups_are_not_torn_and_no_class_is_emptied():
    labels = np.array([0] * 8 + [1])
    groups = np.array(["x", "x", "x", "x", "", "", "", "", "alone"])
    keys = split_keys("test", range(9), groups)
    for seed in range(10):
        marked = stratified(labels, keys, 0.5, seed=seed, at_least=1)
        assert len(set(marked[:4])) == 1
        assert not marked[8] and 0 < marked[:8].sum() < 8
