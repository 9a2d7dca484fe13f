"""A real browser for tests: Chromium without a window, driven by its DevTools protocol.

Commands and events are JSON objects that end in a zero byte, on the browser's file descriptors 3
and 4 (--remote-debugging-pipe), so that neither a driver nor a port is needed.
"""

import base64
import fcntl
import functools
import http.server
import json
import os
import select
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

NAMES = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"
PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)
PATIENCE = 60.0  # seconds
REBOUND = "rebound.test"  # a name that leads to this machine

needs_browser = pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Server:
    """A plain server of a folder, without any header of its own, and what it was asked for."""

    def __init__(self, folder: Path):
        asked: list[str] = []
        self.asked = asked

        class Listed(Quiet):
            def do_GET(self) -> None:
                asked.append(self.path)
                super().do_GET()

        handler = functools.partial(Listed, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Browser:
    """A started browser; as a context manager it ends with the block.

    Args:
        folder: for its profile.
    """

    def __init__(self, folder: Path):
        read, self._write = os.pipe()
        self._read, write = os.pipe()
        # First above 9: either of the two could be where the other has to be.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (read, write)]
        actions = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
        actions += [(os.POSIX_SPAWN_DUP2, fd, place) for place, fd in enumerate(high, start=3)]
        words = [
            PROGRAM, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={folder}",
            "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--hide-scrollbars",
            f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1", "about:blank",
        ]  # fmt: skip
        self._process = os.posix_spawn(
            PROGRAM, words, os.environ, file_actions=actions, setpgroup=0
        )
        for fd in (read, write, *high):
            os.close(fd)
        self._count, self._received = 0, b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._read)
        os.close(self._write)

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """The result of a command; events that come meanwhile are kept in `events`."""
        self._count += 1
        command = {"id": self._count, "method": method, "params": parameters}
        command |= {"sessionId": session} if session else {}
        os.write(self._write, json.dumps(command).encode() + b"\0")
        end = time.monotonic() + PATIENCE
        while True:
            message = self._message(end - time.monotonic())
            if message.get("id") == self._count:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self.events.append(message)

    def _message(self, seconds: float) -> dict[str, Any]:
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._read], [], [], max(seconds, 0))
            assert ready, "the browser does not answer"
            piece = os.read(self._read, 2**16)
            assert piece, "the browser has ended"
            self._received += piece
        first, _, self._received = self._received.partition(b"\0")
        return json.loads(first)


class Page:
    """A tab of a browser.

    Args:
        browser: where it opens.
        url: that it shows.
        width: pixels of its window.
        dark: whether the reader prefers dark pages.
    """

    def __init__(self, browser: Browser, url: str, *, width: int = 1280, dark: bool = False):
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
            mobile=width < 600,
        )  # fmt: skip
        self.prefers(dark=dark)
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def prefers(self, *, dark: bool) -> None:
        """What the reader's system says from now on."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until a JavaScript expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.run(condition):
            assert time.monotonic() < end, f"never: {condition}"
            time.sleep(0.05)

    def type(self, text: str) -> None:
        """Into the element that has the focus."""
        self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """One key, by its name, such as Tab."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "Space": 32}
        typed = {"text": "\r"} if key == "Enter" else {}  # without it nothing is pressed
        for kind in ("keyDown" if typed else "rawKeyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key,
                windowsVirtualKeyCode=codes[key], **typed,
            )  # fmt: skip

    def choose(self, selector: str, file: Path) -> None:
        """A file in an <input type="file">."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def complaints(self) -> list[str]:
        """What stands in the console: errors, warnings, and exceptions that nobody caught."""

        def told(method: str, tell: Callable[[dict], str]) -> list[str]:
            return [tell(event["params"]) for event in self._events(method)]

        return [
            *told("Log.entryAdded", lambda found: found["entry"]["text"]),
            *told("Runtime.consoleAPICalled", lambda found: str(found["args"])),
            *told("Runtime.exceptionThrown", lambda found: str(found["exceptionDetails"])),
        ]

    def requests(self) -> set[str]:
        """Every address that was asked for, but for data: addresses."""
        asked = {e["params"]["request"]["url"] for e in self._events("Network.requestWillBeSent")}
        return {url for url in asked if not url.startswith("data:")}

    def _events(self, method: str) -> list[dict[str, Any]]:
        self.run("0")  # so that earlier events have come
        return [
            event
            for event in self._browser.events
            if event.get("method") == method and event.get("sessionId") == self._session
        ]

    def overflows(self) -> bool:
        """Whether the page is wider than its window."""
        return self.run("document.documentElement.scrollWidth > window.innerWidth")

    def picture(self, path: Path) -> None:
        """A PNG of the whole page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))
