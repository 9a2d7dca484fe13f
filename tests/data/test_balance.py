"""Which images an epoch shows where classes are balanced."""

import functools

import numpy as np
import pytest
from conftest import tiny

from fgvc_jax.config import Data
from fgvc_jax.data import pipeline
from fgvc_jax.training.run import Run

LABELS = np.repeat([2, 0, 1], [5, 60, 25])  # 90 images of three classes


@pytest.mark.parametrize(
    ("balance", "shares"),
    [("equal", np.full(3, 30.0)), ("sqrt", 90 * np.sqrt([60, 25, 5]) / np.sqrt([60, 25, 5]).sum())],
)
def test_classes_have_their_shares_and_images_of_one_come_alike_often(balance, shares):
    seen = np.zeros(3)
    for epoch in range(200):
        rows, again = pipeline.epoch_images(LABELS, balance, 0, 1, epoch)
        counts = np.bincount(LABELS[rows], minlength=3)
        assert len(rows) == 90 and (abs(counts - shares) < 1).all()
        for label in range(3):
            times = np.bincount(rows, minlength=90)[label == LABELS]
            assert np.ptp(times) <= 1
        for row in np.unique(rows):
            assert sorted(again[rows == row]) == list(range((rows == row).sum()))
        seen += counts / 200
    np.testing.assert_allclose(seen, shares, atol=0.15)


def test_an_epoch_is_its_own_and_the_same_again():
    one = pipeline.epoch_images(LABELS, "equal", 0, 1, 3)
    for same, other in zip(one, pipeline.epoch_images(LABELS, "equal", 0, 1, 3), strict=True):
        np.testing.assert_array_equal(same, other)
    for arguments in ((1, 1, 3), (0, 2, 3), (0, 1, 4)):
        assert (pipeline.epoch_images(LABELS, "equal", *arguments)[0] != one[0]).any()


class Source:
    labels, ids = LABELS.astype(np.int32), np.arange(90, dtype=np.int32)

    def __len__(self):
        return 90


def batches(start=0, count=12, process=0, processes=1, **changes):
    given = {"seed": 0, "member": 1, "batch_size": 8, "views": range(4), "balance": "equal"}
    made = pipeline.train_batches(
        Source(), None, start=start, process=process, processes=processes, **given | changes
    )
    return [next(made) for _ in range(count)]


def test_batches_go_on_and_are_shared_between_processes():
    whole = batches(count=30)
    for here, there in zip(whole[17:], batches(start=17, count=13), strict=True):
        for name in here:
            np.testing.assert_array_equal(here[name], there[name])
    halves = [batches(count=30, process=index, processes=2) for index in range(2)]
    for step, batch in enumerate(whole):
        for name in batch:
            both = np.concatenate([half[step][name] for half in halves])
            assert sorted(both) == sorted(batch[name])


def test_an_image_that_comes_again_is_seen_in_another_view():
    """Six times in an epoch of 90 images, two of which are in no batch: views 0 to 3 in turn."""
    rows, views = (np.concatenate([b[name] for b in batches(count=11)]) for name in ("row", "view"))
    for row in np.flatnonzero(LABELS == 2):
        own = views[rows == row]
        assert len(own) >= 4 and len(set(own)) >= 3 and max(np.bincount(own)) <= 2


def test_what_is_computed_once_is_of_the_view_that_is_shown():
    def look(view, rows):
        return {"pair": np.stack([np.full(len(rows), view), rows], 1)}

    for batch in batches(lookups={"known": look}):
        expected = np.stack([batch["view"], batch["row"]], 1)
        np.testing.assert_array_equal(batch["known"]["pair"], expected)


def test_each_image_once_is_what_it_was():
    plain = batches(balance="none", count=22)
    rows = np.concatenate([batch["row"] for batch in plain[:11]])
    assert len(set(rows)) == 88
    assert {int(batch["view"][0]) for batch in plain[11:]} == {1}


@functools.cache
def trained(balance):
    run = Run(tiny(data=Data(**{**vars(tiny().data), "balance": balance})))
    return [batch["row"] for _, batch in zip(range(4), run.train_batches(1, 0), strict=False)]


def test_a_run_is_drawn_as_it_is_told():
    assert any((a != b).any() for a, b in zip(trained("none"), trained("sqrt"), strict=True))
