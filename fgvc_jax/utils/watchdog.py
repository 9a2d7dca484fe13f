"""The processes of one run end together: nobody waits in a collective for one that is gone.

JAX's service, in the first process, hears the heartbeats of all. When one falls silent, or when the
service itself is gone, JAX's client ends its process by abort(), with a screenful of C's. Here that
becomes one line and exit code 1. (Its callback for this is of no use: jaxlib 0.10.2 cannot hand an
error to Python, and ends the process all the same.)
"""

import ctypes
import os
import re
import signal
import sys
import time
from collections.abc import Callable

SILENT = 12  # seconds without a heartbeat, after which a process is taken for gone
GRACE = 3.0  # seconds that the others have to tell their own mistake, before the service goes
_FATAL = b"JAX distributed service detected fatal errors"
_NAMED = re.compile(rb"stopped sending heartbeats\):\s*(\d+)|Task (\d+) heartbeat timeout")
_BUFFERED = 0  # _IOFBF, of C

_meet: Callable[[], None] | None = None  # returns once all processes are here
_is_first = False


def watch(meet: Callable[[], None], *, is_first: bool) -> None:
    """From now on this process ends in one line when another is gone.

    Args:
        meet: returns once all processes are here.
        is_first: whether JAX's service lives in this process.
    """
    global _meet, _is_first
    _meet, _is_first = meet, is_first


def await_others() -> None:
    """From now on this process ends in one line when it does not meet the others in time, or, once
    it does `watch` them, when another is gone."""
    libc = ctypes.CDLL(None)
    stream = ctypes.c_void_p.in_dll(libc, "__stderrp" if sys.platform == "darwin" else "stderr")
    words = ctypes.create_string_buffer(2**16)

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def aborted(_number: int) -> None:
        if _FATAL in words.raw:
            _leave(words.raw)
        libc.fflush(stream)  # another's abort goes on, with its words

    # What C says waits in `words`, until they are full or all ends, so that it can be left out;
    # Python's stderr is another stream. C holds both longer than Python lives.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object((words, aborted)))
    libc.setvbuf(stream, words, _BUFFERED, len(words))
    libc.signal(signal.SIGABRT, aborted)


def _leave(words: bytes) -> None:
    if _meet is None:
        os.write(2, b"error: --distributed did not meet the other processes in time: is every one ")
        os.write(2, b"started, and does it reach the address of the first, which others may use?\n")
        os._exit(2)
    named = _NAMED.search(words)
    gone = int(named[1] or named[2]) if named else 0
    if _is_first:
        time.sleep(1)  # or the others would take it for the one that was gone
    os.write(2, f"process {gone} ended; the same command continues\n".encode())
    os._exit(1)


def done() -> None:
    """The command has ended well here. It ends once it has in all processes: while it waits for
    them it is told if one fails."""
    if _meet:
        _meet()


def leave_if_one_is_gone() -> None:
    """Called after an error: where it is only that another process is gone, this one ends here as
    soon as JAX knows, with the line that says so."""
    if _meet:
        time.sleep(SILENT + GRACE)


def failed() -> None:
    """This process is about to leave before the end. The others hear no more heartbeats; they would
    at once of the service's, and not tell a mistake that is everybody's."""
    if _meet and _is_first:
        time.sleep(GRACE)
