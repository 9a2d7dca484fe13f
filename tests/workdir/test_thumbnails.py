"""Thumbnails: within their budget, in the order of the images, in the pass that answers."""

import dataclasses
import io

import jax
import numpy as np
import pytest
from conftest import tiny
from PIL import Image

from fgvc_jax.inference import passes
from fgvc_jax.training import members
from fgvc_jax.utils import devices
from fgvc_jax.workdir import thumbnails
from fgvc_jax.workdir.thumbnails import Collector, Thumbnails


def noise(count, side):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def opened(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("count", [1, 30, 5_794, 100_000, 2_000_000, 10_000_000])
def test_all_pictures_fit_even_when_nothing_can_be_compressed(count):
    side = thumbnails.side(count, 448)
    most = thumbnails.bytes_each(count)
    assert len(thumbnails.encode(noise(1, side)[0], most)) <= most
    assert thumbnails.HEADER + 8 * (count + 1) + count * most <= thumbnails.BUDGET or most == 0


def test_few_images_are_shown_large_and_many_small():
    assert thumbnails.side(600, 448) == 160 and thumbnails.side(600, 96) == 96
    assert 100 < thumbnails.side(6_000, 448) <= 160
    assert 16 <= thumbnails.side(100_000, 448) < 64


def batches(images, size):
    for start in range(0, len(images), size):
        rows = np.arange(start, start + size)[::-1]  # in any order, as devices in a mesh
        mask = rows < len(images)
        rows = np.where(mask, rows, 0).astype(np.int32)
        yield {"image": images[rows], "row": rows, "mask": mask}


@pytest.mark.parametrize("stored", [False, True])
def test_a_pass_is_watched_and_padding_left_out(tmp_path, stored):
    """7 flat pictures in batches of 3, with the images in the batch or on the device."""
    images = (
        np.zeros((7, 40, 40, 3), np.uint8) + np.arange(0, 210, 30, np.uint8)[:, None, None, None]
    )
    mesh = devices.create_mesh()
    step = passes.shrink_pass(side=16, mesh=mesh)
    store = devices.replicate(mesh, images) if stored else None
    collector = Collector(7, lambda batch: step(batch, store), threads=2)
    given = [devices.shard_batch(mesh, batch) for batch in batches(images, 2 * mesh.size)]
    if stored:
        given = [{k: v for k, v in batch.items() if k != "image"} for batch in given]
    assert [id(batch) for batch in collector.watch(iter(given))] == [id(batch) for batch in given]
    collector.write(thumbnails.path(tmp_path))
    kept = Thumbnails(tmp_path, 7)
    assert len(kept) == 7
    for i in range(7):
        picture = opened(kept[i])
        assert picture.shape == (16, 16, 3) and np.all(np.abs(picture.astype(int) - 30 * i) < 4)


def test_shrinking_is_antialiased_like_pillows():
    image = np.asarray(Image.fromarray(noise(1, 12)[0]).resize((96, 96), Image.Resampling.BICUBIC))
    batch = {"image": image[None], "row": np.zeros(1, np.int32), "mask": np.ones(1, bool)}
    mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
    small = passes.shrink_pass(side=24, mesh=mesh)(devices.shard_batch(mesh, batch), None)["image"]
    expected = Image.fromarray(image).resize((24, 24), Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(small[0], int) - np.asarray(expected, int)).max() <= 1


def test_what_is_of_other_images_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        Thumbnails(tmp_path, 3)
    collector = Collector(3, lambda batch: batch, threads=1)
    for _ in collector.watch(batches(noise(3, 8), 3)):
        pass
    collector.write(thumbnails.path(tmp_path))
    assert [len(opened(data)) for data in Thumbnails(tmp_path, 3)] == [8, 8, 8]
    with pytest.raises(ValueError, match="other images"):
        Thumbnails(tmp_path, 4)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_behind_a_frozen_trunk_there_are_pictures_too(tmp_path):
    """The members then see features that are looked up, and no image."""
    experiment = tiny(tmp_path, members=1, epochs=1)
    network = dataclasses.replace(experiment.network, frozen="stage4")
    results = members.train(dataclasses.replace(experiment, network=network))
    folder = tmp_path / "predictions" / results["predictions"]["test"]
    count = results["images"]["test"]
    pictures = Thumbnails(folder, count)
    assert {opened(picture).shape for picture in map(pictures.__getitem__, range(count))} == {
        (36, 36, 3)
    }
