import ctypes
import errno
import os
import subprocess
import sys

import pytest

from fgvc_jax.commands import start as command
from fgvc_jax.utils import compilation

PROGRAM = """
import os
from fgvc_jax.commands.start import prepare, run
print("started", flush=True)
prepare()
shown = "JAX_NUM_CPU_DEVICES", "LD_PRELOAD", "GLIBC_TUNABLES"
run(lambda words: print(*words, *(os.environ.get(name) for name in shown)))
"""


def start(**given):
    """Lines that PROGRAM prints with so much of the environment given."""
    ours = {"JAX_NUM_CPU_DEVICES", "LD_PRELOAD", "GLIBC_TUNABLES", "XLA_FLAGS"}
    inherited = {k: v for k, v in os.environ.items() if k not in ours}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "a b", "--c"],
        env=inherited | given, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="another malloc is asked for on Linux")
def test_a_command_begins_again_under_tcmalloc_where_it_is():
    try:
        ctypes.CDLL("libtcmalloc_minimal.so.4")
        expected = ["started", "started", "a b --c 2 libtcmalloc_minimal.so.4 None"]
    except OSError:
        expected = ["started", "a b --c 2 None None"]
    assert start() == expected


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
    assert start(**given) == ["started", f"a b --c {used}"]


@pytest.mark.parametrize(
    "encoding, shown",
    [("utf-8:strict", "caf\u00e9 \\udcff"), ("ascii:strict", "caf\\xe9 \\udcff")],
)
def test_names_that_the_terminal_cannot_show_are_escaped(encoding, shown):
    """A file name need not be text, and a strict stdout died of printing one."""
    program = "from fgvc_jax.commands.start import run; run(lambda words: print(*words))"
    done = subprocess.run(
        [sys.executable, "-c", program, "caf\u00e9", b"\xff"],
        env={**os.environ, "PYTHONIOENCODING": encoding, "LD_PRELOAD": ""}, capture_output=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == f"{shown}\n".encode()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_recognised(code):
    assert command._disk_is_full(OSError(code, os.strerror(code)))


def test_a_full_disk_is_recognised_behind_other_errors():
    """Orbax and tensorstore wrap the system's error in their own, as text."""
    try:
        try:
            raise ValueError("RESOURCE_EXHAUSTED: Error writing: No space left on device")
        except ValueError as error:
            raise RuntimeError("save failed") from error
    except RuntimeError as error:
        assert command._disk_is_full(error)


def test_other_errors_are_not_a_full_disk():
    assert not command._disk_is_full(OSError(errno.ENOENT, "no such file"))
    assert not command._disk_is_full(ValueError("shapes differ"))


def test_the_compilation_cache_is_private(tmp_path, monkeypatch):
    import jax

    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        compilation.use_compilation_cache()
        folder = tmp_path / "fgvc_jax/programs"
        assert jax.config.jax_compilation_cache_dir == str(folder)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert jax.config.jax_compilation_cache_max_size == compilation.CACHE_BYTES
        folder.chmod(0o777)
        jax.config.update("jax_compilation_cache_dir", None)
        compilation.use_compilation_cache()
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
