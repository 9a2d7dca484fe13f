"""One run at a time in a folder: the system's lock, or a lease where there is none."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fgvc_jax.errors import InUse, UserError, told

LEASE_SECONDS = 60.0  # without being renewed, until a lease is over
RENEW_SECONDS = 10.0
_NO_FLOCK = errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP


@dataclass(frozen=True)
class Holder:
    """Who holds a lock."""

    host: str
    process: int
    since: str
    renewed: float = 0.0

    @classmethod
    def me(cls) -> "Holder":
        return cls(socket.gethostname(), os.getpid(), time.strftime("%Y-%m-%d %H:%M:%S"))

    @classmethod
    def of(cls, text: str) -> "Holder | None":
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Be the only one who trains in `folder` while the block runs.

    The system releases the lock when its holder dies, however it dies. Where the file system knows
    no such lock there is a lease instead, which its holder renews and checks before each write.

    Raises:
        InUse: naming the host, the process and since when somebody else holds it.
    """
    path = folder / "lock"
    with told(path):
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    with file:
        try:
            _flock(file, fcntl.LOCK_EX)
        except BlockingIOError:
            raise _in_use(folder, path) from None
        except OSError as error:
            if error.errno not in _NO_FLOCK:
                raise
            with _Lease(folder, path):
                yield
            return
        file.truncate(0)
        file.write(json.dumps(vars(Holder.me())))
        file.flush()
        yield
        file.truncate(0)


@contextlib.contextmanager
def turn(folder: Path) -> Iterator[None]:
    """As `lock`, for something short: waits until it is free."""
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(lock(folder))
                break
            except InUse:
                time.sleep(0.1)
        yield


def held(folder: Path) -> bool:
    """Whether somebody, this process included, has the lock of a folder now."""
    try:
        with (folder / "lock").open(encoding="utf-8") as file:
            _flock(file, fcntl.LOCK_SH)
    except BlockingIOError:
        return True
    except (FileNotFoundError, PermissionError):
        return False
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
        return _Lease(folder, folder / "lock").runs()
    return False


def _flock(file: IO[str], kind: int) -> None:
    """Take the system's lock; a second time where somebody may just have looked, see `held`.

    Raises:
        BlockingIOError: when another has it.
    """
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(0.1)
        fcntl.flock(file, kind | fcntl.LOCK_NB)


def _in_use(folder: Path, path: Path) -> InUse:
    try:
        holder = Holder.of(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError):  # a lease that was just given back
        holder = None
    who = "another process"
    if holder:
        who = f"process {holder.process} on {holder.host} since {holder.since}"
    return InUse(
        f"workdir {str(folder)!r} is in use by {who}: wait until it ends, or name another --workdir"
    )


_leases: list["_Lease"] = []


def check_lease(path: Path) -> None:
    """Before each write: the lease of the workdir that `path` is in must still be ours."""
    for lease in _leases:
        if path.is_relative_to(lease.folder):
            lease.check()


class _Lease:
    """A lock by agreement: a file that names its holder and is renewed while the holder lives."""

    def __init__(self, folder: Path, path: Path):
        self.folder = folder
        self._path = path.with_name("lease")
        self._me = vars(Holder.me())
        self._over = threading.Event()
        self._renewer = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> "_Lease":
        if self.runs():
            raise _in_use(self.folder, self._path)
        self._write()
        self._renewer.start()
        _leases.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _leases.remove(self)
        self._over.set()
        self._renewer.join()
        if self._mine():
            self._path.unlink(missing_ok=True)

    def runs(self) -> bool:
        """Whether anybody's lease is not over."""
        holder = self._holder()
        return holder is not None and time.time() - holder.renewed < LEASE_SECONDS

    def check(self) -> None:
        """Raise a UserError when the lease ran out and somebody else took it."""
        if not self._mine():
            raise UserError(
                f"workdir {str(self.folder)!r} was taken over by another process while this one "
                "was held up: nothing more is written; the same command continues when it has ended"
            )

    def _renew(self) -> None:
        while not self._over.wait(RENEW_SECONDS):
            if not self._mine():
                return
            self._write()

    def _holder(self) -> Holder | None:
        try:
            return Holder.of(self._path.read_text(encoding="utf-8"))
        except OSError:
            return None

    def _mine(self) -> bool:
        holder = self._holder()
        return holder is not None and vars(holder) | {"renewed": 0} == self._me | {"renewed": 0}

    def _write(self) -> None:
        partial = self._path.with_name(f"lease.partial-{os.getpid()}")
        partial.write_text(json.dumps(self._me | {"renewed": time.time()}), encoding="utf-8")
        partial.replace(self._path)
