import errno
import os
import subprocess
import sys

import pytest

from fgvc_jax.commands import start

PROGRAM = """
import os
from fgvc_jax.commands.start import prepare, run
print("started", flush=True)
prepare()
shown = "JAX_NUM_CPU_DEVICES", "LD_PRELOAD", "GLIBC_TUNABLES"
run(lambda words: print(*words, *(os.environ.get(name) for name in shown)))
"""


def printed(program=PROGRAM, **given):
    """Lines that a program prints with so much of the environment given."""
    ours = {"JAX_NUM_CPU_DEVICES", "LD_PRELOAD", "GLIBC_TUNABLES", "XLA_FLAGS"}
    inherited = {k: v for k, v in os.environ.items() if k not in ours}
    done = subprocess.run(
        [sys.executable, "-c", program, "a b", "--c"],
        env=inherited | given, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


ALLOCATE = """
import ctypes, resource, threading
from fgvc_jax.commands.start import prepare

prepare()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def allocate():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    array = libc.malloc(1 << 28)
    ctypes.memset(array, 1, 1 << 28)
    libc.free(array)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

for _ in range(2):
    thread = threading.Thread(target=allocate)  # XLA allocates in threads of its own
    thread.start()
    thread.join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
@pytest.mark.parametrize("given, kept", [({}, True), ({"LD_PRELOAD": ""}, False)])
def test_memory_that_is_freed_need_not_be_asked_of_the_system_again(given, kept):
    first, again = map(int, printed(ALLOCATE, **given))
    assert (again < first / 100) == kept


@pytest.mark.slow
@pytest.mark.parametrize(
    "given, used",
    [
        ({"GLIBC_TUNABLES": "glibc.malloc.check=0"}, "2 None glibc.malloc.check=0"),
        ({"LD_PRELOAD": ""}, "2  None"),
        ({"LD_PRELOAD": "", "JAX_NUM_CPU_DEVICES": "3"}, "3  None"),
        (
            {"LD_PRELOAD": "", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
            "None  None",
        ),
    ],
)
def test_what_the_environment_sets_is_left_alone(given, used):
    assert printed(**given) == ["started", f"a b --c {used}"]


@pytest.mark.parametrize(
    "encoding, shown",
    [("utf-8:strict", "caf\u00e9 \\udcff"), ("ascii:strict", "caf\\xe9 \\udcff")],
)
def test_names_that_the_terminal_cannot_show_are_escaped(encoding, shown):
    """A file name need not be text, and a strict stdout died of printing one."""
    program = "from fgvc_jax.commands.start import run; run(lambda words: print(*words))"
    done = subprocess.run(
        [sys.executable, "-c", program, "caf\u00e9", b"\xff"],
        env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == f"{shown}\n".encode()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_recognised(code):
    assert start._disk_is_full(OSError(code, os.strerror(code)))


def test_a_full_disk_is_recognised_behind_other_errors():
    """Orbax and tensorstore wrap the system's error in their own, as text."""
    try:
        try:
            raise ValueError("RESOURCE_EXHAUSTED: Error writing: No space left on device")
        except ValueError as error:
            raise RuntimeError("save failed") from error
    except RuntimeError as error:
        assert start._disk_is_full(error)


def test_on_windows_the_first_line_says_where_it_runs():
    """It was `No module named fcntl`, even for --help."""
    program = (
        "import signal, sys; del signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2",
        "sys.modules['fcntl'] = None",
        "from fgvc_jax.commands import start; sys.platform = 'win32'; start.begin('train')",
    )
    done = subprocess.run(
        [sys.executable, "-c", "; ".join(program)], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "this runs on Linux and macOS: on Windows start it in WSL" in done.stderr


def test_where_malloc_is_not_glibcs_it_is_left_alone(monkeypatch):
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(start.ctypes, "CDLL", lambda _: object())
    start.keep_freed_memory()


SAVES = """
import resource, sys
from pathlib import Path
from fgvc_jax.commands import start

def save(words):
    import jax, numpy as np
    from fgvc_jax.utils import devices
    from fgvc_jax.workdir.checkpoint import Checkpoints
    arrays = np.random.default_rng(0).normal(size=(40, 20_000)).astype(np.float32)
    checkpoints = Checkpoints(Path(words[0]), devices.create_mesh())
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    checkpoints.save(1, {f"w{i}": jax.numpy.asarray(array) for i, array in enumerate(arrays)})
    checkpoints.close()

start.run(save)
"""


def test_a_disk_that_fills_up_while_saving_is_one_line(tmp_path):
    """It was preceded by a traceback of an event loop for each array."""
    done = subprocess.run(
        [sys.executable, "-c", SAVES, str(tmp_path / "checkpoints")], capture_output=True, text=True
    )
    words = "error: no space left on the disk: free some, then the same command continues\n"
    assert (done.returncode, done.stderr) == (2, words)


def test_other_errors_are_not_a_full_disk():
    assert not start._disk_is_full(OSError(errno.ENOENT, "no such file"))
    assert not start._disk_is_full(ValueError("shapes differ"))


def test_a_device_without_memory_is_one_line():
    """Of any command; training says more, see tests/training/test_accumulation.py."""
    program = """
import jax
from fgvc_jax.commands import start

def ask(_):
    try:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")
    except jax.errors.JaxRuntimeError as error:
        raise ValueError("a batch") from error

start.run(ask)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: a device has no memory left: take a smaller --batch-size")
    other = RuntimeError("RESOURCE_EXHAUSTED: too many requests")  # of a bucket
    assert not start._memory_is_full(other)


@pytest.mark.parametrize(
    "asked, extra",
    [("cuda", "'fgvc_jax[cuda]' ('fgvc_jax[cuda12]' where"), ("nonsense", "unset it\n")],
)
def test_devices_that_are_not_there_are_one_line(asked, extra):
    """JAX said it in 28 lines, of which the last was empty."""
    program = "from fgvc_jax.commands import start; import jax; start.run(lambda _: jax.devices())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"JAX_PLATFORMS": asked}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"JAX_PLATFORMS is '{asked}', and JAX finds only cpu" in done.stderr
    assert extra in done.stderr
