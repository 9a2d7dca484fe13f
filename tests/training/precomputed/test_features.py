"""A frozen trunk's features are computed once, survive kills and damage, and serve nobody else."""

import numpy as np
import pytest

from fgvc_jax.training.precomputed import features as m
from fgvc_jax.training.precomputed.features import Features
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import storage

COUNT = 5
SHAPES = {"map": (2, 2, 3), "token": (3,)}


def features_of(folder, content="a" * 64, count=COUNT):
    words = {"what": "features", "broken": "the weights do not fit"}
    return Features(folder, shapes=SHAPES, count=count, content=content, **words)


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
            "features": {name: array[rows] for name, array in all_rows.items()},
        }


def test_rows_are_what_was_made(tmp_path):
    kept = features_of(tmp_path)
    for view in (0, 7):
        kept.make(view, parts(view), write=True)
    rows = np.array([4, 0, 0, 3])
    for view in (7, 0):
        found = kept.rows(view, rows)
        assert found.keys() == SHAPES.keys()
        for name, array in values(view).items():
            np.testing.assert_array_equal(found[name], array[rows])


def test_another_process_finds_them(tmp_path):
    features_of(tmp_path).make(1, parts(1), write=True)
    again = features_of(tmp_path)
    assert again.missing(range(3)) == [0, 2]
    np.testing.assert_array_equal(again.rows(1, np.array([2]))["map"][0], values(1)["map"][2])


def test_who_does_not_write_computes_along(tmp_path):
    asked = []
    features_of(tmp_path).make(0, (asked.append(part) or part for part in parts(0)), write=False)
    assert len(asked) == 3 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("other", [{"content": "b" * 64}, {"count": COUNT + 1}])
def test_others_are_not_served(tmp_path, other):
    features_of(tmp_path).make(0, parts(0), write=True)
    assert features_of(tmp_path, **other).missing([0]) == [0]


def flip_a_bit(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("damage", [flip_a_bit, lambda content: content[:-8], lambda content: b""])
def test_a_damaged_view_is_made_again(tmp_path, damage):
    features_of(tmp_path).make(0, parts(0), write=True)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    again = features_of(tmp_path)
    assert again.missing([0]) == [0]
    again.make(0, parts(0), write=True)
    assert features_of(tmp_path).missing([0]) == []


def test_a_kill_leaves_what_was_whole(tmp_path):
    kept = features_of(tmp_path)
    kept.make(0, parts(0), write=True)

    def killed():
        yield next(parts(1))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept.make(1, killed(), write=True)
    assert features_of(tmp_path).missing([0, 1]) == [1]
    assert len(list(tmp_path.iterdir())) == 1


def test_few_views_are_open_at_a_time(tmp_path, monkeypatch):
    kept = features_of(tmp_path)
    opened = []
    mapped = storage.map_array
    for view in range(m.MAPPED + 3):
        kept.make(view, parts(view), write=True)
    monkeypatch.setattr(storage, "map_array", lambda path: opened.append(path) or mapped(path))
    for _ in range(2):
        for view in range(m.MAPPED + 3):
            kept.rows(view, np.array([0]))
    assert len(kept._open) == m.MAPPED
    assert len(opened) == 2 * (m.MAPPED + 3)


def test_what_is_not_finite_is_refused(tmp_path):
    (broken, *_) = parts(0)
    broken["features"]["map"][0, 0, 0, 0] = np.inf
    with pytest.raises(UserError, match="features are not finite numbers: the weights do not fit"):
        features_of(tmp_path).make(0, [broken], write=True)
    assert not list(tmp_path.iterdir())


def test_what_disappeared_is_told(tmp_path):
    with pytest.raises(UserError, match="view 3 .* are gone"):
        features_of(tmp_path).rows(3, np.array([0]))
