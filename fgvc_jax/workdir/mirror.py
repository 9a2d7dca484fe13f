"""A workdir in a bucket, gs://BUCKET/RUN: a local folder is worked on, its mirror; `storage` keeps
the two alike.

What is read is fetched unless the mirror has it: a file is an object's whose modification time, in
microseconds, is the object's generation. What is written is in the mirror once it is an object. A
folder that appears whole is one object, NAME.tar. Checkpoints are written by Orbax itself.

A mirror belongs to one process at a time; of several on one host each has its own.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tarfile
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from fgvc_jax.utils import paths
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir.bucket import Changed, SharedText
from fgvc_jax.workdir.objects import PARTIAL, SCHEME, TRIES, Objects

PLACE = "FGVC_JAX_MIRRORS"  # names the folder of all mirrors; default: ~/.cache/fgvc_jax/mirrors
_URL = re.compile(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(.*))?", re.DOTALL)
_STRANGE = re.compile(r"[\x00-\x1f\x7f#*?\[\]\ud800-\udfff]")


class Mirror:
    """A local folder and the objects of a bucket that it is to be like; for one process.

    Args:
        url: gs://BUCKET/RUN, without a slash at the end.
        name, prefix: of the bucket, and of the objects in it: empty, or with a slash at the end.
        folder: of the mirror.
    """

    def __init__(self, url: str, name: str, prefix: str, folder: Path):
        self.url = url
        self.folder = folder
        self._prefix = prefix
        self._objects = Objects(name, url)
        self._ahead: set[Path] = set()  # what is written here as one goes, and copied at times

    def name(self, path: Path) -> str:
        """Of the object of a path of the mirror."""
        return self._prefix + path.relative_to(self.folder).as_posix()

    def address(self, path: Path) -> str:
        """The URL of a path of the mirror."""
        return self._objects.address(self.name(path))

    def exists(self, path: Path) -> bool:
        """Whether there is such a file, or such a folder that appeared whole."""
        name = self.name(path)
        return bool(self._objects.generation(name) or self._objects.generation(f"{name}.tar"))

    def children(self, folder: Path) -> list[str]:
        """Names of files and folders that are directly in a folder."""
        return sorted({name.split("/")[0] for name in self.below(folder)})

    def below(self, folder: Path) -> list[str]:
        """Names, from a folder on, of all objects in it and in its folders."""
        prefix = self._prefix if folder == self.folder else f"{self.name(folder)}/"
        return [name.removeprefix(prefix) for name in self._objects.below(prefix)]

    def fetch(self, path: Path) -> None:
        """Make a file of the mirror what it is in the bucket, or absent where it is there."""
        if path not in self._ahead and not self._fetch(self.name(path), path, os.replace):
            path.unlink(missing_ok=True)

    def fetch_folder(self, path: Path) -> None:
        """As `fetch`, for a folder that appeared whole."""
        if not self._fetch(f"{self.name(path)}.tar", path, _unpack):
            shutil.rmtree(path, ignore_errors=True)

    def _fetch(self, name: str, path: Path, place: Callable[[Path, Path], None]) -> bool:
        """Make a path what an object is, which `place` makes of a file; whether there is one."""
        for _ in range(TRIES):
            found = self._objects.found(name)
            if found is None or _generation_of(path) == found.generation:
                return found is not None
            beside = path.with_name(f"{path.name}{PARTIAL}{uuid.uuid4().hex[:8]}")
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with beside.open("wb") as file:
                    self._objects.load(name, file, found.generation)
                place(beside, path)
            except Changed:
                continue
            finally:
                beside.unlink(missing_ok=True)
            _stamp(path, found.generation)
            return True
        raise UserError(f"{self._objects.address(name)} is written all the time: try again")

    def put(self, path: Path, made: Path, check: Callable[[], None]) -> None:
        """Upload a file or folder that is to have the name `path`; it appears whole.

        Args:
            path: of the mirror, which the caller renames it to.
            made: where it is now; it is given the time that tells its generation.
            check: raises if this process may not write any more. It is called when all is uploaded
                but the name: see `clear`.
        """
        name = self.name(path)
        with contextlib.ExitStack() as stack:
            source = made
            if made.is_dir():
                name, source = f"{name}.tar", stack.enter_context(_packed(made))
            generation = self._objects.store(name, source, check)
        _stamp(made, generation)

    def rename(self, path: Path, to: Path, check: Callable[[], None]) -> None:
        """Give a file another name; the caller does the same in the mirror."""
        _stamp(path, self._objects.rename(self.name(path), self.name(to), check))

    def remove(self, path: Path, check: Callable[[], None]) -> None:
        """Remove a file, a folder that appeared whole, or all that is below a name."""
        name = self.name(path)
        below = self._objects.below(f"{name}/")
        check()
        for each in (name, f"{name}.tar", *below):
            self._objects.remove(each)

    def clear(self) -> None:
        """Remove what is uploaded and has no name yet.

        Whoever takes the lease calls it first. A run that lost the lease cannot write after that:
        if it had looked at the lease before, what it was about to name is gone; if it looks
        afterwards, it sees that the lease is another's.
        """
        self._objects.clear(self._prefix)

    def append(self, path: Path) -> None:
        """From here on a file of the mirror is written as one goes; `publish` copies it."""
        self._ahead.add(path)

    def publish(self, path: Path, check: Callable[[], None]) -> None:
        """Copy a file of the mirror as it is now, unless it is the object's already."""
        generation = _generation_of(path)
        if generation is None or generation != self._objects.seen(self.name(path)):
            self.put(path, path, check)

    def check_writable(self) -> None:
        """Raise a UserError when nothing can be written to the bucket."""
        self._objects.check_writable(self._prefix)

    def is_writable(self) -> bool:
        """Whether something can be written to the bucket."""
        try:
            self.check_writable()
        except UserError:
            return False
        return True

    def cell(self, path: Path) -> SharedText:
        """The small text of a path, to compare and swap, over a connection of its own."""
        return self._objects.cell(self.name(path))


# -- which folders are mirrors ---------------------------------------------------------------------

_mirrors: dict[str, Mirror] = {}
_held: list[IO[bytes]] = []  # locks of the mirrors' folders, until the process ends
_temporary: list[tempfile.TemporaryDirectory] = []  # where there is no home


def is_url(text: str) -> bool:
    """Whether a text that a user typed names a place in a bucket."""
    return text.startswith(SCHEME)


def folder_of(url: str, what: str) -> Path:
    """The mirror folder of a place in a bucket; nothing is fetched yet.

    Args:
        url: as typed.
        what: the option, for messages.

    Raises:
        UserError: for a URL that cannot be, or where a package or the credentials are missing.
    """
    parts = _URL.fullmatch(url.rstrip("/"))
    if parts is None:
        raise UserError(f"{what} {url!r} is no gs://BUCKET/RUN")
    name, run = parts[1], parts[2] or ""
    if _STRANGE.search(run) or (run and {"", ".", ".."} & set(run.split("/"))):
        raise UserError(
            f"{what} {url!r}: names with control characters or one of # * ? [ ], and . or .. or "
            "nothing between slashes, cannot be in a bucket: name another"
        )
    url = f"{SCHEME}{name}/{run}".rstrip("/")
    if url not in _mirrors:
        _mirrors[url] = Mirror(url, name, f"{run}/" if run else "", _own_folder(url))
    return _mirrors[url].folder


def of(path: Path) -> Mirror | None:
    """The mirror that a path is in; None for all others."""
    for each in _mirrors.values():
        if path.is_relative_to(each.folder):
            return each
    return None


def by_url(text: str) -> str:
    """A text for people, with URLs in the place of mirrors' folders."""
    for each in _mirrors.values():
        text = text.replace(str(each.folder), each.url)
    return text


def _mirrors_by_default() -> Path:
    """Below the user's caches, or for the moment, for a user without a home that can be written."""
    with contextlib.suppress(OSError):
        place = paths.cache() / "mirrors"
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(place, os.W_OK | os.X_OK):
            return place
    _temporary.append(tempfile.TemporaryDirectory(prefix="fgvc_jax-"))
    return Path(_temporary[-1].name)


def _own_folder(url: str) -> Path:
    """A mirror folder that no other living process has: the first free one."""
    place = Path(os.environ.get(PLACE) or _mirrors_by_default()).absolute()
    key = hashlib.sha256(url.encode()).hexdigest()[:16]
    label = re.sub(r"[^\w.-]", "_", url.removeprefix(SCHEME))[-60:]
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = 0
        while True:
            folder = place / f"{label}-{key}.{number}"
            lock = paths.in_place(folder.with_name(f"{folder.name}.lock"), "ab")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                number += 1
                continue
            _held.append(lock)
            folder.mkdir(exist_ok=True)
            return folder
    except OSError as error:
        raise UserError(
            f"the mirror of {url} cannot be kept in {str(place)!r} ({error.strerror}): name a "
            f"folder by the environment variable {PLACE}"
        ) from error


# -- files -----------------------------------------------------------------------------------------


def _stamp(path: Path, generation: int) -> None:
    os.utime(path, ns=(generation * 1000, generation * 1000))


def _generation_of(path: Path) -> int | None:
    try:
        nanoseconds = path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
    return None if nanoseconds % 1000 else nanoseconds // 1000


@contextlib.contextmanager
def _packed(folder: Path) -> Iterator[Path]:
    """A folder as one file."""
    packed = folder.with_name(f"{folder.name}.tar")
    try:
        with tarfile.open(packed, "w") as tar:
            tar.add(folder, arcname=".")
        yield packed
    finally:
        packed.unlink(missing_ok=True)


def _unpack(packed: Path, to: Path) -> None:
    """Make a folder what was packed."""
    beside = packed.with_name(f"{packed.name}.folder")
    try:
        with tarfile.open(packed) as tar:
            tar.extractall(beside, filter="data")
        shutil.rmtree(to, ignore_errors=True)
        beside.rename(to)
    except tarfile.TarError as error:
        raise UserError(f"{str(to)!r} is damaged ({error}): remove its .tar") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
