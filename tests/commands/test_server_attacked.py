"""The demo's server and what is sent to it by whom it does not expect: it says so in a line, and
goes on answering others."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
web = pytest.importorskip("fgvc_jax.commands.server")

HOST = b"Host: localhost\r\n"
ASKED = SimpleNamespace(
    known={}, answer=lambda upload: {"bytes": len(upload)}, answer_kept=lambda number: {}
)


@pytest.fixture
def port():
    listening = web.listen("127.0.0.1", 0)
    application = web.application("<p>the page", ASKED)
    threading.Thread(target=web.serve, args=(application, listening), daemon=True).start()
    return listening.getsockname()[1]


def sent(port, data, seconds=10):
    """An open connection on which something was sent."""
    connection = socket.create_connection(("127.0.0.1", port), seconds)
    connection.sendall(data)
    return connection


def answered(connection):
    """(status, text) of the next answer."""
    with http.client.HTTPResponse(connection) as response:
        response.begin()
        return response.status, response.read().decode()


def status(port, path="/"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    found = connection.getresponse().status
    connection.close()
    return found


def upload(port, head, body=b""):
    return sent(port, b"POST /answer HTTP/1.1\r\n" + HOST + head + b"\r\n" + body)


def get(path, more=b""):
    return b"GET " + path + b" HTTP/1.1\r\n" + HOST + more + b"\r\n"


ODD = {
    "a folder above": (get(b"/../../etc/passwd"), 404),
    "the same, encoded": (get(b"/%2e%2e/%2e%2e/etc/passwd"), 404),
    "an encoded NUL": (get(b"/%00"), 404),
    "a NUL": (get(b"/\0"), 400),
    "no UTF-8": (get(b"/%ff%fe"), 404),
    "a number without end": (b"POST /kept/" + b"9" * 5000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 403),
    "a long path": (get(b"/" + b"a" * 200), 403),
    "a path without end": (get(b"/" + b"a" * 60_000), 400),
    "another's address": (get(b"http://evil.example/"), 404),
    "no host": (b"GET / HTTP/1.0\r\n\r\n", 403),
    "two hosts": (get(b"/", b"Host: evil.example\r\n"), 400),
    "HEAD": (b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n", 200),
    "OPTIONS": (b"OPTIONS /answer HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    "CONNECT": (b"CONNECT evil.example:80 HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    "a websocket": (get(b"/", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"), 200),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 403),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00" + bytes(200), 400),
    "headers without end": (get(b"/", b"X: " + b"a" * 200_000 + b"\r\n"), 400),
    "many headers": (get(b"/", b"".join(b"X%d: a\r\n" % n for n in range(20_000))), 400),
    "a negative length": (b"POST /answer HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400),
    "a chunk beyond all": (
        b"POST /answer HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 30
        + b"\r\n\r\n",
        400,
    ),
    "an origin that is none": (get(b"/", b"Origin: http://[::1\r\n"), 403),
    "an origin with a name": (get(b"/", b"Origin: http://evil@localhost\r\n"), 403),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_requests_are_answered_in_a_line(port, name):
    request, expected = ODD[name]
    with sent(port, request) as connection:
        found = connection.recv(4096)
    assert int(re.match(rb"HTTP/1\.1 (\d+) ", found)[1]) == expected and b"Traceback" not in found
    assert status(port) == 200


def test_a_thousand_quick_connections_and_requests(port):
    for _ in range(1000):
        sent(port, b"").close()
    with sent(port, get(b"/") * 200) as connection:
        found = b""
        while found.count(b"HTTP/1.1 200 ") < 200 and (more := connection.recv(2**16)):
            found += more
    # Those that have closed are counted until the server has heard of it.
    assert found.count(b"HTTP/1.1 200 ") == 200 or found.startswith(b"HTTP/1.1 503 ")
    assert status(port) == 200


def test_uploads_that_never_end_hold_no_memory_and_nobody_up(port, monkeypatch):
    monkeypatch.setattr(web, "MOST_BYTES", 2**20)
    monkeypatch.setattr(web, "RECEIVING", 1.0)
    monkeypatch.setattr(web, "ASKING", 0.5)
    waiting = [upload(port, b"Content-Length: 999999999999999999\r\n", b"abc") for _ in range(3)]
    endless = upload(port, b"Transfer-Encoding: chunked\r\n")
    until = time.monotonic() + 10
    with pytest.raises(OSError):  # it is closed from there
        while time.monotonic() < until:
            endless.sendall(b"10000\r\n" + bytes(2**16) + b"\r\n")
    assert status(port) == 200
    for connection in waiting:
        assert answered(connection)[0] == 408


def test_a_form_of_many_parts_is_a_file_like_any_other(port):
    parts = b"".join(b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n" for _ in range(10_000))
    head = b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\n" % len(parts)
    with upload(port, head, parts) as connection:
        assert answered(connection) == (200, f'{{"bytes":{len(parts)}}}')


def test_of_what_a_connection_sends_little_is_taken_at_once(port, monkeypatch):
    """An upload in pieces of one byte, 40,000 in what asyncio reads at once, kept others waiting
    for 6 s and Ctrl-C for 12."""
    taken = []
    original = web.Connection.data_received

    def data_received(self, data):
        taken.append(len(data))
        original(self, data)

    monkeypatch.setattr(web.Connection, "data_received", data_received)
    with upload(port, b"Content-Length: 4000000\r\n", bytes(4_000_000)) as connection:
        assert answered(connection) == (200, '{"bytes":4000000}')
    assert sum(taken) > 4_000_000 and max(taken) <= 2**14


SERVING = """
from types import SimpleNamespace
from fgvc_jax.commands import server
from fgvc_jax.utils import signals
from fgvc_jax.utils.errors import Interrupted

signals.interrupt()
listening = server.listen("127.0.0.1", 0)
print(server.url(listening), flush=True)
try:
    server.serve(server.application("", SimpleNamespace(answer=len)), listening)
except Interrupted as stop:
    print(f"{stop.signal_number}: {stop}")
"""


def test_ctrl_c_ends_it_during_an_upload():
    """Of a length that is said, of small pieces, and one of which nobody reads the answer."""
    command = [sys.executable, "-c", SERVING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        port = int(process.stdout.readline().rpartition(":")[2])
        connections = [upload(port, b"Content-Length: 9\r\n", b"abc")]
        connections += [upload(port, b"Transfer-Encoding: chunked\r\n", b"1\r\na\r\n" * 30_000)]
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        try:
            told, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert told == "2: nothing that was uploaded is kept\n" and process.returncode == 0
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("host", ["::1", "localhost"])
def test_an_address_of_version_six_is_taken_and_named(host):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is none here")
    with web.listen(host, 0) as listening:
        assert web.is_loopback(listening)
        assert re.fullmatch(r"http://(\[::1\]|127\.0\.0\.1):\d+", web.url(listening))
