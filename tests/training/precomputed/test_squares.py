"""Decoded images are stored once, are what the decoder gives, and are served for nothing else."""

import dataclasses
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny
from photographs import encoded
from PIL import Image

from fgvc_jax.data import images, pipeline, sources
from fgvc_jax.data.feed import Dataset
from fgvc_jax.data.view import View
from fgvc_jax.training import members
from fgvc_jax.training.precomputed import squares
from fgvc_jax.training.precomputed.requests import Budget
from fgvc_jax.training.precomputed.squares import Squares
from fgvc_jax.utils import devices, progress
from fgvc_jax.utils.errors import Interrupted, UserError
from fgvc_jax.workdir import mirror, storage

VIEW = View(resize=12, crop=8, pad=0, orientation="exif", decode="exact")
COUNT = 24  # images


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    """Four files of about six images each, decoded two at a time."""
    monkeypatch.setattr(squares, "FILE", 3 * 12**2 * COUNT // 4)
    monkeypatch.setattr(squares, "BATCH", 2 * 3 * 12**2)
    monkeypatch.setattr(squares, "WAIT", 0.01)


def write(path, number):
    noise = np.random.default_rng(number).integers(0, 256, (10, 16, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(Image.fromarray(noise)))


@pytest.fixture
def birds(tmp_path):
    """A folder of photographs of three species."""
    for number in range(COUNT):
        write(tmp_path / f"birds/{'abc'[number % 3]}/{number:02d}.png", number)
    return tmp_path / "birds"


def dataset(birds, view=VIEW, **restricted):
    how = {"classes": 0, "images_per_class": 0, "validation": 0.0, "seed": 0} | restricted
    splits = sources.restrict(sources.open_source(f"folder:{birds}"), **how)
    return Dataset(splits, view, place="store", mesh=devices.create_mesh(1))


def stored(birds, tmp_path, view=VIEW, **restricted):
    given = dataset(birds, view, **restricted)
    return given, Squares(tmp_path / "cache", given, view.reading)


def filled(birds, tmp_path, *more, **restricted):
    """(squares, what was decoded for it: names), compared with what the decoder gives."""
    given, kept = stored(birds, tmp_path, *more, **restricted)
    decode, names = given.decoded, []

    def decoded(some, side):
        names.extend(some.names)
        return decode(some, side)

    given.decoded = decoded
    kept.fill(lambda line: None)
    for part, source in given.splits.parts.items():
        rows = np.random.default_rng(0).integers(len(source), size=2 * len(source))
        expected = pipeline.streamed(source, given.side(part), threads=1, **given._view.reading)
        np.testing.assert_array_equal(kept.rows(part, rows), expected(rows))
        assert kept.rows(part, rows).dtype == np.uint8
    return kept, names


def files(tmp_path):
    return sorted((tmp_path / "cache/squares").glob("*/squares.*.npy"))


def test_they_are_what_the_decoder_gives_and_are_decoded_once(birds, tmp_path):
    kept, names = filled(birds, tmp_path)
    assert len(names) == len(set(names)) == COUNT and len(files(tmp_path)) == 4
    assert kept.bytes == 3 * 12**2 * COUNT and kept.new == 0
    assert str(kept) == f"{COUNT} decoded images, 0.00 GiB"
    assert filled(birds, tmp_path)[1] == []


def test_parts_of_other_sides_are_apart(birds, tmp_path):
    view = dataclasses.replace(VIEW, test_view="whole")
    kept, names = filled(birds, tmp_path, view)
    assert len(names) == COUNT
    assert {each.shape[1:] for each in (kept.rows("train", [0]), kept.rows("test", [0]))} == {
        (12, 12, 3),
        (8, 8, 3),
    }


def test_another_split_of_the_same_images_has_the_same_files(birds, tmp_path):
    filled(birds, tmp_path)
    assert filled(birds, tmp_path, validation=0.3)[1] == []
    assert filled(birds, tmp_path, validation=0.3, seed=5)[1] == []


def test_what_is_read_otherwise_is_stored_anew(birds, tmp_path, monkeypatch):
    filled(birds, tmp_path)
    for view in (
        dataclasses.replace(VIEW, fit="pad"),
        dataclasses.replace(VIEW, banner=2),
        dataclasses.replace(VIEW, resize=13),
    ):
        assert len(filled(birds, tmp_path, view)[1]) == COUNT
    assert filled(birds, tmp_path, dataclasses.replace(VIEW, flip=False, augment="strong"))[1] == []
    monkeypatch.setattr(images, "decoders", lambda: ["another"])
    assert len(filled(birds, tmp_path)[1]) == COUNT


def test_a_changed_image_is_decoded_again_and_with_it_its_file_alone(birds, tmp_path):
    filled(birds, tmp_path)
    changed = birds / "b/01.png"
    write(changed, 999)
    names = filled(birds, tmp_path)[1]
    assert "b/01.png" in names and len(names) < COUNT
    write(birds / "a/new.png", 1000)
    names = filled(birds, tmp_path)[1]
    assert "a/new.png" in names and len(names) < COUNT


def test_of_one_size_it_is_told_by_its_time(birds, tmp_path):
    path = birds / "b/01.png"
    Image.new("RGB", (4, 4), (1, 2, 3)).save(path, "PPM")
    filled(birds, tmp_path)
    before = path.stat()
    Image.new("RGB", (4, 4), (3, 2, 1)).save(path, "PPM")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert path.stat().st_size == before.st_size
    assert "b/01.png" in filled(birds, tmp_path)[1]


def test_another_time_of_the_same_content_costs_a_look(birds, tmp_path):
    """As where a dataset was copied, or lies elsewhere on another machine."""
    filled(birds, tmp_path)
    shutil.copytree(birds, tmp_path / "copy/birds", copy_function=shutil.copyfile)
    for path in (tmp_path / "copy/birds").rglob("*.png"):
        os.utime(path, ns=(5, 5))
    assert filled(tmp_path / "copy/birds", tmp_path)[1] == []


def test_files_are_read_again_only_where_their_times_say_so(birds, tmp_path, monkeypatch):
    filled(birds, tmp_path)
    monkeypatch.setattr(squares.feed, "contents", lambda source: pytest.fail("it was read"))
    given, kept = stored(birds, tmp_path)
    kept.fill(lambda line: None)


@pytest.mark.parametrize("damage", [b"", b"f" * 64, b"\xff\xfe", b"0" * 10**6])
def test_a_wrong_note_of_what_files_hold_is_no_harm(birds, tmp_path, damage):
    """What it says otherwise ends a run for each file, and goes; no square is wrong."""
    filled(birds, tmp_path)
    for path in (tmp_path / "cache/squares").glob("*.seen"):
        path.write_bytes(damage)
    if damage == b"f" * 64:
        with pytest.raises(UserError, match="changed while they were decoded"):
            filled(birds, tmp_path)
        for _ in range(3):  # a file at a time
            with pytest.raises(UserError, match="changed while they were decoded"):
                filled(birds, tmp_path)
    assert filled(birds, tmp_path)[1] == []


def test_a_kill_costs_the_file_that_is_being_filled(birds, tmp_path):
    given, kept = stored(birds, tmp_path)
    decode, names = given.decoded, []

    def killed(some, side):
        names.extend(some.names)
        if len(names) > COUNT // 2:
            raise KeyboardInterrupt
        return decode(some, side)

    given.decoded = killed
    with pytest.raises(KeyboardInterrupt):
        kept.fill(lambda line: None)
    there = files(tmp_path)
    assert 0 < len(there) < 4
    done = sum(len(np.load(path)) for path in there)
    assert len(filled(birds, tmp_path)[1]) == COUNT - done
    assert set(there) < set(files(tmp_path))


def flip_a_bit(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("damage", [flip_a_bit, lambda old: old[:-8], lambda old: b"", None])
def test_a_file_that_is_damaged_or_gone_is_made_again(birds, tmp_path, damage):
    filled(birds, tmp_path)
    path = files(tmp_path)[1]
    count = len(np.load(path))
    if damage:
        path.write_bytes(damage(path.read_bytes()))
    else:
        shutil.rmtree(path.parent)
    assert len(filled(birds, tmp_path)[1]) == count


def test_two_that_fill_it_at_once_share_the_work(birds, tmp_path):
    names, lock, both = [], threading.Lock(), threading.Barrier(2)
    errors = []

    def run():
        try:
            given, kept = stored(birds, tmp_path)
            decode = given.decoded

            def decoded(some, side):
                with lock:
                    names.extend(some.names)
                return decode(some, side)

            given.decoded = decoded
            assert kept.new == kept.bytes
            both.wait(30)
            with progress.hidden():
                kept.fill(lambda line: None)
            kept.rows("train", np.arange(5))
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=run) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert errors == [] and sorted(names) == sorted(set(names)) and len(names) == COUNT
    assert len(files(tmp_path)) == 4


def test_processes_begin_at_different_files(birds, tmp_path, monkeypatch):
    given, _ = stored(birds, tmp_path)
    assert given.threads  # as if alone
    monkeypatch.setattr(squares.jax, "process_count", lambda: 2)
    begun = []
    for index in range(2):
        monkeypatch.setattr(squares.jax, "process_index", lambda index=index: index)
        kept = Squares(tmp_path / "cache", given, VIEW.reading)
        kept._filled = lambda number, bar: begun.append(number) or True
        kept.fill(lambda line: None)
    assert begun == [0, 1, 2, 3, 2, 3, 0, 1]


def test_a_broken_image_is_named_and_its_file_does_not_appear(birds, tmp_path):
    (birds / "a/00.png").write_bytes(b"no image")
    with pytest.raises(images.Broken, match=r"a/00\.png"):
        filled(birds, tmp_path)
    write(birds / "a/00.png", 77)
    filled(birds, tmp_path)


def test_an_image_that_changes_meanwhile_is_no_square_of_the_old_one(birds, tmp_path):
    given, kept = stored(birds, tmp_path)
    assert kept.new == kept.bytes  # what the files hold is known by now
    write(birds / "a/00.png", 77)
    with pytest.raises(UserError, match="changed while they were decoded"):
        kept.fill(lambda line: None)
    filled(birds, tmp_path)


def test_a_budget_that_is_too_small_says_which_would_do(birds, tmp_path, monkeypatch):
    given, kept = stored(birds, tmp_path)
    monkeypatch.setattr(Dataset, "bytes", 41 * 2**30 + 1)
    told = []
    monkeypatch.setattr(Squares, "new", property(lambda self: pytest.fail("files were read")))
    assert not kept.kept(Budget(16, told.append), told.append)
    assert told == [
        "24 decoded images, 41.00 GiB, are more than is left of --data.cache-gib 16, 41.1 would "
        "do: they are decoded in every epoch instead"
    ]
    assert not (tmp_path / "cache").exists()


def test_in_a_bucket_nothing_is_kept(birds, tmp_path, monkeypatch):
    given, kept = stored(birds, tmp_path)
    monkeypatch.setattr(mirror, "of", lambda path: "a mirror")
    told = []
    assert not kept.kept(Budget(16, told.append), told.append)
    (line,) = told
    assert "not kept in a bucket" in line and "--data.cache" in line


def test_where_nothing_can_be_written_another_folder_is_asked_for(birds, tmp_path, monkeypatch):
    """Unless all is there: then it is read."""
    monkeypatch.setattr(storage, "writable", lambda folder: False)
    given, kept = stored(birds, tmp_path)
    with pytest.raises(UserError, match=r"cannot be kept in .* --data\.cache"):
        kept.fill(lambda line: None)
    monkeypatch.undo()
    filled(birds, tmp_path)
    monkeypatch.setattr(storage, "writable", lambda folder: False)
    assert filled(birds, tmp_path)[1] == []


# -- runs ------------------------------------------------------------------------------------------


def trained(workdir, place, cache="", gib=16.0, stop=0):
    data = dataclasses.replace(
        tiny().data, placement=place, cache=str(cache), cache_gib=gib, validation=0.25
    )
    chosen = tiny(workdir, data=data, save_every=3)
    told = []

    def report(line, **_):
        told.append(line)

    if stop:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
            votes = iter(range(1, 100))
            agreed = lambda asked, step: 15 if next(votes) == stop else 0  # noqa: E731
            patch.setattr("fgvc_jax.training.loop._agreed", agreed)
            members.train(chosen, report=report)
        return None, told
    return members.train(chosen, report=report), told


def known(results):
    names = "digests", "members", "ensemble", "metrics", "attention_overlap"
    return {name: results[name] for name in names}


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    """What a run comes to without a store."""
    return known(trained(tmp_path_factory.mktemp("streamed") / "run", "stream")[0])


def empty(cache):
    pass


def halved(cache):
    there = sorted(cache.glob("squares/*/*.npy"))
    assert len(there) > 1
    for path in there[::2]:
        path.unlink()


def deleted(cache):
    shutil.rmtree(cache)


def untouched(cache):
    assert list(cache.glob("squares/*/*.npy"))


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A store that a run has filled, and what that came to."""
    folder = tmp_path_factory.mktemp("full")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(squares, "FILE", 2**16)
        results, told = trained(folder / "run", "store", folder / "cache")
    assert "decoded images, 0.00 GiB, in" in told[1]
    return folder / "cache", known(results)


@pytest.mark.sampled(1)
@pytest.mark.slow
@pytest.mark.parametrize("start", [halved, untouched, deleted])
def test_a_run_is_the_same_with_and_without(tmp_path, full, streamed, monkeypatch, start):
    """Bit for bit, digests included; also one that begins with what another has left."""
    monkeypatch.setattr(squares, "FILE", 2**16)
    before, results = full
    assert results == streamed
    shutil.copytree(before, tmp_path / "cache")
    start(tmp_path / "cache")
    again, told = trained(tmp_path / "run", "store", tmp_path / "cache")
    assert known(again) == streamed
    lines = [line for line in told if "of them in" in line and "decoded images" in told[1]]
    assert bool(lines) == (start is not untouched)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_with_too_small_a_budget_it_is_streamed(tmp_path, streamed):
    results, told = trained(tmp_path / "run", "store", gib=0.0)
    assert known(results) == streamed
    assert any("decoded images" in line and "would do" in line for line in told)
    assert not Path(tmp_path / "run/precomputed").exists()


@pytest.mark.sampled(1)
@pytest.mark.slow
@pytest.mark.parametrize("places", [("stream", "store"), ("store", "store"), ("store", "stream")])
def test_resumed_equals_uninterrupted_whatever_the_store(tmp_path, streamed, places):
    """In the middle of the second member; also where the store goes, or comes, in between."""
    trained(tmp_path / "run", places[0], stop=11)
    assert (tmp_path / "run/members/02/checkpoints").exists()
    results, _ = trained(tmp_path / "run", places[1])
    assert known(results) == streamed
