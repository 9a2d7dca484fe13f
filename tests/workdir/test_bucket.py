"""A bucket that fails is asked again, then told in one line; a text is compared and swapped."""

import importlib.util

import pytest
from buckets import Memory

from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import bucket
from fgvc_jax.workdir.bucket import Changed, SharedText, Unavailable


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock that only sleeping moves."""
    now = [0.0]
    monkeypatch.setattr(bucket.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(bucket.time, "sleep", lambda s: now.__setitem__(0, now[0] + s))
    monkeypatch.setattr(bucket, "_given_up", set())
    return now


def fails(times):
    left = [times]

    def request():
        left[0] -= 1
        if left[0] >= 0:
            raise Unavailable("503 come again\nlater")
        return "answer"

    return request


def test_a_request_is_repeated_until_it_is_answered(clock):
    assert bucket.patient(fails(5), "gs://b/run") == "answer"
    assert 5 < clock[0] < bucket.PATIENCE


def test_after_a_while_it_is_told_in_one_line_and_what_follows_tries_once(clock):
    words = r"'gs://b/run' is not reached \(503 come again\), after 120 s of trying"
    with pytest.raises(UserError, match=words) as error:
        bucket.patient(fails(1000), "gs://b/run")
    assert "\n" not in str(error.value) and 90 < clock[0] <= bucket.PATIENCE
    began = clock[0]
    with pytest.raises(UserError, match="is not reached"):
        bucket.patient(fails(1), "gs://b/run")
    assert clock[0] == began
    assert bucket.patient(fails(0), "gs://b/run") == bucket.patient(fails(1), "gs://b/run")


def test_a_mistake_is_not_repeated(clock):
    def refused():
        raise UserError("gs://b refuses (403)")

    with pytest.raises(UserError, match="403"):
        bucket.patient(refused, "gs://b/run")
    assert clock[0] == 0


def test_a_text_is_replaced_only_where_it_is_what_was_read():
    client = Memory()
    one, other = (SharedText("gs://b/run", "run/lease", client) for _ in range(2))
    assert one.read() == ("", 0)
    one.write("mine", 0)
    with pytest.raises(Changed):
        other.write("theirs", 0)
    text, generation = other.read()
    assert text == "mine"
    other.write("theirs", generation)
    with pytest.raises(Changed):
        one.write("mine again", generation)
    assert one.read()[0] == "theirs"


def test_a_write_whose_answer_got_lost_is_no_failure():
    client = Memory()
    cell = SharedText("gs://b/run", "run/lease", client)
    tries = []

    def heard_once(name):
        tries.append(name)
        if len(tries) == 2:
            client.objects[name] = b"mine", 7

    def lost(name):
        heard_once(name)
        if len(tries) == 1:
            client.put(name, b"mine")
            raise Unavailable("connection reset")

    client.before["store"] = lost
    cell.write("mine", 0)
    assert len(tries) == 2 and cell.read() == ("mine", 7)


def test_missing_packages_are_one_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"not installed.*pip install 'fgvc_jax\[gcs\]'"):
        bucket.Google("birds")


class Service:
    """What the library says of one bucket."""

    def __init__(self, error=None, there=True):
        self.error, self.there, self.name = error, there, "birds"

    def get_blob(self, *_, **__):
        raise self.error

    def list_blobs(self, *_, **__):
        if not self.there:
            from google.api_core.exceptions import NotFound

            raise NotFound("no bucket")
        return iter(())


@pytest.mark.parametrize(
    ("kind", "there", "expected", "words"),
    [
        ("ServiceUnavailable", True, Unavailable, "503"),
        ("TooManyRequests", True, Unavailable, "429"),
        ("PreconditionFailed", True, Changed, None),
        ("NotFound", True, Changed, None),
        ("NotFound", False, UserError, "there is no bucket gs://birds"),
        ("Forbidden", True, UserError, "gs://birds refuses .403 no"),
    ],
)
def test_what_the_library_says_is_understood(kind, there, expected, words):
    exceptions = pytest.importorskip("google.api_core.exceptions")
    google = object.__new__(bucket.Google)
    google._bucket = google._client = Service(getattr(exceptions, kind)("no"), there)
    with pytest.raises(expected, match=words):
        google.stat("x")
