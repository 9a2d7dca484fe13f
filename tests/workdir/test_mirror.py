"""A workdir in a bucket: the mirror is alike, whole or not at all, and only its holder writes."""

import json
import pwd
import shutil

import numpy as np
import pytest
from buckets import Memory

from fgvc_jax.utils.errors import InUse, UserError
from fgvc_jax.workdir import bucket, locks, mirror, storage
from fgvc_jax.workdir.bucket import Unavailable
from fgvc_jax.workdir.folder import Workdir


@pytest.fixture
def client(monkeypatch, tmp_path):
    """A bucket in memory that all gs:// URLs are in."""
    made = Memory()
    monkeypatch.setattr(bucket, "connect", lambda name: made)
    monkeypatch.setattr(bucket, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(bucket, "PATIENCE", 5.0)
    monkeypatch.setattr(bucket, "_given_up", set())
    monkeypatch.setattr(mirror, "_mirrors", {})
    monkeypatch.setattr(mirror, "_held", [])
    monkeypatch.setenv(mirror.PLACE, str(tmp_path / "mirrors"))
    return made


@pytest.fixture
def run(client):
    return Workdir("gs://birds/a/run").path


def another(monkeypatch):
    """The same workdir as another process sees it."""
    known = mirror._mirrors.copy()
    mirror._mirrors.clear()
    path = Workdir("gs://birds/a/run").path
    mirror._mirrors.update({"first": known["gs://birds/a/run"]})
    return path


def test_a_file_appears_in_both_and_is_fetched_by_others(client, run, monkeypatch):
    storage.write_json(run / "members/01/a.json", 1)
    assert list(client.objects) == ["a/run/members/01/a.json"]
    theirs = another(monkeypatch)
    assert theirs != run and not (theirs / "members").exists()
    assert storage.exists(theirs / "members/01/a.json")
    assert storage.read_json(theirs / "members/01/a.json") == 1
    storage.write_json(theirs / "members/01/a.json", 2)
    assert storage.read_json(run / "members/01/a.json") == 2
    storage.remove(run / "members/01/a.json")
    assert not client.objects and not storage.exists(theirs / "members/01/a.json")
    with pytest.raises(FileNotFoundError):
        storage.read_json(theirs / "members/01/a.json")


def test_without_a_home_the_mirror_is_for_the_moment(client, monkeypatch):
    def nobody(_):
        raise KeyError("no such user")

    for name in (mirror.PLACE, "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    run = Workdir("gs://birds/a/run").path
    storage.write_json(run / "a.json", 1)
    assert list(client.objects) == ["a/run/a.json"] and storage.read_json(run / "a.json") == 1


@pytest.mark.parametrize("how", ["a file", "not writable"])
def test_with_a_home_that_cannot_be_written_the_mirror_is_for_the_moment(
    client, monkeypatch, tmp_path, how
):
    """It ended the command, where a user without a home was served."""
    home = tmp_path / "home"
    if how == "a file":
        home.write_text("")
    else:  # as root, who may write everywhere, sees none
        monkeypatch.setattr(mirror.os, "access", lambda *_: False)
    monkeypatch.delenv(mirror.PLACE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    run = Workdir("gs://birds/a/run").path
    storage.write_json(run / "a.json", 1)
    assert storage.read_json(run / "a.json") == 1 and home not in run.parents


def test_no_link_is_followed_where_a_mirror_is_locked(client, tmp_path):
    first = Workdir("gs://birds/a/run").path
    (tmp_path / "precious").write_text("all")
    lock = next(path for above in first.parents for path in above.glob("*.0.lock"))
    lock.unlink()
    lock.symlink_to(tmp_path / "precious")
    mirror._mirrors.clear()
    with pytest.raises(UserError, match="cannot be kept in .*symbolic link"):
        Workdir("gs://birds/a/run")
    assert (tmp_path / "precious").read_text() == "all"


def test_what_the_mirror_has_is_not_fetched_again(client, run):
    storage.write_json(run / "a.json", 1)
    client.before["load"] = lambda *_: pytest.fail("it was fetched")
    assert storage.read_json(run / "a.json") == 1


def test_arrays_and_their_names(client, run, monkeypatch):
    theirs = another(monkeypatch)
    storage.write_array(run / "maps/view1.whole.npy", np.arange(3))
    storage.rename(run / "maps/view1.whole.npy", run / "maps/view1.crc7.npy")
    (found,) = storage.matching(theirs / "maps", "view1.crc*.npy")
    assert found == theirs / "maps/view1.crc7.npy"
    assert storage.map_array(found).tolist() == [0, 1, 2]
    assert storage.matching(theirs / "maps", "view2.*") == []
    assert list(client.objects) == ["a/run/maps/view1.crc7.npy"]


def test_a_folder_is_one_object_and_is_replaced_whole(client, run, monkeypatch):
    theirs = another(monkeypatch)
    for text in ("old", "new"):
        (run / "final.new/deep").mkdir(parents=True)
        (run / f"final.new/deep/{text}").write_text(text)
        storage.replace_folder(run / "final.new", run / "final")
        assert storage.exists(theirs / "final")
        storage.fetch_folder(theirs / "final")
        assert [path.name for path in (theirs / "final/deep").iterdir()] == [text]
    assert list(client.objects) == ["a/run/final.tar"]
    assert sorted(path.name for path in theirs.iterdir()) == ["final"]
    client.before["load"] = lambda *_: pytest.fail("it was fetched again")
    storage.fetch_folder(theirs / "final")


def test_a_journal_is_copied_when_it_is_said(client, run):
    storage.write_text(run / "metrics.jsonl", "")
    with storage.append(run / "metrics.jsonl") as file:
        file.write("1\n")
        file.flush()
        assert storage.read_text(run / "metrics.jsonl") == "1\n"
        assert client.objects["a/run/metrics.jsonl"][0] == b""
        storage.publish(run / "metrics.jsonl")
        assert client.objects["a/run/metrics.jsonl"][0] == b"1\n"
        client.before["store"] = lambda *_: pytest.fail("it was copied again")
        storage.publish(run / "metrics.jsonl")


def test_a_file_that_is_only_appended_to_is_copied_too(client, run):
    with storage.append(run / "events") as file:
        file.write("1")
    storage.publish(run / "events")
    assert client.objects["a/run/events"][0] == b"1"
    client.before["store"] = lambda *_: pytest.fail("it was copied again")
    storage.publish(run / "events")


def test_lines_of_several_are_added_and_none_is_lost(client, run, monkeypatch):
    theirs, lines = another(monkeypatch), run / "ledger.jsonl"

    def in_between(name):
        client.before.clear()
        storage.add_line(theirs / "ledger.jsonl", "theirs\n")

    client.before["store"] = in_between
    storage.add_line(lines, "ours\n")
    assert storage.read_text(lines) == storage.read_text(theirs / "ledger.jsonl")
    assert storage.read_text(lines) == "theirs\nours\n"
    client.put("a/run/ledger.jsonl", b"torn")
    storage.add_line(lines, "whole\n")
    assert storage.read_text(lines) == "torn\nwhole\n"
    client.put("a/run/ledger.jsonl", b"\xff\n")
    storage.add_line(lines, "more\n")
    assert client.objects["a/run/ledger.jsonl"][0] == b"\xff\nmore\n"


@pytest.mark.parametrize("broken", [False, True])
def test_a_member_is_copied_file_by_file_and_what_tells_that_it_is_there_last(
    client, run, broken, monkeypatch
):
    member, copy = run / "members/01", Workdir("gs://birds/other").path / "members/02"
    (member / "final.new/deep").mkdir(parents=True)
    (member / "final.new/deep/file").write_text("weights")
    storage.replace_folder(member / "final.new", member / "final")
    for name in ("a.json", "z.json", "checkpoints/1/x"):
        storage.write_text(member / name, name)
    if broken:
        monkeypatch.setattr(bucket, "PATIENCE", 0.01)
        client.before["rename"] = lambda _, to: fail() if to.endswith("z.json") else None
        with pytest.raises(UserError, match="is not reached"):
            storage.copy_folder(member, copy, last="final", leave_out=("check*",))
        client.before.clear()
        assert not storage.exists(copy / "final")
    storage.copy_folder(member, copy, last="final", leave_out=("check*",))
    names = {name.removeprefix("other/") for name in client.objects if name.startswith("other")}
    assert names == {f"members/02/{name}" for name in ("a.json", "z.json", "final.tar")}
    storage.fetch_folder(copy / "final")
    assert (copy / "final/deep/file").read_text() == "weights"
    assert not list(copy.glob("*.tar")) and not list(member.glob("*.tar"))


def test_of_two_who_give_the_same_name_at_a_time_none_fails(client, run, monkeypatch):
    """As runs do that share a cache and make the same features."""
    theirs = another(monkeypatch)
    storage.write_text(run / "one", "same")
    storage.write_text(theirs / "other", "same")

    def in_between(*_):
        client.before.clear()
        storage.rename(theirs / "other", theirs / "features")

    client.before["rename"] = in_between
    storage.rename(run / "one", run / "features")
    assert storage.read_text(theirs / "features") == "same"
    assert list(client.objects) == ["a/run/features"]


def test_what_is_in_the_folder_itself_is_found(client, run):
    for name in ("a.json", "b/c.json"):
        storage.write_json(run / name, 1)
    assert storage.matching(run, "*") == [run / "a.json", run / "b"]
    whole = Workdir("gs://birds").path
    assert storage.matching(whole, "*") == [whole / "a"]


# -- what goes wrong -------------------------------------------------------------------------------


def fail(*_):
    raise Unavailable("503 no\nmore")


@pytest.mark.parametrize("request_", ["store", "rename"])
def test_a_bucket_that_fails_half_way_leaves_what_was_there(client, run, request_, monkeypatch):
    storage.write_json(run / "a.json", 1)
    client.before[request_] = fail
    monkeypatch.setattr(bucket, "PATIENCE", 0.01)
    with pytest.raises(UserError, match="'gs://birds/a/run' is not reached .503 no."):
        storage.write_json(run / "a.json", 2)
    client.before.clear()
    assert storage.read_json(run / "a.json") == 1
    assert list(client.objects) == ["a/run/a.json"] and len(list(run.iterdir())) == 1
    storage.write_json(run / "a.json", 3)
    assert storage.read_json(run / "a.json") == 3


def test_one_that_fails_for_a_moment_is_asked_again(client, run):
    times = []

    def at_first(*_):
        times.append(1)
        if len(times) < 3:
            fail()

    client.before["store"] = at_first
    storage.write_json(run / "a.json", 1)
    assert client.objects["a/run/a.json"][0] == b"1\n"


def test_a_download_that_breaks_off_is_begun_anew(client, run, monkeypatch):
    storage.write_text(run / "a.json", "12345")
    theirs, times = another(monkeypatch), []

    def at_first(name, file):
        times.append(1)
        if len(times) == 1:
            file.write(b"123")
            fail()

    client.before["load"] = at_first
    assert storage.read_text(theirs / "a.json") == "12345"


def test_a_try_that_was_not_heard_of_is_no_failure(client, run):
    times = []

    def unheard(name, to):
        times.append(1)
        if len(times) == 1:
            client.put(to, client.objects.pop(name)[0])
            fail()

    client.before["rename"] = unheard
    storage.write_json(run / "a.json", 1)
    assert client.objects["a/run/a.json"][0] == b"1\n" and len(client.objects) == 1


def test_a_bucket_that_refuses_is_one_line_and_not_writable(client, run):
    def refused(*_):
        raise UserError("gs://birds refuses (403 no)")

    client.before["store"] = refused
    assert not storage.writable(run)
    with pytest.raises(UserError, match="403"):
        storage.check_writable(run)
    client.before.clear()
    assert storage.writable(run) and not client.objects


# -- whose it is -----------------------------------------------------------------------------------


def test_a_second_start_is_told_and_one_after_the_end_has_a_greater_number(
    client, run, monkeypatch
):
    monkeypatch.setattr(locks, "RENEW_SECONDS", 0.01)
    theirs = another(monkeypatch)
    with locks.lock(run):
        assert locks.number(run) == 1 and locks.held(theirs)
        with pytest.raises(InUse, match="in use by process"), locks.lock(theirs):
            pass
    assert not locks.held(theirs)
    with locks.lock(theirs):
        assert locks.number(theirs) == 2


def take_over(client):
    """Another run takes the lease and writes nothing yet."""
    number = json.loads(client.objects["a/run/lease"][0])["number"] + 1
    lease = {"host": "other", "process": 1, "since": "now", "renewed": 1e12, "number": number}
    client.put("a/run/lease", json.dumps(lease).encode())
    for name in list(client.objects):
        if mirror.PARTIAL in name:
            del client.objects[name]


@pytest.mark.parametrize("moment", ["before it", "while it is uploaded", "while it is named"])
def test_a_run_that_lost_its_lease_writes_nothing(client, run, moment):
    """Held up at whatever moment, also after it has looked at its lease."""
    with locks.lock(run):
        storage.write_json(run / "a.json", 1)

        def taken(*arguments):
            if mirror.PARTIAL in arguments[0]:
                client.before.clear()
                take_over(client)

        if moment == "before it":
            take_over(client)
        else:
            client.before["store" if moment == "while it is uploaded" else "rename"] = taken
        for path in (run / "a.json", run / "new.json"):
            with pytest.raises(UserError, match="was taken over by another process"):
                storage.write_json(path, 2)
    assert json.loads(client.objects["a/run/lease"][0])["host"] == "other"
    assert sorted(client.objects) == ["a/run/a.json", "a/run/lease"]
    assert client.objects["a/run/a.json"][0] == b"1\n"


def test_a_removal_spares_what_the_next_run_wrote(client, run):
    with locks.lock(run):
        storage.write_json(run / "a.json", 1)
        client.before["remove"] = lambda name: client.put(name, b"theirs")
        storage.remove(run / "a.json")
    assert client.objects["a/run/a.json"][0] == b"theirs"


def test_whoever_takes_the_lease_removes_what_has_no_name_yet(client, run):
    client.put("a/run/a.json.partial-0123abcd", b"")
    client.put("a/run/lease", json.dumps({"number": 4}).encode())
    client.put("a/run/mine.partial-x", b"")
    with locks.lock(run):
        assert list(client.objects) == ["a/run/lease", "a/run/mine.partial-x"]
        assert locks.number(run) == 5


def test_a_lease_that_nobody_renews_is_waited_for(client, run, monkeypatch):
    left = {"host": "gone", "process": 1, "since": "then", "number": 1}
    left["renewed"] = locks.time.time() - locks.LEASE_SECONDS + 0.3
    client.put("a/run/lease", json.dumps(left).encode())
    with locks.lock(run):
        assert locks.number(run) == 2


def test_a_lease_of_a_clock_that_is_ahead_is_over_when_nobody_renews_it(client, run, monkeypatch):
    """Its holder was killed: whoever came next waited as long as that clock was ahead."""
    monkeypatch.setattr(locks, "LEASE_SECONDS", 0.3)
    left = {"host": "gone", "process": 1, "since": "then", "number": 1, "renewed": 1e12}
    client.put("a/run/lease", json.dumps(left).encode())
    with locks.lock(run):
        assert locks.number(run) == 2


def test_of_two_that_come_at_the_same_time_one_is_told(client, run, monkeypatch):
    def first(name):
        client.before.clear()
        client.put(name, json.dumps({"number": 1}).encode())

    client.before["store"] = first
    with pytest.raises(InUse, match="in use by another process"), locks.lock(run):
        pass


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["gs://", "gs://B/run", "gs:///run", "gs://b/run", "gs://birds/a//b", "gs://birds/../x",
     "gs://birds/a\nb", "gs://birds/a*", "gs://birds/a#1", "gs://birds/\udcff"],
)  # fmt: skip
def test_a_url_that_cannot_be_is_one_line(client, url):
    with pytest.raises(UserError, match="^--workdir ") as error:
        Workdir(url)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("url", ["gs://birds", "gs://birds/", "gs://birds/a b/é'%2F/"])
def test_others_can(client, url):
    path = Workdir(url).path
    assert Workdir(url.rstrip("/")).path == path
    storage.write_json(path / "a.json", 1)
    assert list(client.objects) == [f"{url.rstrip('/')}/a.json".removeprefix("gs://birds/")]
    assert mirror.by_url(f"{path / 'a.json'} is") == f"{url.rstrip('/')}/a.json is"


def test_a_run_within_a_run_and_two_that_look_alike_have_mirrors_of_their_own(client):
    paths = [Workdir(f"gs://birds/{name}").path for name in ("a", "a/b", "a_b")]
    assert len(set(paths)) == 3
    assert not any(path.is_relative_to(other) for path in paths for other in paths if path != other)


def test_a_mirror_that_cannot_be_kept_names_the_variable(client, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(mirror.PLACE, str(tmp_path / "file"))
    with pytest.raises(UserError, match=f"by the environment variable {mirror.PLACE}"):
        Workdir("gs://birds/run")


def test_a_mirror_that_is_removed_meanwhile_is_made_again(client, run):
    storage.write_json(run / "a.json", 1)
    shutil.rmtree(run)
    assert storage.read_json(run / "a.json") == 1
    storage.write_json(run / "b.json", 1)
