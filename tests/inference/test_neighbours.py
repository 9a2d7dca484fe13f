"""The search for neighbours is that by brute force, whatever the blocks, ties and sizes."""

from types import SimpleNamespace

import numpy as np
import pytest

from fgvc_jax.data.view import View
from fgvc_jax.inference import neighbours
from fgvc_jax.inference.neighbours import Neighbours, nearest
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir.predictions import Part

RANDOM = np.random.default_rng(0)


def unit(*shape):
    vectors = RANDOM.standard_normal(shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def by_force(queries, vectors, count):
    products = np.float32(queries.astype(np.float64) @ vectors.astype(np.float64).T)
    rows = np.argsort(-products, axis=1, kind="stable")[:, :count]
    return rows, np.take_along_axis(products, rows, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("block", [1, 7, 64, 8192])
def test_rows_and_products_are_those_by_brute_force(monkeypatch, block, dtype):
    monkeypatch.setattr(neighbours, "BLOCK", max(block, 8))
    queries, vectors = unit(9, 16), unit(200, 16).astype(dtype)
    rows, products = nearest(queries, vectors, 5)
    expected = by_force(queries, vectors, 5)
    np.testing.assert_array_equal(rows, expected[0])
    np.testing.assert_allclose(products, expected[1], rtol=1e-6)
    assert rows.shape == (9, 5) and products.dtype == np.float32


def test_of_equal_ones_the_first_comes_first_in_whatever_block(monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", 8)
    vectors = unit(40, 33)
    vectors[[31, 3, 17, 39]] = vectors[20]
    rows, products = nearest(vectors[20:21], vectors, 4)
    assert rows.tolist() == [[3, 17, 20, 31]] and len(set(products[0].tolist())) == 1
    rows, _ = nearest(np.zeros((1, 33), np.float32), vectors, 3)  # of which all are alike
    assert rows.tolist() == [[0, 1, 2]]


def test_what_differs_less_than_float32_sees_is_still_in_order():
    vectors = np.zeros((3, 2048), np.float32)
    vectors[:, :1024], vectors[1, 7], vectors[2, 7] = 1 / 32, 1 / 32 + 2e-7, 1 / 32 + 1e-6
    query = np.full((1, 2048), 1 / 32, np.float32)
    assert nearest(query, vectors, 3)[0].tolist() == [[2, 1, 0]]


def test_one_of_one_and_more_than_there_are():
    vectors = unit(1, 4)
    rows, products = nearest(vectors, vectors, 1)
    assert rows.tolist() == [[0]] and products[0, 0] == pytest.approx(1) and products.max() <= 1
    assert nearest(vectors, vectors, 7)[0].shape == (1, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_queries_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="not finite"):
        nearest(np.full((1, 4), value, np.float32), unit(3, 4), 1)


def kept(labels):
    count, labels = len(labels), np.array(labels, np.int32)
    names = tuple(f"train/{i}.png" for i in range(count))
    part = Part(None, "neighbours", names, labels, labels, ("a", "b", "c"), "digest")
    return Neighbours(part, unit(count, 8))


def test_among_some_classes_only_theirs_are_searched():
    found = kept([0, 1, 2, 0, 1, 2])
    rows, products = found.nearest(found.vectors[:2], 5, among=[1, 2])
    assert found.count([1, 2]) == 4 and found.count() == 6
    others = np.array([1, 2, 4, 5])
    order = np.argsort(-(found.vectors[:2] @ found.vectors[others].T), axis=1)
    np.testing.assert_array_equal(rows, others[order])
    told = found.told(rows, products)
    assert told[1][0].name == "train/1.png" and told[1][0].of_class == "b"
    assert found.nearest(found.vectors[:2], 5, among=[7])[0].shape == (2, 0)


def test_members_have_the_same_share_of_the_similarity(monkeypatch):
    """The similarity is the mean of the members' cosines, however long their vectors are."""
    first, second = unit(3, 4).astype(np.float16), unit(3, 6).astype(np.float16)
    each = {"one": first, "two": second}
    monkeypatch.setattr(neighbours.remembered, "embedding", lambda part, member: each[member])
    found = Neighbours.of(SimpleNamespace(), ["one", "two"])
    cosines = [v.astype(float) @ v.astype(float).T for v in (first, second)]
    np.testing.assert_allclose(found.vectors @ found.vectors.T, np.mean(cosines, 0), atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, rtol=1e-6)


def test_a_run_that_keeps_none_says_how_it_gets_them(tmp_path, monkeypatch):
    record = SimpleNamespace(experiment=SimpleNamespace(data=View()))
    monkeypatch.setattr(neighbours.Record, "read", lambda path: record)
    with pytest.raises(UserError, match="python -m fgvc_jax.evaluate keeps them"):
        Neighbours.open(tmp_path, ["a" * 64])
