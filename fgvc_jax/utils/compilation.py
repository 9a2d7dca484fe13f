"""Compiled programs, kept between runs."""

import contextlib
import functools
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TypeVar

from fgvc_jax.utils import paths

CACHE_BYTES = 2 * 2**30  # of compiled programs; those used longest ago go first
_FOLDER = "jax_compilation_cache_dir"
_PROGRAM, _USED = "-cache", "-atime"  # JAX's files of an entry: itself, and when it was last used
_LOCK_SECONDS = 10  # as long as JAX itself waits for another process that reads or writes
MOST_SHARED = 16  # programs of a kind that a process keeps
Make = TypeVar("Make", bound=Callable)


def cheaply() -> dict[str, int] | None:
    """Compiler options of a program that runs a few times: on the CPU it is compiled in half the
    time, to the same bits where it draws random numbers; None elsewhere."""
    import jax

    return {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None


def shared(make: Make, most: int = MOST_SHARED) -> Make:
    """Decorate what makes a compiled program of its arguments, all by keyword: the same ones give
    the same program, so that runs and models of one process do not trace and compile it again.

    Arguments are the same if they are equal, or one object where they have no hash (Linen's
    modules). The `most` programs that were asked for last are kept.
    """
    kept: OrderedDict[Hashable, tuple[object, dict[str, object]]] = OrderedDict()

    @functools.wraps(make)
    def program(**arguments: object) -> object:
        key = tuple((name, _identity(value)) for name, value in sorted(arguments.items()))
        if key not in kept:
            # With the arguments, so that no later object has the `id` of one of them.
            kept[key] = make(**arguments), arguments
        kept.move_to_end(key)
        while len(kept) > most:
            kept.popitem(last=False)
        return kept[key][0]

    return program  # type: ignore[return-value]


def _identity(value: object) -> Hashable:
    try:
        hash(value)
    except TypeError:
        return "id", id(value)
    return value


def use_compilation_cache() -> None:
    """Keep compiled programs between runs, in a folder that only this user can write.

    Whoever can write there can run code, so a folder of somebody else's, or one that others may
    write, is left alone. It is a convenience: without a home, or where nothing can be written, it
    is done without. JAX_COMPILATION_CACHE_DIR, where set, decides instead; with JAX's limit of size
    (JAX_COMPILATION_CACHE_MAX_SIZE), what would spoil it is mended there as well.
    """
    import jax

    _replace_what_cannot_be_read()
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        named = folder() or ""
        limited = getattr(jax.config, "jax_compilation_cache_max_size", -1) >= 0
        if limited and os.path.isdir(named):  # not in a bucket
            with contextlib.suppress(OSError):
                _remove_halves(Path(named), others=True)
        return
    try:
        own = paths.cache() / "programs"
        own.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = own.stat()
        if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return
        _remove_halves(own)
    except OSError:
        return
    jax.config.update(_FOLDER, str(own))
    # By default JAX does not keep what compiles within a second, as most programs here do.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)


def folder() -> str | None:
    """Where JAX keeps compiled programs; None where it keeps none."""
    import jax

    return getattr(jax.config, _FOLDER)


def _remove_halves(folder: Path, *, others: bool = False) -> None:
    """Remove what a killed process, or a full disk, left of entries.

    JAX writes a program, then when it was used. Where the second file lacks or is cut short, every
    later write fails as it makes room (jax issue 39880), so that nothing is kept any more. Where
    `others` write, too, that file alone is made: without a limit of size they write none.

    Raises:
        OSError: when nothing can be written there, or others do not let go of JAX's lock.
    """
    from filelock import FileLock

    with FileLock(folder / ".lockfile").acquire(timeout=_LOCK_SECONDS):
        sizes = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
        keys = {n.removesuffix(end) for n in sizes for end in (_PROGRAM, _USED) if n.endswith(end)}
        for key in keys:
            program, whole = folder / f"{key}{_PROGRAM}", sizes.get(key + _USED) == 8
            if others and sizes.get(program.name) and not whole:
                used = program.stat().st_mtime_ns.to_bytes(8, "little")
                (folder / f"{key}{_USED}").write_bytes(used)
            elif not sizes.get(program.name) or not whole:
                _remove(folder, key)


def _remove(folder: Path, key: str) -> None:
    for end in (_PROGRAM, _USED):
        (folder / f"{key}{end}").unlink(missing_ok=True)


def _replace_what_cannot_be_read() -> None:
    """Have JAX write an entry again that it cannot read: by itself it keeps a damaged one, warns,
    and compiles at every start.

    Where a JAX reads its cache otherwise, without.
    """
    from jax._src import compilation_cache  # JAX tells of a failed read nowhere else

    read = getattr(compilation_cache, "get_executable_and_time", None)
    if read is None or hasattr(read, "heals"):
        return

    def read_or_remove(key: str, *arguments: object) -> tuple[object, int | None]:
        try:
            return read(key, *arguments)
        except OSError:  # of a disk or a lock: nothing is known of the entry
            raise
        except Exception:
            import jax

            with contextlib.suppress(OSError):
                _remove(Path(getattr(jax.config, _FOLDER)), key)
            return None, None

    read_or_remove.heals = True  # type: ignore[attr-defined]
    compilation_cache.get_executable_and_time = read_or_remove  # type: ignore[assignment]
