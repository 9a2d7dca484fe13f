"""Processes of one run end together: nobody waits in a collective for one that is gone.

Every process keeps a connection to the first one. The system closes it when a process ends, however
it ends; the first then tells the others, and each says one line and leaves. JAX's own service
notices a dead process too, but after minutes; and its client, that the service is gone, at once,
and then ends its process with a screenful of its own. Hence the relay between the two.
"""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable

GRACE = 3.0  # seconds for a process to fail by itself, before another's failure ends it
_DONE = -1  # instead of the number of a process that failed
_SIZE = 4  # bytes of a message: a number


class Peers:
    """The connections of one process; `None` where there is only one.

    Args:
        index: of this process.
    """

    def __init__(self, index: int):
        self._index = index
        self._connections: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self._over = False
        self._gone = threading.Event()

    def listen(self, count: int) -> int:
        """In the first process: wait for the `count` others in the background; the port."""
        self._listener = socket.create_server(("", 0), backlog=count)

        def accept() -> None:
            for _ in range(count):
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                self._watch(connection)

        threading.Thread(target=accept, daemon=True).start()
        return self._listener.getsockname()[1]

    def connect(self, host: str, port: int) -> None:
        """In every other process: connect to the first one."""
        connection = socket.create_connection((host, port), timeout=60)
        connection.settimeout(None)
        self._connections.append(connection)
        _send(connection, self._index)
        self._watch(connection)

    def done(self) -> None:
        """This process has reached the end, as all have: from here on nobody is missed."""
        self._over = True
        for connection in list(self._connections):
            _send(connection, _DONE)

    def failed(self) -> None:
        """This process is about to leave before the end: tell the others."""
        if self._over:
            return
        self._over = True
        self._tell(self._index)
        self._let_the_others_go_first()

    def _let_the_others_go_first(self) -> None:
        """JAX's service lives in the first process: what they still ask of it would hang."""
        deadline = time.monotonic() + 2 * GRACE
        while self._index == 0 and self._connections and time.monotonic() < deadline:
            time.sleep(0.05)

    def _watch(self, connection: socket.socket) -> None:
        threading.Thread(target=self._listen_to, args=(connection,), daemon=True).start()

    def _listen_to(self, connection: socket.socket) -> None:
        other = 0 if self._index else _receive(connection)
        said = _receive(connection)
        if connection in self._connections:
            self._connections.remove(connection)
        if self._over or said == _DONE or self._gone.is_set():
            return  # of several that are gone, the others followed the first
        gone = other if said is None else said
        self._gone.set()
        self._tell(gone)
        if said is not None:
            time.sleep(GRACE)  # where the same mistake is everybody's, each tells it
        self._let_the_others_go_first()
        print(f"process {gone} ended; the same command continues", file=sys.stderr, flush=True)
        os._exit(1)

    def leave_if_one_is_gone(self) -> None:
        """Called after an error: where it is only that another process is gone, its line is said
        and this process ends."""
        if self._gone.wait(GRACE):
            time.sleep(3 * GRACE)  # the line and the end come from `_listen_to`

    def _tell(self, gone: int) -> None:
        for connection in list(self._connections):
            _send(connection, gone)


def _send(connection: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(number.to_bytes(_SIZE, "big", signed=True))


def _receive(connection: socket.socket) -> int | None:
    """The next number, None when the other end is gone."""
    try:
        data = connection.recv(_SIZE, socket.MSG_WAITALL)
    except OSError:
        return None
    return int.from_bytes(data, "big", signed=True) if len(data) == _SIZE else None


# -- JAX's connection ------------------------------------------------------------------------------


def relay(address: str) -> str:
    """An address of this process that leads to another one's, HOST:PORT: connections to it stay
    open when those behind them break."""
    listener = socket.create_server(("127.0.0.1", 0))
    host, _, port = address.rpartition(":")

    def accept() -> None:
        while True:
            near, _ = listener.accept()
            try:
                far = socket.create_connection((host.strip("[]"), int(port)), timeout=60)
            except OSError:
                near.close()  # nobody is there yet: JAX comes again
                continue
            far.settimeout(None)
            for ends in ((near, far), (far, near)):
                threading.Thread(target=_pass_on, args=ends, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return f"127.0.0.1:{listener.getsockname()[1]}"


def _pass_on(source: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(2**16):
            to.sendall(data)


# -- of this process -------------------------------------------------------------------------------

_peers: Peers | None = None
_meet: Callable[[], None] = lambda: None  # noqa: E731  returns once all processes are here


def watch(peers: Peers, meet: Callable[[], None]) -> None:
    """From now on this process and its peers end together; `meet` returns once all are there."""
    global _peers, _meet
    _peers, _meet = peers, meet


def done() -> None:
    """The command has ended well here. It ends once it has in all processes: while it waits for
    them it is told if one fails."""
    if _peers:
        _meet()
        _peers.done()


def leave_if_one_is_gone() -> None:
    """See `Peers.leave_if_one_is_gone`."""
    if _peers:
        _peers.leave_if_one_is_gone()


def failed() -> None:
    """See `Peers.failed`."""
    if _peers:
        _peers.failed()
