"""One run at a time in a folder: the system's lock, or a lease where there is none."""

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from fgvc_jax.utils import paths
from fgvc_jax.utils.errors import InUse, UserError, one_line_errors
from fgvc_jax.workdir import mirror
from fgvc_jax.workdir.bucket import Changed

LEASE_SECONDS = 60.0  # without being renewed, until a lease is over
RENEW_SECONDS = 10.0
_NO_FLOCK = errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """Who holds a lock."""

    host: str
    process: int
    since: str
    renewed: float = 0.0
    number: int = 0  # of the lease, one more than that of the one before

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
    if there := mirror.of(folder):
        with _Lease(folder, there.cell(folder / "lease"), waits=True):
            there.clear()
            yield
        return
    path = folder / "lock"
    with one_line_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        file = paths.in_place(path, "a+")
    with file:
        try:
            _flock(file, fcntl.LOCK_EX)
        except BlockingIOError:
            raise _in_use(folder, _File(path).read()[0]) from None
        except OSError as error:
            if error.errno not in _NO_FLOCK:
                raise
            with _Lease(folder, _File(folder / "lease")):
                yield
            return
        file.truncate(0)
        file.write(json.dumps(vars(Holder.me())))
        file.flush()
        yield
        file.truncate(0)


@contextlib.contextmanager
def short_lock(folder: Path) -> Iterator[None]:
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
    if there := mirror.of(folder):
        return _Lease(folder, there.cell(folder / "lease")).runs()
    try:
        with paths.readable(folder / "lock").open(encoding="utf-8") as file:
            _flock(file, fcntl.LOCK_SH)
    except BlockingIOError:
        return True
    except (FileNotFoundError, PermissionError):
        return False
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
        return _Lease(folder, _File(folder / "lease")).runs()
    return False


@contextlib.contextmanager
def being_made(path: Path) -> Iterator[None]:
    """Say of a file that somebody is at it, as long as this process lives: see `abandoned`."""
    with path.open("r+b") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            _flock(file, fcntl.LOCK_EX)
        yield


def abandoned(path: Path) -> bool:
    """Whether a file is what a killed process had begun: for a minute nobody has been at it."""
    try:
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return time.time() - os.fstat(file.fileno()).st_mtime > 60
    except OSError:
        return False


@contextlib.contextmanager
def adding(path: Path) -> Iterator[IO[bytes]]:
    """A file to add to, opened as soon as nobody else adds to it or replaces it."""
    while True:
        with paths.in_place(path, "a+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
            except OSError as error:
                if error.errno not in _NO_FLOCK:
                    raise
            there = False
            with contextlib.suppress(FileNotFoundError):
                there = os.path.samestat(os.fstat(file.fileno()), path.stat())
            if there:
                yield file
                return


def add(path: Path, line: bytes) -> None:
    """Add a line, with its end, to a file that other processes add to, after them and whole: where
    it does not fit on the disk the file is what it was."""
    with adding(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        rest = memoryview(line if file.read(1) in (b"", b"\n") else b"\n" + line)
        try:
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(size)
            raise


def _flock(file: IO, kind: int) -> None:
    """Take the system's lock; a second time where somebody may just have looked, see `held`.

    Raises:
        BlockingIOError: when another has it.
    """
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(0.1)
        fcntl.flock(file, kind | fcntl.LOCK_NB)


def _in_use(folder: Path, text: str) -> InUse:
    holder = Holder.of(text)  # None where a lease was just given back
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


def number(folder: Path) -> int:
    """Of the lease that this process has of a folder, greater than those of all before; 0 without
    a lease."""
    return max((lease.number for lease in _leases if lease.folder == folder), default=0)


class _Place(Protocol):
    """Where a lease is written."""

    def read(self) -> tuple[str, int]:
        """(text, its generation); empty where there is none."""
        ...

    def write(self, text: str, generation: int) -> None:
        """Replace the text that was read; Changed where it is another now."""
        ...


class _File:
    """A place that knows no generations, so that of two who write at a time the last one wins."""

    def __init__(self, path: Path):
        self._path = path

    def read(self) -> tuple[str, int]:
        try:
            return paths.readable(self._path).read_text(encoding="utf-8"), 0
        except (OSError, UnicodeDecodeError):
            return "", 0

    def write(self, text: str, generation: int) -> None:
        if not text:
            self._path.unlink(missing_ok=True)
            return
        partial = self._path.with_name(f"{self._path.name}.partial-{os.getpid()}")
        with paths.in_place(partial, "w") as file:
            file.write(text)
        partial.replace(self._path)


class _Lease:
    """A lock by agreement: a text that names its holder and is renewed while the holder lives.

    Args:
        folder: that is leased.
        place: of the text.
        waits: until a lease that was left by a killed holder is over; that of a living one is
            renewed meanwhile, and refuses.
    """

    def __init__(self, folder: Path, place: _Place, *, waits: bool = False):
        self.folder = folder
        self.number = 0
        self._place = place
        self._waits = waits
        self._me = vars(Holder.me())
        self._over = threading.Event()
        self._renewer = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> "_Lease":
        first = text = self._place.read()[0]
        told, since = False, time.monotonic()
        # One that was written by a clock that is ahead of ours is over when nobody renewed it.
        while _runs(text) and time.monotonic() - since < LEASE_SECONDS:
            if not self._waits or text != first:
                raise _in_use(self.folder, text)
            if not told:
                log.info("%s was left in use: waiting until that is over", self.folder)
            told = True
            time.sleep(1)
            text = self._place.read()[0]
        text, generation = self._place.read()
        self.number = self._me["number"] = _number(text) + 1
        try:
            self._write(generation)
        except Changed:
            raise _in_use(self.folder, self._place.read()[0]) from None
        self._renewer.start()
        _leases.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _leases.remove(self)
        self._over.set()
        self._renewer.join()
        with contextlib.suppress(Changed, UserError):  # then it runs out
            text, generation = self._place.read()
            if self._is_mine(text):
                kept = json.dumps({"number": self.number}) if self._waits else ""
                self._place.write(kept, generation)

    def runs(self) -> bool:
        """Whether anybody's lease is not over."""
        return _runs(self._place.read()[0])

    def check(self) -> None:
        """Raise a UserError when the lease ran out and somebody else took it."""
        if not self._is_mine(self._place.read()[0]):
            raise UserError(
                f"workdir {str(self.folder)!r} was taken over by another process while this one "
                "was held up: nothing more is written; the same command continues when it has ended"
            )

    def _renew(self) -> None:
        while not self._over.wait(RENEW_SECONDS):
            try:
                text, generation = self._place.read()
                if not self._is_mine(text):
                    return
                self._write(generation)
            except Changed:
                return
            except UserError:  # a bucket that is not reached now
                continue

    def _is_mine(self, text: str) -> bool:
        holder = Holder.of(text)
        return holder is not None and vars(holder) | {"renewed": 0} == self._me | {"renewed": 0}

    def _write(self, generation: int) -> None:
        self._place.write(json.dumps(self._me | {"renewed": time.time()}), generation)


def _runs(text: str) -> bool:
    holder = Holder.of(text)
    return holder is not None and time.time() - holder.renewed < LEASE_SECONDS


def _number(text: str) -> int:
    try:
        return int(json.loads(text)["number"])
    except (ValueError, TypeError, KeyError):
        return 0
