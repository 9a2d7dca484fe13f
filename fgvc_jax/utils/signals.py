"""SIGINT and SIGTERM from the first line of a command to its last.

Outside of a training loop a signal raises `Interrupted` at once: every file is written whole or not
at all, so nothing is lost. In a loop it is noted, and the loop saves and stops after its step.
"""

import os
import signal
import sys
import threading

from fgvc_jax.utils.errors import Interrupted

SIGNALS = signal.SIGINT, signal.SIGTERM


def leave_at_once() -> None:
    """While a command is still being imported: a signal ends it in one line."""

    def end(number: int, _frame: object) -> None:
        print("interrupted before anything was begun", file=sys.stderr, flush=True)
        os._exit(128 + number)

    for number in SIGNALS:
        signal.signal(number, end)


def interrupt() -> None:
    """From now on a signal raises `Interrupted` where the command is."""

    def end(number: int, _frame: object) -> None:
        raise Interrupted(number, "what was finished is kept")

    for number in SIGNALS:
        signal.signal(number, end)


class Deferred:
    """While entered, a signal is noted in `number` (0: none); a second SIGINT interrupts at once.

    Whoever enters must look at `number`: where the block ends without that, also by an error, it
    raises `Interrupted`. In another thread than the main one, where Python delivers no signals,
    nothing is noted.
    """

    number = 0

    def __enter__(self) -> "Deferred":
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
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
