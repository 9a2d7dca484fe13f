"""Stored outputs are computed once, survive kills and damage, and are served for nothing else."""

import resource
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fgvc_jax.training.precomputed import store
from fgvc_jax.training.precomputed.store import Output, Store
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import storage

COUNT = 5
SHAPES = {"map": (2, 2, 3), "token": (3,)}
NETWORK = SimpleNamespace(what="features", broken="the weights do not fit")


def new_store(folder, content="a" * 64, count=COUNT, **output):
    output = Output("features", compute=None, shapes=SHAPES, known=None, parts=(), **output)
    return Store(folder, output.layout, count=count, content=content, of=NETWORK)


def values(view):
    random = np.random.default_rng(view)
    return {
        name: random.normal(size=(COUNT, *shape)).astype(np.float16)
        for name, shape in SHAPES.items()
    }


def parts(view, order=((3, 1), (0, 4), (2, 0))):
    """Batches in any order; the last row of the last one is padding."""
    all_rows = values(view)
    for number, rows in enumerate(order):
        rows = np.array(rows)
        yield {
            "row": rows,
            "mask": np.array([True, number < 2]),
            "output": {name: array[rows] for name, array in all_rows.items()},
        }


def test_rows_are_what_was_made(tmp_path):
    stored = new_store(tmp_path)
    for view in (0, 7):
        stored.make(view, parts(view), write=True)
    rows = np.array([4, 0, 0, 3])
    for view in (7, 0):
        found = stored.rows(view, rows)
        assert found.keys() == SHAPES.keys()
        for name, array in values(view).items():
            np.testing.assert_array_equal(found[name], array[rows])


def test_a_newer_sum_takes_the_place_of_the_older(tmp_path):
    """Of the same view; a kill before leaves the older one, and others' files stay."""
    older = new_store(tmp_path, earlier=[])
    for view in (0, 1):
        older.make(view, parts(view), write=True)
    other = tmp_path / "features2.view00000.npy"
    other.touch()
    newer = new_store(tmp_path, content="b" * 64, earlier=[(None, None)])

    def killed():
        yield next(parts(0))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        newer.make(0, killed(), write=True)
    assert new_store(tmp_path).missing([0, 1]) == []
    newer.make(0, parts(0), write=True)
    assert new_store(tmp_path).missing([0, 1]) == [0] and other.exists()
    assert new_store(tmp_path, content="b" * 64).missing([0, 1]) == [1]


def test_another_process_finds_them(tmp_path):
    new_store(tmp_path).make(1, parts(1), write=True)
    again = new_store(tmp_path)
    assert again.missing(range(3)) == [0, 2]
    np.testing.assert_array_equal(again.rows(1, np.array([2]))["map"][0], values(1)["map"][2])


def test_who_does_not_write_computes_along(tmp_path):
    asked = []
    new_store(tmp_path).make(0, (asked.append(part) or part for part in parts(0)), write=False)
    assert len(asked) == 3 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("other", [{"content": "b" * 64}, {"count": COUNT + 1}])
def test_others_are_not_served(tmp_path, other):
    new_store(tmp_path).make(0, parts(0), write=True)
    assert new_store(tmp_path, **other).missing([0]) == [0]


def flip_a_bit(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "damage",
    [flip_a_bit, lambda old: old[:-8], lambda old: b"", lambda old: b"\x93NUMPY", lambda old: b"?"],
)
def test_a_damaged_view_is_made_again(tmp_path, damage):
    new_store(tmp_path).make(0, parts(0), write=True)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    again = new_store(tmp_path)
    assert again.missing([0]) == [0]
    again.make(0, parts(0), write=True)
    assert new_store(tmp_path).missing([0]) == []


def test_a_kill_leaves_what_was_whole(tmp_path):
    stored = new_store(tmp_path)
    stored.make(0, parts(0), write=True)

    def killed():
        yield next(parts(1))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stored.make(1, killed(), write=True)
    assert new_store(tmp_path).missing([0, 1]) == [1]
    assert len(list(tmp_path.iterdir())) == 1


def test_few_views_are_open_at_a_time(tmp_path, monkeypatch):
    stored = new_store(tmp_path)
    opened = []
    mapped = storage.map_array
    for view in range(store.MAPPED + 3):
        stored.make(view, parts(view), write=True)
    monkeypatch.setattr(storage, "map_array", lambda path: opened.append(path) or mapped(path))
    for _ in range(2):
        for view in range(store.MAPPED + 3):
            stored.rows(view, np.array([0]))
    assert len(stored._open) == store.MAPPED
    assert len(opened) == 2 * (store.MAPPED + 3)


def test_many_views_need_few_descriptors(tmp_path):
    stored = new_store(tmp_path)
    for view in range(40):
        stored.make(view, parts(view), write=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(list(Path("/proc/self/fd").iterdir()))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 16, hard))
        for view in range(40):
            stored.rows(view, np.array([0]))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_is_not_finite_is_refused(tmp_path):
    (broken, *_) = parts(0)
    broken["output"]["map"][0, 0, 0, 0] = np.inf
    with pytest.raises(UserError, match="features are not finite numbers: the weights do not fit"):
        new_store(tmp_path).make(0, [broken], write=True)
    assert not list(tmp_path.iterdir())


def test_what_disappeared_is_told(tmp_path):
    with pytest.raises(UserError, match="view 3 .* are gone"):
        new_store(tmp_path).rows(3, np.array([0]))
