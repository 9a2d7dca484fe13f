"""The one door to a workdir's files, and to pages: read, write, append, list, map; `locks`
says whose it is. Where the workdir is in a bucket, `mirror` keeps the two alike.

Nothing else writes but Orbax (checkpoints) and tensorboardX (its event files). What is written
appears whole or not at all: beside, then renamed. Two processes may keep the same thing at once,
since each writes under a name of its own and the last rename wins.
"""

import contextlib
import errno
import functools
import io
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike

from fgvc_jax.utils import paths
from fgvc_jax.utils.errors import UserError, one_line_errors, reason
from fgvc_jax.utils.text import Json
from fgvc_jax.workdir import mirror
from fgvc_jax.workdir.bucket import Changed
from fgvc_jax.workdir.locks import abandoned, add, being_made, check_lease
from fgvc_jax.workdir.space import check_space, existing

_PARTIAL = ".partial-"


def location(text: str, what: str) -> Path:
    """The folder that a user named for files, of a URL (gs://BUCKET/NAME) its mirror's.

    Args:
        text: as typed.
        what: the option, for messages.

    Raises:
        UserError: for what can be neither.
    """
    return mirror.folder_of(text, what) if mirror.is_url(text) else paths.local(text, what)


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        FileNotFoundError: when there is none.
        UserError: when it cannot be read.
    """
    _fetch(path)
    try:
        return paths.readable(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{str(path)!r} cannot be read ({reason(error)})") from error


def read_bytes(path: Path) -> bytes:
    """The content of a file; FileNotFoundError when there is none."""
    _fetch(path)
    return paths.readable(path).read_bytes()


def exists(path: Path) -> bool:
    """Whether there is such a file or folder."""
    there = mirror.of(path)
    return there.exists(path) if there else path.exists()


def matching(folder: Path, pattern: str) -> list[Path]:
    """What in a folder has a name like `pattern`, in order."""
    if there := mirror.of(folder):
        return [folder / name for name in there.children(folder) if fnmatchcase(name, pattern)]
    return sorted(folder.glob(pattern))


def read_json(path: Path) -> Any:
    """The value of a JSON file; FileNotFoundError, or a UserError when it is damaged."""
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise UserError(
            f"{str(path)!r} is damaged ({error}): remove it, then the command that wrote it makes "
            "it again"
        ) from error


def write_bytes(path: Path, content: bytes | bytearray) -> None:
    """Replace a file by `content`; UserError when the folder cannot be written."""
    with one_line_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _beside(path) as partial:
            check_lease(path)
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Replace a .npz file by `arrays`."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]  # none is `allow_pickle`
    write_bytes(path, content.getvalue())


def write_text(path: Path, text: str) -> None:
    """Replace a file by `text`; UserError when the folder cannot be written."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Json) -> None:
    """Replace a file by `value` as JSON."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def append(path: Path) -> IO[str]:
    """A text file to append to, made with its folder where it is missing."""
    with one_line_errors(path):
        check_lease(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if there := mirror.of(path):
            there.append(path)
        return paths.in_place(path, "a")


def add_line(path: Path, line: str) -> None:
    """Write a line, with its end, to a text that several processes add to: whole or not at all, one
    after the other. One that a kill has torn is ended before."""
    if there := mirror.of(path):
        cell = there.cell(path)
        while True:
            text, generation = cell.read()
            with contextlib.suppress(Changed):
                ended = text if text.endswith("\n") or not text else f"{text}\n"
                return cell.write(ended + line, generation)
    with one_line_errors(path):
        check_lease(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        add(path, line.encode())


def publish(path: Path) -> None:
    """Have others see what was appended to a file: in a bucket they do not before."""
    if there := mirror.of(path):
        there.publish(path, functools.partial(check_lease, path))


def fetch_folder(path: Path) -> None:
    """Have a folder that appeared whole on this machine, if there is one."""
    if there := mirror.of(path):
        there.fetch_folder(path)


def _fetch(path: Path) -> None:
    if there := mirror.of(path):
        there.fetch(path)


@contextlib.contextmanager
def new_text(path: Path) -> Iterator[IO[str]]:
    """A text file to write as one goes; it appears at the end of the block, unless that raises.

    Line ends stay as they are given, and so do bytes of file names that are not UTF-8.
    """
    with (
        _beside(path) as partial,
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        yield file


@contextlib.contextmanager
def new_bytes(path: Path) -> Iterator[IO[bytes]]:
    """A file to write and read as one goes; it appears at the end of the block, unless that
    raises."""
    with _beside(path) as partial, partial.open("w+b") as file:
        yield file


def write_array(path: Path, array: np.ndarray) -> None:
    """Keep an array as a .npy file."""
    with new_array(path, array.shape, array.dtype) as kept:
        kept[...] = array


@contextlib.contextmanager
def new_array(
    path: Path, shape: tuple[int, ...], dtype: DTypeLike, *, keep: Callable[[], bool] = lambda: True
) -> Iterator[np.ndarray]:
    """A .npy file to fill in, memory-mapped; it appears at the end of the block, unless that raises
    or `keep` then says no. What kills have left of others in the folder makes room for it.

    Raises UserError when there is no space for it, or the folder cannot be written.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    with _beside(path, keep) as partial:
        with one_line_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            for other in filter(abandoned, path.parent.glob(f"*.npy{_PARTIAL}*")):
                other.unlink(missing_ok=True)
            check_space(path.parent, size)
            if 0 in shape:  # which cannot be mapped
                array = np.empty(shape, dtype)
                with partial.open("wb") as file:
                    np.save(file, array, allow_pickle=False)
            else:
                array = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
                _allocate(partial)
        with being_made(partial):
            yield array
        with one_line_errors(path):
            if isinstance(array, np.memmap):
                array.flush()
            check_lease(path)


def _allocate(path: Path) -> None:
    """Take the space that a file says it has: one that turns out not to be there while a map is
    filled in ends the process without a word."""
    with path.open("r+b") as file, contextlib.suppress(AttributeError):
        try:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise


def map_array(path: Path) -> np.ndarray:
    """A kept array, memory-mapped and read-only.

    Raises:
        FileNotFoundError: when there is none.
        ValueError: when the file is damaged.
    """
    _fetch(path)
    if path.exists() and not path.is_file():
        raise ValueError("it is no regular file")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except EOFError as error:
        raise ValueError("it is empty") from error
    except ValueError as error:
        if "mmap" not in str(error) and "empty" not in str(error):
            raise
        return np.load(path, allow_pickle=False)


def remove(path: Path) -> None:
    """Remove a file or folder that may be gone already."""
    if there := mirror.of(path):
        there.remove(path, functools.partial(check_lease, path))
    check_lease(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def rename(path: Path, to: Path) -> None:
    """Give a file or folder another name in one step."""
    with one_line_errors(to):
        check_lease(to)
        if there := mirror.of(to):
            there.fetch(path)  # which another machine may have written
            there.rename(path, to, functools.partial(check_lease, to))
        path.rename(to)


def replace_folder(path: Path, to: Path, more: Mapping[str, str] | None = None) -> None:
    """Give a folder, with some texts `more` by their names, the name of another one of the workdir,
    which goes."""
    with one_line_errors(to):
        check_lease(to)
        for name, text in (more or {}).items():
            (path / name).write_text(text, encoding="utf-8")
        _put(to, path)
        older = to.with_name(f"{to.name}.old")  # a kill may leave it, the next call takes it away
        shutil.rmtree(older, ignore_errors=True)
        _swap(path, to, older)


def _swap(path: Path, to: Path, older: Path) -> None:
    """As `replace_folder`: at each moment `to` is the old or the new one, where the system can;
    elsewhere the old one is called `older` meanwhile."""
    if paths.exchange(path, to):
        older = path
    else:
        had = to.exists()
        if had:
            to.rename(older)
        try:
            path.rename(to)
        except BaseException:  # a network's disk that is full or gone, Ctrl-C
            if had and not to.exists():
                older.rename(to)
            raise
    shutil.rmtree(older, ignore_errors=True)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill in; at the end of the block it has the name `path`, whose folder goes,
    unless that raises."""
    with _beside(path) as partial:
        with one_line_errors(path):
            partial.mkdir(parents=True)
        yield partial


def copy_folder(path: Path, to: Path, *, last: str = "", leave_out: tuple[str, ...] = ()) -> None:
    """Copy a folder; the copy appears whole. In a bucket it does file by file, `last` in the end.

    Args:
        path: of the folder.
        to: of the copy, in a bucket where the folder is.
        last: what tells, by being there, that the copy is whole.
        leave_out: patterns of names that are not copied.
    """
    with one_line_errors(to):
        if there := mirror.of(path):
            names = there.below(path)
            left = [n for n in names if any(fnmatchcase(n.split("/")[0], p) for p in leave_out)]
            for name in sorted(set(names) - set(left), key=lambda n: (n.split(".")[0] == last, n)):
                _copy(path / name, to / name)
            return
        to.parent.mkdir(parents=True, exist_ok=True)
        with _beside(to) as partial:
            shutil.copytree(path, partial, ignore=shutil.ignore_patterns(*leave_out))
            check_lease(to)


def _copy(path: Path, to: Path) -> None:
    """Copy a file of a bucket, a packed folder as it is; no packed one stays here."""
    _fetch(path)
    to.parent.mkdir(parents=True, exist_ok=True)
    with _beside(to) as partial:
        shutil.copyfile(path, partial)
    for each in (path, to):
        if each.suffix == ".tar":
            each.unlink()


def check_writable(folder: Path) -> None:
    """Raise a UserError when nothing can be written to a folder that may not exist yet."""
    if bucket := mirror.of(folder):
        bucket.check_writable()
    there = existing(folder)
    if not there.is_dir():
        raise UserError(f"--workdir {str(folder)!r} is not a folder: name another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"workdir {str(folder)!r} cannot be written: name another --workdir")


def writable(folder: Path) -> bool:
    """Whether files can be made in a folder, or in the nearest of its parents that exists."""
    if bucket := mirror.of(folder):
        return bucket.is_writable()
    there = existing(folder)
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


@contextlib.contextmanager
def _beside(path: Path, keep: Callable[[], bool] = lambda: True) -> Iterator[Path]:
    """A name of one's own beside `path`, renamed to it at the end, or removed: after a failure, or
    when `keep` says no."""
    partial = _partial(path)
    try:
        yield partial
        if keep():
            _put(path, partial)
            if path.is_dir() and partial.is_dir():
                _swap(partial, path, _partial(path))
            else:
                partial.replace(path)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def _put(path: Path, made: Path) -> None:
    """Where `path` is in a bucket, have there what is to have that name here."""
    if there := mirror.of(path):
        there.put(path, made, functools.partial(check_lease, path))


def _partial(path: Path) -> Path:
    """A name beside `path` that nobody else has."""
    return path.with_name(f"{path.name[:100]}{_PARTIAL}{uuid.uuid4().hex[:8]}")
