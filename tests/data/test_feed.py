from types import SimpleNamespace

import numpy as np
import pytest

from fgvc_jax.data import feed
from fgvc_jax.data.feed import Dataset
from fgvc_jax.data.sketchbirds import open_sketchbirds
from fgvc_jax.data.view import View
from fgvc_jax.utils import devices

BIRDS = open_sketchbirds(seed=0, species=3, train_per_class=4, test_per_class=3, size=32)
VIEW = View(resize=32, crop=32, pad=0, orientation="stored")


def dataset(place):
    return Dataset(BIRDS, VIEW, place=place, mesh=devices.create_mesh(1))


@pytest.mark.parametrize("place", feed.PLACES)
def test_wherever_images_are_batches_are_the_same(place):
    images = dataset(place)["train"]
    words = dict(seed=1, member=2, batch_size=4, start=5, views=range(3))
    batch = next(feed.train_batches(images, **words))
    streamed = next(feed.train_batches(dataset("stream")["train"], **words))
    np.testing.assert_array_equal(batch["row"], streamed["row"])
    shown = np.asarray(images.store)[batch["row"]] if place == "device" else batch["image"]
    np.testing.assert_array_equal(shown, streamed["image"])
    assert (images.contents is None) == (place in ("store", "stream"))


def test_a_training_that_begins_later_sees_what_comes_then():
    images = dataset("host")["train"]
    words = dict(seed=1, member=1, batch_size=4, views=range(2))
    whole = feed.train_batches(images, start=0, **words)
    rows = [next(whole)["row"].tolist() for _ in range(6)]
    later = feed.train_batches(images, start=4, **words)
    assert [next(later)["row"].tolist() for _ in range(2)] == rows[4:]
    assert sorted(sum(rows[:3], [])) == sorted(sum(rows[3:], [])) == list(range(12))


@pytest.mark.parametrize(("most", "sizes"), [(4, [3, 3, 3]), (5, [5, 5]), (9, [9]), (50, [9])])
def test_every_image_is_judged_once_with_little_padding(most, sizes):
    found = list(feed.evaluation_batches(dataset("host")["test"], most, devices.create_mesh(1)))
    assert [len(batch["row"]) for batch in found] == sizes
    rows = np.concatenate([np.asarray(batch["row"])[np.asarray(batch["mask"])] for batch in found])
    assert sorted(rows.tolist()) == list(range(9))


@pytest.mark.parametrize(
    ("most", "over", "size"), [(3, 2, 2), (1, 2, 2), (5, 2, 4), (64, 4, 12), (8, 2, 6)]
)
def test_every_device_judges_as_many(most, over, size):
    """Nine images, over several devices: no more than asked for, but one for each."""
    assert feed.evaluation_size(9, most, SimpleNamespace(size=over)) == size


def test_digests_are_by_contents_once_something_has_read_them():
    streamed, host = dataset("stream"), dataset("host")
    assert streamed.digests()["test"]["contents"] is None
    known = streamed.content("test")
    assert streamed.digests()["test"]["contents"] == known == host.digests()["test"]["contents"]


def test_where_images_go_is_decided_by_their_size(monkeypatch):
    monkeypatch.setattr(feed.machine, "free_memory", lambda processes: 1000)
    assert feed.placement("auto", 499, 1) == "host" and feed.placement("auto", 500, 1) == "store"
    assert feed.placement("device", 10**9, 1) == "device"


def test_batches_are_ahead_of_the_step_and_none_is_lost():
    put = []
    found = feed.ahead(iter(range(5)), lambda n: put.append(n) or n, depth=2)
    assert next(found) == 0 and put == [0, 1, 2]
    assert list(found) == [1, 2, 3, 4]
