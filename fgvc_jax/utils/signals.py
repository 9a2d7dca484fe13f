"""Signals that ask a command to end, from its first line to its last: Ctrl-C, SIGTERM, the hangup
of a terminal, and SIGUSR1 and SIGUSR2, by which batch systems warn before they kill.

Outside of a training loop a signal raises `Interrupted` at once: every file is written whole or not
at all, so nothing is lost. In a loop it is noted, and the loop saves and stops after its step.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType

from fgvc_jax.utils.errors import Interrupted

_NAMES = "SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"
# Windows, where commands end with their first line, has not all of them.
Handler = Callable[[int, FrameType | None], object] | int | None  # as `signal` gives and takes it
HEARD = "stopping as soon as what is under way allows it"
SECONDS_OF_SILENCE = 0.4  # for a command that ends at once, which has a line of its own
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


def leave_at_once() -> None:
    """While a command is still being imported: a signal ends it in one line."""

    def end(number: int, _frame: object) -> None:
        print("interrupted before anything was begun", file=sys.stderr, flush=True)
        os._exit(128 + number)

    _handle(end)


def interrupt() -> None:
    """From now on a signal raises `Interrupted` where the command is."""

    def end(number: int, _frame: object) -> None:
        raise Interrupted(number, "what was finished is kept")

    _handle(end)


def acknowledge() -> None:
    """From now on the first signal is told on stderr, where the command has not ended by then.

    Python runs a handler once what the main thread is at is over, which for a compiler is many
    seconds; a thread of its own hears of the signal at once.
    """
    if threading.current_thread() is not threading.main_thread():  # where none are delivered
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def tell() -> None:
        while number := os.read(reading, 1):
            if number[0] in SIGNALS and number[0] != getattr(signal, "SIGHUP", 0):
                time.sleep(SECONDS_OF_SILENCE)
                below = "\n" if sys.stderr.isatty() else ""  # a bar of progress
                print(f"{below}{HEARD}", file=sys.stderr, flush=True)
                return

    threading.Thread(target=tell, daemon=True).start()


def _handle(
    handler: Callable[[int, object], None], signals: Sequence[int] = SIGNALS
) -> dict[int, Handler]:
    """Have a handler called for each of some signals; what was there before it.

    A hangup that is ignored stays so, as nohup wants it.
    """

    def handle(number: int, frame: object) -> None:
        if number == signal.SIGHUP:
            _do_without_terminal()
        handler(number, frame)

    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    caught = [number for number in signals if not (ignored and number == signal.SIGHUP)]
    return {number: signal.signal(number, handle) for number in caught}


def _do_without_terminal() -> None:
    """Send what is printed nowhere, where the terminal has gone: each write would fail."""
    for stream in 1, 2:
        try:
            os.write(stream, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)


class Deferred:
    """While entered, a signal is noted in `number` (0: none); a second SIGINT interrupts at once.

    The block must look at `number`: where it ends without having looked, by an error too,
    `Interrupted` is raised. In another thread than the main one, where Python delivers no signals,
    nothing is noted.

    Args:
        caught: these signals; none in a process that is not a command's own, where Ctrl-C raises
            KeyboardInterrupt.
    """

    number = 0

    def __init__(self, caught: Sequence[int] = SIGNALS):
        self._caught = caught

    def __enter__(self) -> "Deferred":
        self._before: dict[int, Handler] = {}
        if threading.current_thread() is threading.main_thread():
            self._before = _handle(self._note, self._caught)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.number and (kind is None or issubclass(kind, Exception)):
            raise Interrupted(self.number, "what was finished is kept")

    def _note(self, number: int, _frame: object) -> None:
        if self.number and number == signal.SIGINT:
            raise Interrupted(number, "interrupted twice; the last save is kept")
        self.number = number
