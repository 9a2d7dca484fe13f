"""The demo's server: whom it answers, and what it refuses; no network behind it."""

import asyncio
import http.client
import json
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from fgvc_jax.utils.errors import UserError

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
web = pytest.importorskip("fgvc_jax.commands.server")


def answer(upload: bytes) -> dict:
    if upload == b"broken":
        raise UserError("This file is broken.")
    if upload == b"bug":
        raise ZeroDivisionError
    return {"bytes": len(upload)}


def answer_kept(number: int) -> dict:
    if number > 9:
        raise UserError("The kept photograph is empty.")
    return {"kept": number}


def asked(answer=answer):
    return SimpleNamespace(known={"names": ["crow"]}, answer=answer, answer_kept=answer_kept)


def serving(application):
    """The port of a server of its own, in a thread."""
    listening = web.listen("127.0.0.1", 0)
    threading.Thread(target=web.serve, args=(application, listening), daemon=True).start()
    return listening.getsockname()[1]


@pytest.fixture(scope="module")
def port():
    """Of a server in a thread, which ends with the process."""
    return serving(web.application("<p>the page", asked(), {"birds.example"}))


def ask(port, method="GET", path="/", body=None, **headers):
    """(status, headers, text) of a request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, named)
    response = connection.getresponse()
    found = response.status, dict(response.getheaders()), response.read().decode()
    connection.close()
    return found


def post(port, body, **headers):
    status, _, text = ask(port, "POST", "/answer", body, **headers)
    return status, json.loads(text)


def test_the_page_and_an_answer(port):
    status, headers, text = ask(port)
    assert (status, text) == (200, "<p>the page")
    assert headers["x-content-type-options"] == "nosniff" and "server" not in headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"
    assert post(port, b"abc") == (200, {"bytes": 3})
    assert ask(port, path="/favicon.ico")[0] == 204 and ask(port, path="/else")[0] == 404
    assert ask(port, path="/answer")[0] == 405


def test_what_is_shown_before_and_what_is_kept(port):
    status, headers, text = ask(port, path="/known")
    assert (status, json.loads(text)) == (200, {"names": ["crow"]})
    assert headers["cache-control"] == "no-store"
    kept = [json.loads(ask(port, "POST", f"/kept/{number}")[2]) for number in (3, 10)]
    assert kept == [{"kept": 3}, {"error": "The kept photograph is empty."}]
    assert ask(port, path="/kept/3")[0] == 405 and ask(port, "POST", "/kept/-1")[0] == 404


def test_what_cannot_be_answered_is_a_sentence(port, caplog):
    assert post(port, b"broken") == (200, {"error": "This file is broken."})
    assert "ZeroDivisionError" not in caplog.text
    assert post(port, b"bug") == (500, {"error": "The program failed; its terminal says why."})
    assert "ZeroDivisionError" in caplog.text
    assert post(port, b"abc")[0] == 200


OURS = [
    {},
    {"Host": "localhost"},
    {"Host": "LOCALHOST:9000"},  # as behind a forwarded port
    {"Host": "[::1]:80"},
    {"Host": "10.1.2.3:80"},
    {"Host": "birds.example"},
    {"Host": "localhost:9", "Origin": "http://localhost:9", "Sec_Fetch_Site": "same-origin"},
    {"Sec_Fetch_Site": "none"},
]
FOREIGN = [
    {"Host": "evil.example"},  # rebound to this address
    {"Host": "localhost.evil.example"},
    {"Host": "127.0.0.1.evil.example"},
    {"Host": "evil.example@localhost.evil.example"},
    {"Host": "[::1"},
    {"Host": ""},
    {"Host": "localhost:9", "Origin": "http://evil.example"},
    {"Host": "localhost:9", "Origin": "http://localhost:8"},
    {"Host": "localhost:9", "Origin": "null"},
    {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"},
    {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"},
]


@pytest.mark.parametrize("headers", OURS)
def test_our_own_page_is_answered(port, headers):
    assert ask(port, **headers)[0] == 200
    assert post(port, b"abc", **headers)[0] == 200


@pytest.mark.parametrize("headers", FOREIGN)
def test_other_sites_pages_are_refused(port, headers):
    assert ask(port, **headers)[0] == 403
    status, given, text = ask(port, "POST", "/answer", b"abc", **headers)
    assert status == 403 and text.startswith("Refused: ")
    assert given["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in given
    assert ask(port, path="/known", **headers)[0] == 403
    assert ask(port, "POST", "/kept/3", **headers)[0] == 403


def test_a_link_on_another_page_opens_this_one_and_no_more(port):
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    link["Sec_Fetch_Dest"] = "document"
    assert ask(port, **link)[0] == 200
    assert ask(port, "POST", "/answer", b"abc", **link)[0] == 403
    assert ask(port, path="/answer", **link)[0] == 403


def test_an_upload_is_bounded_in_bytes(port, monkeypatch):
    monkeypatch.setattr(web, "MOST_BYTES", 2**20)
    error = {"error": "The file has more than 1 MiB."}
    assert post(port, bytes(2**20))[0] == 200
    assert post(port, bytes(2**20 + 1)) == (413, error)
    pieces = (bytes(2**19) for _ in range(3))  # chunked: its length is not said before
    assert post(port, pieces) == (413, error)
    assert post(port, b"abc")[0] == 200


def test_an_upload_that_does_not_arrive_is_given_up(port, monkeypatch):
    monkeypatch.setattr(web, "RECEIVING", 0.2)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = b"POST /answer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc"
        connection.sendall(head)
        connection.settimeout(20)
        assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_connections_that_ask_nothing_are_closed(monkeypatch):
    """Silent ones, ones that begin a header over and over, and one that was answered before."""
    monkeypatch.setattr(web, "ASKING", 0.5)
    port = serving(web.application("the page", asked()))
    waiting = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(web.CONNECTIONS)]
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
    waiting[0].sendall(request)
    waiting[1].sendall(b"\r\n".join([request, b""]))
    first = waiting[1].recv(4096)
    assert first.startswith(b"HTTP/1.1 503 ") or first.startswith(b"HTTP/1.1 200 ")
    dripping = time.monotonic() + 10
    with pytest.raises(OSError):  # reset, where it still spoke
        while time.monotonic() < dripping:
            waiting[0].sendall(b"X-More: and more\r\n")
            time.sleep(0.1)
    for connection in waiting[1:]:
        while connection.recv(4096):
            pass
    assert ask(port)[0] == 200


def test_an_answer_that_nobody_reads_is_given_up(monkeypatch):
    monkeypatch.setattr(web, "ASKING", 0.2)
    monkeypatch.setattr(web, "RECEIVING", 0.2)
    lost, original = threading.Event(), web.Connection.connection_lost

    def connection_lost(self, error):
        original(self, error)
        lost.set()

    monkeypatch.setattr(web.Connection, "connection_lost", connection_lost)
    port = serving(web.application("x" * 2**25, asked()))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert lost.wait(20)


def test_uploads_wait_for_each_other_and_more_than_that_are_refused():
    """Ten are answered one by one; beyond the places there is a sentence."""
    inside, most, seen = 0, 0, threading.Lock()

    def slowly(upload: bytes) -> dict:
        nonlocal inside, most
        with seen:
            inside += 1
            most = max(most, inside)
        time.sleep(0.05)
        with seen:
            inside -= 1
        return answer(upload)

    port = serving(web.application("", asked(slowly)))

    async def together(count):
        return await asyncio.gather(
            *(asyncio.to_thread(post, port, b"a" * n) for n in range(1, count + 1))
        )

    found = asyncio.run(together(10))
    assert found == [(200, {"bytes": n}) for n in range(1, 11)] and most == 1
    statuses = [status for status, _ in asyncio.run(together(web.MOST_UPLOADS + 4))]
    assert statuses.count(200) >= web.MOST_UPLOADS and set(statuses) <= {200, 503}


def test_places_are_given_back_after_an_error():
    places = web.Seats(1)
    for _ in range(2):
        with pytest.raises(ValueError), places.taken():
            with pytest.raises(web.Refused, match="waiting") as refused, places.taken():
                pass
            assert refused.value.status == 503
            raise ValueError
    with places.taken():
        pass


def test_an_address_is_taken_or_told():
    listening = web.listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    assert web.is_loopback(listening) and web.url(listening) == f"http://127.0.0.1:{port}"
    with pytest.raises(UserError, match=f"port {port} cannot be taken .*in use.*--port") as error:
        web.listen("127.0.0.1", port)
    assert "\n" not in str(error.value)
    for host in ("no.such.host.invalid", "a" * 300, "192.0.2.1"):
        with pytest.raises(UserError, match="--host|another --port"):
            web.listen(host, 0)
    assert {"0.0.0.0", socket.gethostname()} <= web.names("0.0.0.0")
    with web.listen("0.0.0.0", 0) as everywhere:
        assert not web.is_loopback(everywhere)
    listening.close()
