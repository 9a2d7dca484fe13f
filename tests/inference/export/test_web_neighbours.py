"""The training photographs of a site are those that the run keeps, bit for bit."""

from types import SimpleNamespace

import numpy as np
import pytest

from fgvc_jax.inference.export import web_neighbours
from fgvc_jax.inference.export.web_neighbours import SitePhotographs
from fgvc_jax.utils.errors import UserError

SEEN = {
    "a": np.arange(6, dtype=np.float16).reshape(3, 2),
    "b": np.array([[0.5], [-0.25], [1]], np.float16),
}
PICTURES = [b"one", b"", b"three"]


@pytest.fixture
def part(monkeypatch, tmp_path):
    monkeypatch.setattr(web_neighbours.remembered, "embedding", lambda _, member: SEEN[member])
    monkeypatch.setattr(web_neighbours.remembered, "pictures", lambda _: PICTURES)
    return SimpleNamespace(labels=np.array([2, 0, 2], np.int32), folder=tmp_path)


def test_vectors_stand_row_by_row_and_pictures_behind_them(part):
    found = SitePhotographs.of(part, ["a", "b"])
    assert found.about == {"widths": [2, 1], "labels": [2, 0, 2], "pictures": [3, 0, 5]}
    vectors = np.frombuffer(found.data[:18], "<f2").reshape(3, 3)
    np.testing.assert_array_equal(vectors, [[0, 1, 0.5], [2, 3, -0.25], [4, 5, 1]])
    assert found.data[18:] == b"onethree"
    assert SitePhotographs.of(part, ["b"]).about["widths"] == [1]


def test_their_size_is_told(part):
    found = SitePhotographs.of(part, ["a", "b"])
    large = found._replace(data=bytes(7_700_008))
    assert large.size == (
        "3 training photographs, small (0.0 MB), and what the members see of them in float16 "
        "(7.7 MB)"
    )
    assert large.listed.startswith("`neighbours.bin`: 3 training")


def test_without_pictures_there_is_nothing_to_show(part, monkeypatch):
    monkeypatch.setattr(web_neighbours.remembered, "pictures", lambda _: None)
    with pytest.raises(UserError, match="has no pictures of them"):
        SitePhotographs.of(part, ["a"])
