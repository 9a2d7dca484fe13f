"""One run at a time in a folder, with the system's lock and without one."""

import errno
import fcntl
import importlib
import json
import multiprocessing
import os
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest

import fgvc_jax.workdir
from fgvc_jax.utils import devices
from fgvc_jax.utils.errors import InUse, UserError
from fgvc_jax.workdir import locks, storage
from fgvc_jax.workdir.checkpoint import Checkpoints, save_final
from fgvc_jax.workdir.journal import Journal


def test_without_the_systems_locks_importing_says_where_it_runs(monkeypatch):
    """As on Windows, for whoever imports it from Python."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(ImportError, match="on Windows start it in WSL"):
        importlib.reload(fgvc_jax.workdir)


def hold(folder, ready):
    with locks.lock(folder):
        ready.set()
        time.sleep(60)


def test_a_turn_waits_and_a_look_takes_nothing(tmp_path):
    assert not locks.held(tmp_path / "nothing")
    with locks.lock(tmp_path):
        assert locks.held(tmp_path)
        waiting = threading.Thread(
            target=lambda: locks.short_lock(tmp_path).__enter__(), daemon=True
        )
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_second_holder_is_told_who_has_it_and_death_releases(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=hold, args=(tmp_path, ready))
    holder.start()
    assert ready.wait(60)
    words = rf"is in use by process {holder.pid} on .* since \d{{4}}-"
    with pytest.raises(UserError, match=words), locks.lock(tmp_path):
        pass
    holder.kill()
    holder.join()
    with locks.lock(tmp_path):
        held = json.loads((tmp_path / "lock").read_text())
        assert held["process"] == os.getpid()


@pytest.fixture
def leases(monkeypatch):
    """A file system without flock, and a clock that tests turn."""

    def refused(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    clock = {"now": 1000.0}
    monkeypatch.setattr(locks.time, "time", lambda: clock["now"])
    return clock


def test_a_lease_keeps_others_out_until_it_runs_out(tmp_path, leases):
    with locks.lock(tmp_path):
        with pytest.raises(UserError, match="is in use by process"), locks.lock(tmp_path):
            pass
        storage.write_json(tmp_path / "mine.json", 1)
        leases["now"] += locks.LEASE_SECONDS + 1
        (tmp_path / "lease").write_text(
            json.dumps({"host": "other", "process": 1, "since": "now", "renewed": leases["now"]})
        )
        with pytest.raises(UserError, match="was taken over by another process"):
            storage.write_json(tmp_path / "mine.json", 2)
    assert storage.read_json(tmp_path / "mine.json") == 1
    assert json.loads((tmp_path / "lease").read_text())["host"] == "other"


def journal_in(folder):
    return Journal(folder, title="m", start=0, total=1, images_per_step=1, write=True)


# Every way to write: what is there before the lease is lost -> what is tried after.
WRITES = {
    "text": lambda folder: partial(storage.write_text, folder / "new", "x"),
    "array": lambda folder: partial(storage.write_array, folder / "new", np.zeros(2)),
    "appended": lambda folder: partial(storage.append, folder / "new"),
    "removed": lambda folder: partial(storage.remove, folder / "old"),
    "renamed": lambda folder: partial(storage.rename, folder / "old", folder / "new"),
    "replaced": lambda folder: partial(storage.replace_folder, folder / "old", folder / "new"),
    "copied": lambda folder: partial(storage.copy_folder, folder / "old", folder / "new"),
    "journal": lambda folder: partial(journal_in(folder / "old").write, {"step": 1}),
    "checkpoint": lambda folder: partial(
        Checkpoints(folder / "old", devices.create_mesh()).save, 1, {"w": np.zeros(2)}
    ),
    "member": lambda folder: partial(save_final, folder / "new", {"w": np.zeros(2)}),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_who_lost_the_lease_writes_nothing_more(tmp_path, leases, write):
    (tmp_path / "old").mkdir()
    (tmp_path / "old/file").write_text("mine")

    def content():
        return {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    with locks.lock(tmp_path):
        tried = write(tmp_path)
        (tmp_path / "lease").write_text(
            json.dumps({"host": "other", "process": 1, "since": "now", "renewed": leases["now"]})
        )
        before = content()
        with pytest.raises(UserError, match="was taken over by another process"):
            tried()
        assert content() == before


def test_a_lease_that_is_given_back_just_then_is_told_like_any_other(tmp_path, leases, monkeypatch):
    monkeypatch.setattr(locks, "_runs", lambda text: True)
    with pytest.raises(InUse, match="in use by another process"), locks.lock(tmp_path):
        pass


def test_a_lease_is_renewed_and_given_back(tmp_path, leases, monkeypatch):
    monkeypatch.setattr(locks, "RENEW_SECONDS", 0.01)
    with locks.lock(tmp_path):
        leases["now"] += 100
        for _ in range(200):
            if json.loads((tmp_path / "lease").read_text())["renewed"] == leases["now"]:
                break
            time.sleep(0.01)
        else:
            pytest.fail("the lease was not renewed")
    assert not (tmp_path / "lease").exists()


@pytest.mark.parametrize("name", ["lock", "lease.partial-{}"])
def test_a_link_in_the_way_is_not_followed(tmp_path, request, name):
    """Whoever makes `lock` a link to a file of ours would have it emptied."""
    if name != "lock":
        request.getfixturevalue("leases")
    folder, mine = tmp_path / "run", tmp_path / "mine"
    folder.mkdir()
    mine.write_text("precious")
    (folder / name.format(os.getpid())).symlink_to(mine)
    with pytest.raises((UserError, OSError), match="symbolic link"), locks.lock(folder):
        pass
    assert mine.read_text() == "precious"


def test_a_pipe_in_the_place_of_a_lock_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(UserError, match="no regular file"), locks.lock(tmp_path):
        pass
    with pytest.raises(OSError, match="no regular file"):
        locks.held(tmp_path)
