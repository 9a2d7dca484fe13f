import io

import pytest
from buckets import Memory

from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import bucket
from fgvc_jax.workdir.bucket import Changed
from fgvc_jax.workdir.objects import PARTIAL, Objects


def nothing():
    """Whoever writes may write."""


@pytest.fixture
def memory(monkeypatch):
    made = Memory()
    monkeypatch.setattr(bucket, "connect", lambda name: made)
    monkeypatch.setattr(bucket, "_given_up", set())
    return made


@pytest.fixture
def objects(memory):
    return Objects("birds", "gs://birds/run")


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(b"ours")
    return path


def test_what_is_stored_is_loaded_and_its_generation_remembered(objects, memory, source):
    assert objects.seen("a") is None and objects.found("a") is None
    generation = objects.store("a", source, nothing)
    assert objects.seen("a") == generation == objects.generation("a")
    assert objects.below("") == ["a"] and objects.address("a") == "gs://birds/a"
    file = io.BytesIO(b"of a try before, and longer")
    objects.load("a", file, generation)
    assert file.getvalue() == b"ours"
    objects.remove("a")
    objects.remove("a")
    assert objects.seen("a") is None and not memory.objects


def test_what_another_has_written_is_looked_at_again_before_ours_takes_its_place(
    objects, memory, source
):
    objects.store("a", source, nothing)
    theirs = memory.put("a", b"theirs")
    with pytest.raises(Changed):
        objects.load("a", io.BytesIO(), theirs - 1)
    assert objects.store("a", source, nothing) > theirs
    assert memory.objects["a"][0] == b"ours" and list(memory.objects) == ["a"]


def test_who_may_not_write_leaves_nothing_behind(objects, memory, source):
    def refused():
        raise UserError("the lease is another's")

    with pytest.raises(UserError, match="lease"):
        objects.store("a", source, refused)
    assert not memory.objects


def test_a_name_that_others_write_all_the_time_is_given_up(objects, memory, source):
    memory.put("old", b"1")
    memory.before["rename"] = lambda name, to: memory.put(to, b"theirs")
    with pytest.raises(UserError, match="gs://birds/a is written by others all the time"):
        objects.store("a", source, nothing)
    with pytest.raises(UserError, match="gs://birds/b is written by others all the time"):
        objects.rename("old", "b", nothing)
    assert sorted(memory.objects) == ["a", "b", "old"]


def test_only_what_has_no_name_yet_is_cleared(objects, memory):
    for name in ("run/a", f"run/a{PARTIAL}0123abcd", f"other/a{PARTIAL}0123abcd"):
        memory.put(name, b"")
    objects.clear("run/")
    assert sorted(memory.objects) == [f"other/a{PARTIAL}0123abcd", "run/a"]
