"""The exceptions that are meant for the user's eyes."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path


class UserError(Exception):
    """A mistake of the user, or of what they gave us, in one line: the thing and the way out.

    The commands print it as `error: ...` on stderr and exit with code 2, without a traceback.
    """


class ArgumentError(ValueError):
    """A value that a function does not take: its text has the arguments in backquotes, as `crop`.

    Whoever knows the flags that they came from makes the user's line of it, see `options.flagged`.
    It is a class of its own so that no other ValueError is taken for the user's mistake.
    """


class InUse(UserError):
    """Somebody else works on it: nothing is wrong, it is not free yet."""


class Interrupted(BaseException):
    """A signal stopped the run; what was finished is kept.

    Like KeyboardInterrupt it is no Exception: nothing that handles errors may take it for one.
    """

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal_number = signal_number


@contextlib.contextmanager
def one_line_errors(path: Path) -> Iterator[None]:
    """Turn what the system says of a folder that cannot be written into one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise UserError(
            f"{str(path)!r} cannot be written ({reason(error)}): name another place"
        ) from error


def reason(error: Exception) -> str:
    """What the system says of an error."""
    return getattr(error, "strerror", None) or str(error)


def first_line(error: Exception) -> str:
    """Of what an error says, cut to what a message can hold; of one that says nothing its kind."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
