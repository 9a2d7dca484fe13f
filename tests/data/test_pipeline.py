"""Batches are pure functions of (seed, member, step); evaluation counts every image once."""

import hashlib
import io
import time
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fgvc_jax.data import feed, pipeline
from fgvc_jax.data.view import View
from fgvc_jax.utils.errors import UserError


class Squares:
    """Eleven images, each of its own grey."""

    labels = np.arange(11, dtype=np.int32) % 3
    ids = np.arange(11, dtype=np.int32) + 100
    names = tuple(f"{i}.png" for i in range(11))
    groups = None

    def __len__(self):
        return 11

    def __getitem__(self, i):
        image = np.full((6, 6, 3), i, np.uint8)
        return {"image": image, "label": self.labels[i], "id": self.ids[i], "name": f"square {i}"}

    def stat(self, i):
        return None


SOURCE = Squares()
DEFAULTS = {
    "seed": 3, "member": 1, "batch_size": 4, "process": 0, "processes": 1, "views": range(2),
}  # fmt: skip
HOW = {"orientation": "stored", "threads": 3}


def batches(start=0, count=7, **options):
    fetch = pipeline.streamed(SOURCE, 6, **HOW)
    endless = pipeline.train_batches(SOURCE, fetch, start=start, **(DEFAULTS | options))
    return list(islice(endless, count))


def equal(one, other):
    return all(np.array_equal(a[k], b[k]) for a, b in zip(one, other, strict=True) for k in a)


def test_an_epoch_is_a_permutation_without_the_last_partial_batch():
    first, second = batches(count=2), batches(start=2, count=2)
    for epoch in (first, second):
        rows = np.concatenate([batch["row"] for batch in epoch])
        assert len(set(rows)) == 8
    assert not equal(first, second)


def test_rows_labels_ids_and_images_belong_together():
    for batch in batches():
        np.testing.assert_array_equal(batch["label"], SOURCE.labels[batch["row"]])
        np.testing.assert_array_equal(batch["id"], SOURCE.ids[batch["row"]])
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["row"])
        assert batch["image"].dtype == np.uint8


def test_resuming_is_indexing():
    assert equal(batches(count=9)[5:], batches(start=5, count=4))


def test_seed_and_member_decide_the_order():
    assert equal(batches(), batches())
    assert not equal(batches(), batches(seed=4))
    assert not equal(batches(), batches(member=2))


def test_the_views_of_the_epochs_go_round():
    """Two steps an epoch: views 5, 6, 7, 5, ... in their order."""
    views = [set(batch["view"]) for batch in batches(count=8, views=range(5, 8))]
    assert views == [{5}, {5}, {6}, {6}, {7}, {7}, {5}, {5}]
    assert [set(batch["view"]) for batch in batches(start=5, count=2)] == [{0}, {1}]


def test_processes_share_the_same_global_batch():
    whole = batches()
    parts = [batches(process=p, processes=2) for p in range(2)]
    for batch, *halves in zip(whole, *parts, strict=True):
        rows = np.concatenate([half["row"] for half in halves])
        np.testing.assert_array_equal(rows, batch["row"])


def test_every_placement_gives_the_same_batches():
    kept, _ = pipeline.decoded(SOURCE, 6, **HOW)
    in_memory = islice(pipeline.train_batches(SOURCE, kept.__getitem__, start=0, **DEFAULTS), 7)
    on_device = islice(pipeline.train_batches(SOURCE, None, start=0, **DEFAULTS), 7)
    assert equal(batches(), list(in_memory))
    for streamed, bare in zip(batches(), on_device, strict=True):
        assert "image" not in bare
        np.testing.assert_array_equal(streamed["image"], kept[bare["row"]])


@pytest.mark.parametrize("batch_size", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("processes", [1, 2])
def test_evaluation_counts_every_image_once(batch_size, processes):
    if batch_size < processes:
        pytest.skip("a process has no row")
    rows = []
    for process in range(processes):
        for batch in pipeline.evaluation_batches(
            SOURCE, pipeline.streamed(SOURCE, 6, **HOW), batch_size=batch_size, process=process,
            processes=processes,
        ):  # fmt: skip
            assert len(batch["row"]) == batch_size // processes
            rows += batch["row"][batch["mask"]].tolist()
    assert sorted(rows) == list(range(11))


def test_too_few_images_for_a_batch():
    with pytest.raises(UserError, match="11 training images do not fill one batch of 12"):
        batches(batch_size=12)


def test_decoding_says_what_the_bytes_were(monkeypatch):
    class Encoded(Squares):
        def __getitem__(self, i):
            picture = Image.fromarray(super().__getitem__(i)["image"])
            file = io.BytesIO()
            exif = Image.Exif()
            exif[0x0112] = 3
            picture.paste((255, 255, 255), (0, 0, 6, 3))
            picture.save(file, "PNG", exif=exif)
            return super().__getitem__(i) | {"image": file.getvalue()}

    source = Encoded()
    images, contents = pipeline.decoded(source, 6, orientation="exif", threads=2)
    assert contents == [hashlib.sha256(source[i]["image"]).digest() for i in range(11)]
    assert (images[:, 3:] == 255).all() and (np.arange(11) == images[:, :3, 0, 0].T).all()
    stream = pipeline.streamed(source, 6, orientation="exif", threads=2)
    np.testing.assert_array_equal(stream(np.array([7, 2])), images[[7, 2]])
    arrays = pipeline.decoded(SOURCE, 6, **HOW)[1]
    assert len(set(arrays)) == 11 and set(map(len, arrays)) == {32}


@pytest.mark.parametrize(("budget", "most"), [(0, 2), (5 * 4 * 6 * 6 * 3, 4), (2**30, 8)])
def test_batches_ahead_are_bounded_in_bytes(monkeypatch, budget, most):
    """What is loaded and not yet taken, with a slow consumer: never more than the budget holds."""
    monkeypatch.setattr(pipeline, "AHEAD_BYTES", budget)
    loaded = []

    def fetch(rows):
        loaded.append(len(rows))
        return np.zeros((len(rows), 6, 6, 3), np.uint8)

    endless = pipeline.train_batches(SOURCE, fetch, start=0, **DEFAULTS)
    for _ in range(5):
        next(endless)
    deadline = time.monotonic() + 10
    while len(loaded) < 5 + most and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)  # for what would be too much
    assert len(loaded) == 5 + most
    endless.close()


@pytest.mark.parametrize(("processes", "place"), [(1, "host"), (2, "store")])
def test_processes_on_a_host_share_its_memory_and_cores(monkeypatch, processes, place):
    """Decoded, the images take 300 kB: less than half of a megabyte, more than half of half."""
    asked = []
    monkeypatch.setattr(feed.processes, "processes_here", lambda: processes)
    monkeypatch.setattr(feed.machine, "free_memory", lambda count=1: 10**6 // count)
    monkeypatch.setattr(feed.machine, "cores", lambda count=1: 8 // count)
    monkeypatch.setattr(
        feed, "load_images", lambda *_, **how: asked.append((how["place"], how["threads"]))
    )
    splits = SimpleNamespace(parts={"train": SOURCE})
    feed.Dataset(splits, View(resize=96), place="auto", mesh=None)["train"]
    assert asked == [("host" if place == "host" else "stream", 8 // processes)]


def test_an_image_that_cannot_be_read_is_named():
    class Broken(Squares):
        def __getitem__(self, i):
            return super().__getitem__(i) | {"image": b"no image", "name": f"bird {i}.jpg"}

    with pytest.raises(UserError, match=r"bird \d+\.jpg"):
        pipeline.decoded(Broken(), 6, **HOW)
    fetch = pipeline.streamed(Broken(), 6, **HOW)
    endless = pipeline.train_batches(Broken(), fetch, start=0, **DEFAULTS)
    with pytest.raises(UserError, match=r"bird \d+\.jpg"):
        next(endless)
