"""How every command starts and ends: one line for a mistake, and the exit code that says why."""

import contextlib
import ctypes
import errno
import importlib
import io
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence

import fgvc_jax
from fgvc_jax.utils import options, progress, signals, watchdog
from fgvc_jax.utils.errors import Interrupted, UserError

_FULL_CODES = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
_FULL = "no space left on device", "disk quota exceeded", "file too large"
# Of glibc's malloc.h: what `mallopt` sets.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def prepare() -> None:
    """The first line of every command, before JAX is imported: settles the devices and the malloc,
    and a signal from here on ends the command in one line."""
    if sys.platform == "win32":  # which has neither its signals nor its locks
        _leave(2, "error: this runs on Linux and macOS: on Windows start it in WSL")
    signals.leave_at_once()
    _use_two_cpu_devices()
    keep_freed_memory()


def begin(name: str, arguments: Sequence[str] | None = None) -> None:
    """Run `fgvc_jax.commands.<name>`: the whole of what `python -m fgvc_jax.<name>` does.

    Args:
        name: of the command.
        arguments: None for the process's.
    """
    prepare()
    words = [*(sys.argv[1:] if arguments is None else arguments)]

    def main(words: list[str]) -> None:
        if name != "train" and {*options.HELP} & {*words}:  # which needs nothing of the body
            asked = importlib.import_module("fgvc_jax.commands.asked")
            asked.read(asked.COMMANDS[name], name, words)
        # Imported here, which takes seconds: a signal meanwhile ends the command in one line.
        with progress.waiting("starting"):
            body = importlib.import_module(f"fgvc_jax.commands.{name}")
        body.main(words)

    run(version if words == ["--version"] else main, words)


def version(arguments: Sequence[str]) -> None:
    """What --version prints."""
    print(f"fgvc_jax {fgvc_jax.__version__}")


def run(main: Callable[[list[str]], None], arguments: Sequence[str] | None = None) -> None:
    """Run a command with arguments, of the process where none are given, and exit.

    0: done; 1: a mistake of ours, with its traceback; 2: a mistake of the user, told in one line on
    stderr; 128 and its number: a signal, as 143 for SIGTERM; 141: whoever read the output has gone.
    """
    signals.interrupt()
    signals.acknowledge()
    _silence_threads()
    if isinstance(
        sys.stdout, io.TextIOWrapper
    ):  # escapes like stderr, since file names need not be text
        sys.stdout.reconfigure(errors="backslashreplace")
    # By force: JAX, imported before, has given absl's handler to the root.
    logging.basicConfig(format="%(message)s", level=logging.WARNING, force=True)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Told("%(message)s"))
    logging.getLogger("fgvc_jax").setLevel(logging.INFO)
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax tells of every slow save
    try:
        main([*(sys.argv[1:] if arguments is None else arguments)])
        watchdog.done()
    except UserError as error:
        _leave(2, f"error: {error}")
    except Interrupted as stop:
        _leave(128 + stop.signal_number, f"interrupted: {stop}; the same command continues")
    except BrokenPipeError:
        os._exit(128 + signal.SIGPIPE)
    except Exception as error:
        watchdog.leave_if_one_is_gone()
        if _disk_is_full(error):
            _leave(
                2, "error: no space left on the disk: free some, then the same command continues"
            )
        if _memory_is_full(error):
            _leave(2, f"error: a device has no memory left: {_LESS_MEMORY}")
        if missing := _missing_devices():
            _leave(2, f"error: {missing}")
        _leave(1, traceback.format_exc())


class _Told(logging.Formatter):
    """Names places in a bucket as the user does."""

    def format(self, record: logging.LogRecord) -> str:
        return _by_url(super().format(record))


def _by_url(text: str) -> str:
    """A text with places in a bucket as the user names them; none is at hand before the room of
    files is loaded, which brings JAX with it."""
    mirror = sys.modules.get("fgvc_jax.workdir.mirror")
    return mirror.by_url(text) if mirror else text


def _use_two_cpu_devices() -> None:
    """Have JAX take the CPU for two devices, before it is imported.

    Each computes half of a batch, and where one waits (memory, operations that XLA does not divide)
    the other goes on: 0.86 to 0.90 of the time of a ResNet step on two cores. It is two on every
    machine, so that sums are taken in the same parts. JAX's own settings, where given, decide.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")


def keep_freed_memory() -> None:
    """Have glibc keep memory that is freed.

    XLA allocates the temporaries of a step anew each time on the CPU, 1.4 GB for EfficientNet-Lite0
    at 160 px. glibc maps them and returns them to the system, and getting the pages again is 5 to
    45 % of a step (scripts/BENCHMARKS.md). With one arena, which alone grows without mapping, and
    no trimming, they are there. LD_PRELOAD or GLIBC_TUNABLES, where set, decides instead.
    """
    if {"LD_PRELOAD", "GLIBC_TUNABLES"} & os.environ.keys():
        return
    with contextlib.suppress(AttributeError):  # not glibc
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1)):
            mallopt(option, value)


def _silence_threads() -> None:
    """Print no traceback but that of `run`: a save that fails in one of Orbax's threads is raised
    again where it is waited for. (tensorstore tells each of its other files that its event loop has
    gone, which Python cannot raise anywhere.)"""
    sys.excepthook = lambda kind, error, trace: None
    sys.unraisablehook = lambda failure: None
    threading.excepthook = lambda failure: None
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)


def _leave(code: int, message: str) -> None:
    """Print and end now, without waiting for threads such as a save that hangs on a full disk."""
    with contextlib.suppress(OSError):  # a terminal that has gone
        print(_by_url(message), file=sys.stderr, flush=True)
        sys.stdout.flush()
    watchdog.failed()
    os._exit(code)


_CUDA = "'fgvc_jax[cuda]' ('fgvc_jax[cuda12]' where the driver is older than 580)"


def _missing_devices() -> str:
    """What to do where JAX does not find the devices that JAX_PLATFORMS asks for, which it says by
    a traceback of its own; empty where that is not what is wrong."""
    asked = os.environ.get("JAX_PLATFORMS", "")
    if not asked or "jax" not in sys.modules:
        return ""
    import jax

    try:
        jax.devices()
        return ""
    except Exception:
        jax.config.update("jax_platforms", "")
    try:
        found = ", ".join(sorted({device.platform for device in jax.devices()}))
    except Exception:  # of what is there without being asked for
        found = "nothing"
    extras = {"cuda": _CUDA, "gpu": _CUDA, "tpu": "'fgvc_jax[tpu]'"}
    known = [extras[name] for name in asked.split(",") if name in extras]
    install = f", or pip install {known[0]}" if known else ""
    return f"JAX_PLATFORMS is {asked!r}, and JAX finds only {found} here: unset it{install}"


_LESS_MEMORY = (
    "take a smaller --batch-size, ask members one by one (--members-at-once 1, or --members 1), or "
    "let no other program use it"
)


def _memory_is_full(error: BaseException | None) -> bool:
    """Whether an error is JAX's of a device that has no memory left, or comes from one."""
    while error is not None:
        named = type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError")
        if named and "RESOURCE_EXHAUSTED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _disk_is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it comes from, is that of a full disk."""
    while error is not None:
        full = isinstance(error, OSError) and error.errno in _FULL_CODES
        if full or any(words in str(error).lower() for words in _FULL):
            return True
        error = error.__cause__ or error.__context__
    return False
