"""The door to a workdir's files: whole or not at all, one line for a mistake."""

import errno
import fcntl
import os
import re
import resource
import threading
import time
from collections import namedtuple

import numpy as np
import pytest
from conftest import ROOT

from fgvc_jax.utils import digests, paths
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import locks, storage

WRITES = (".write_text(", ".write_bytes(", "np.save(", "open_memmap(", ".unlink(", "rmtree(",
          "os.replace(", ".rename(", ".replace(partial", "savez")  # fmt: skip


def test_nothing_else_writes_files():
    """Orbax (checkpoint.py), tensorboardX (journal.py), locks and a bucket's mirror have their own;
    weights are exported where a user says; fetched.py and compilation.py look after caches of the
    user's, below the room of files."""
    for path in (ROOT / "fgvc_jax").rglob("*.py"):
        own = "storage.py", "locks.py", "mirror.py", "objects.py", "weights.py", "fetched.py"
        if path.name in (*own, "compilation.py"):
            continue
        text = re.sub(r"storage\.(write_text|write_bytes|rename)\(", "", path.read_text())
        found = [word for word in WRITES if word in text]
        assert not found or path.parent.name in ("study", "data"), (path, found)


def test_json_is_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "a.json"
    storage.write_json(path, {"a": 1})
    storage.write_json(path, {"a": 2})
    assert storage.read_json(path) == {"a": 2}
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_a_damaged_file_is_one_line(tmp_path):
    (tmp_path / "a.json").write_text('{"a": ')
    with pytest.raises(UserError, match="a.json' is damaged .*: remove it"):
        storage.read_json(tmp_path / "a.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="b.json' cannot be read"):
        storage.read_json(tmp_path / "b.json")
    with pytest.raises(FileNotFoundError):
        storage.read_json(tmp_path / "c.json")


@pytest.mark.parametrize("shape", [(3, 4), (0, 4)])
def test_arrays_are_mapped(tmp_path, shape):
    array = np.arange(np.prod(shape), dtype=np.float16).reshape(shape)
    storage.write_array(tmp_path / "a.npy", array)
    assert np.array_equal(storage.map_array(tmp_path / "a.npy"), array)


def test_an_array_that_is_not_finished_does_not_appear(tmp_path):
    with (
        pytest.raises(KeyboardInterrupt),
        storage.new_array(tmp_path / "a.npy", (3,), np.float32) as array,
    ):
        array[:] = 1
        raise KeyboardInterrupt
    with storage.new_array(tmp_path / "b.npy", (3,), np.float32, keep=lambda: False):
        pass
    assert not list(tmp_path.iterdir())


def test_what_a_kill_left_of_an_array_makes_room_for_the_next(tmp_path):
    def begun(name, age):
        path = tmp_path / name
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
        return path

    left, young = begun("a.npy.partial-0123abcd", 100), begun("b.npy.partial-0123abcd", 10)
    other = begun("notes.partial-0123abcd", 100)
    with storage.new_array(tmp_path / "c.npy", (3,), np.float32):
        (own,) = tmp_path.glob("c.npy.partial-*")
        os.utime(own, (time.time() - 100,) * 2)
        storage.write_array(tmp_path / "d.npy", np.zeros(3))
        assert own.exists()
    assert [path.exists() for path in (left, young, other)] == [False, True, True]
    assert (tmp_path / "c.npy").exists()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"no array"])
def test_a_damaged_array_is_a_value_error(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError):
        storage.map_array(tmp_path / "a.npy")


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda folder: usage(9, 9, 2**20))
    with pytest.raises(UserError, match="no space left on the disk.*8.0 MiB, 1.0 are free"):
        storage.write_array(tmp_path / "a.npy", np.zeros(2**20))
    assert not list(tmp_path.iterdir())


def test_a_read_only_file_system_is_one_line(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(type(tmp_path), "open", refused)
    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(UserError, match="cannot be written .Read-only file system.: name another"):
        storage.write_json(tmp_path / "a.json", 1)
    with pytest.raises(UserError, match="Read-only file system"), locks.lock(tmp_path):
        pass


def test_a_line_waits_until_nobody_is_at_the_file(tmp_path):
    """What another has written so far is not taken for a torn line."""
    path = tmp_path / "lines"
    with path.open("ab") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        theirs.write(b"thei")
        theirs.flush()
        ours = threading.Thread(target=storage.add_line, args=(path, "ours\n"))
        ours.start()
        ours.join(timeout=0.2)
        assert path.read_bytes() == b"thei"
        theirs.write(b"rs\n")
    ours.join()
    assert path.read_bytes() == b"theirs\nours\n"


def test_a_line_is_added_to_what_took_the_files_place_meanwhile(tmp_path):
    path = tmp_path / "lines"
    with locks.adding(path):
        ours = threading.Thread(target=storage.add_line, args=(path, "ours\n"))
        ours.start()
        ours.join(timeout=0.2)
        storage.write_text(path, "tidied\n")
    ours.join()
    assert path.read_bytes() == b"tidied\nours\n"
    with pytest.raises(FileNotFoundError), locks.adding(path):
        raise FileNotFoundError  # of whoever adds, whose mistake is not lost


def test_a_line_that_does_not_fit_leaves_the_file_as_it_was(tmp_path):
    path, limits = tmp_path / "lines", resource.getrlimit(resource.RLIMIT_FSIZE)
    storage.add_line(path, "one\n")
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            storage.add_line(path, "x" * 4000 + "\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    storage.add_line(path, "two")
    storage.add_line(path, "three\n")
    assert path.read_text() == "one\ntwo\nthree\n"


def test_folders_are_copied_whole(tmp_path):
    (tmp_path / "a" / "checkpoints").mkdir(parents=True)
    (tmp_path / "a" / "file").write_text("x")
    storage.copy_folder(tmp_path / "a", tmp_path / "b" / "c", leave_out=("checkpoints",))
    assert [p.name for p in (tmp_path / "b" / "c").iterdir()] == ["file"]
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["c"]


def test_a_pipe_or_a_device_is_not_read(tmp_path):
    """Nobody may ever write to the one, and the other may have no end."""
    pipe, endless = tmp_path / "pipe", tmp_path / "endless"
    os.mkfifo(pipe)
    endless.symlink_to("/dev/zero")
    for path in (pipe, endless):
        for read in (storage.read_text, storage.read_json, storage.append):
            with pytest.raises(UserError, match="no regular file"):
                read(path)
        for read in (storage.read_bytes, digests.of_file):
            with pytest.raises(OSError, match="no regular file"):
                read(path)
        with pytest.raises(ValueError, match="no regular file"):
            storage.map_array(path)
        assert path.name in {each.name for each in tmp_path.iterdir()}


def test_what_is_appended_goes_through_no_link(tmp_path):
    mine, link = tmp_path / "mine", tmp_path / "log"
    mine.write_text("precious")
    link.symlink_to(mine)
    for add in (storage.append, lambda path: storage.add_line(path, "more\n")):
        with pytest.raises(UserError, match="symbolic link"):
            add(link)
    storage.write_text(link, "new")  # replaces the link
    assert (mine.read_text(), link.read_text()) == ("precious", "new")


@pytest.mark.parametrize("exchanged", [True, False])
@pytest.mark.parametrize("way", ["new_folder", "replace_folder"])
def test_a_folder_is_replaced_by_one_step_where_the_system_can(
    tmp_path, monkeypatch, exchanged, way
):
    """A kill between two steps would leave neither the old nor the new one."""
    to, made, seen = tmp_path / "export", tmp_path / "made", []
    for folder in (to, made):
        folder.mkdir()
        (folder / "who").write_text(folder.name)
    if not exchanged:
        monkeypatch.setattr(paths, "exchange", lambda one, other: False)
    elif not paths.exchange(to, made) or not paths.exchange(to, made):
        pytest.skip("this file system cannot")
    rename = type(to).rename
    monkeypatch.setattr(
        type(to), "rename", lambda self, new: (rename(self, new), seen.append(to.exists()))
    )
    if way == "replace_folder":
        storage.replace_folder(made, to)
    else:
        with storage.new_folder(to) as folder:
            (folder / "who").write_text("made")
    assert (to / "who").read_text() == "made"
    assert {path.name for path in tmp_path.iterdir()} <= {"export", "made"}
    assert all(seen) == exchanged


@pytest.mark.parametrize("error", [OSError(errno.EIO, "gone"), KeyboardInterrupt()])
def test_where_it_cannot_a_step_that_fails_leaves_the_old_folder(tmp_path, monkeypatch, error):
    """The old one was left under another name, and the new one removed."""
    to = tmp_path / "export"
    to.mkdir()
    (to / "who").write_text("old")
    monkeypatch.setattr(paths, "exchange", lambda one, other: False)
    rename, tries = type(to).rename, []

    def second_fails(self, new):
        tries.append(new)
        if len(tries) == 2:
            raise error
        return rename(self, new)

    monkeypatch.setattr(type(to), "rename", second_fails)
    with pytest.raises((OSError, UserError, KeyboardInterrupt)), storage.new_folder(to) as folder:
        (folder / "who").write_text("made")
    assert (to / "who").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"export"}
