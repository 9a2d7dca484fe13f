"""What fills a store: once, in the order of its images, with what the output needs beside it."""

from types import SimpleNamespace

import numpy as np
import pytest
from conftest import tiny

from fgvc_jax.training.precomputed.filling import Filling
from fgvc_jax.training.precomputed.requests import Request
from fgvc_jax.training.precomputed.store import Output
from fgvc_jax.training.run import Run
from fgvc_jax.utils.errors import UserError


class Kept:
    """A store in memory."""

    count = 100

    def __init__(self, folder):
        self.folder, self.views = folder, {}

    def missing(self, views):
        return [view for view in views if view not in self.views]

    def make(self, view, batches, *, write):
        assert write
        rows: dict[int, float] = {}
        for batch in batches:
            chosen = np.asarray(batch["mask"])
            values = np.asarray(batch["output"]["value"])
            rows |= dict(
                zip(np.asarray(batch["row"])[chosen].tolist(), values[chosen], strict=True)
            )
        self.views[view] = np.array([rows[row] for row in sorted(rows)])

    def rows(self, view, rows):
        return {"value": self.views[view][rows]}


@pytest.fixture
def request_of(tmp_path):
    def compute(batch, store):
        images = batch["image"] if store is None else store[batch["row"]]
        return {"value": images.astype("float32").mean((1, 2, 3)) + batch["more"]}

    def make():
        output = Output("mean", compute, {"value": ()}, {}, [], needs=("more",))
        frozen = SimpleNamespace(what="means of images")
        return Request(frozen, "test", [0], 1, {"mean": output}, {"mean": Kept(tmp_path)})

    return make


@pytest.fixture
def filling():
    run = Run(tiny())
    images = run.images["test"]
    stores = SimpleNamespace(batch_size=lambda output: 16)

    def complete(batch, names):
        assert list(names) == ["more"]
        return batch | {"more": 1.0 * batch["row"]}

    return Filling(stores, lambda part, names: images, complete, run.mesh), images


def test_every_image_is_in_its_row_and_nothing_is_made_twice(filling, request_of):
    filling, images = filling
    request, lookups, told = request_of(), {}, []
    filling.fill(request, lookups, told.append)
    squares = images.fetch(np.arange(100)) if images.fetch else np.asarray(images.store)
    expected = squares.reshape(100, -1).mean(1) + np.arange(100)
    np.testing.assert_allclose(lookups["mean"](0, np.arange(100))["value"], expected, rtol=1e-5)
    assert len(told) == 1 and "100 of them in" in told[0]
    filling.fill(request, lookups, told.append)
    assert len(told) == 1  # it was there


def test_a_folder_that_cannot_be_written_is_told(filling, request_of, monkeypatch):
    monkeypatch.setattr("fgvc_jax.workdir.storage.writable", lambda folder: False)
    with pytest.raises(UserError, match="means of images cannot be kept in .*--data.cache"):
        filling[0].fill(request_of(), {}, print)
