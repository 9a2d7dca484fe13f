import errno
import os
import subprocess
import sys

import pytest

from fgvc_jax import command


@pytest.mark.skipif(sys.platform != "linux", reason="huge pages are asked for on Linux")
@pytest.mark.parametrize(
    "given, used", [({}, "glibc.malloc.hugetlb=1"), ({"GLIBC_TUNABLES": "x"}, "x")]
)
def test_a_command_begins_again_with_huge_pages_unless_tunables_are_set(tmp_path, given, used):
    program = tmp_path / "program.py"
    program.write_text(
        "import os\nfrom fgvc_jax.command import run\n"
        "print('started', flush=True)\n"
        "run(lambda words: print(os.environ['GLIBC_TUNABLES'], *words))\n"
    )
    inherited = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, str(program), "a b", "--c"],
        env=inherited | given, capture_output=True, text=True, check=True,
    )  # fmt: skip
    starts = ["started"] if given else ["started", "started"]
    assert done.stdout.splitlines() == [*starts, f"{used} a b --c"]


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
        command.use_compilation_cache()
        folder = tmp_path / "fgvc_jax/compiled"
        assert jax.config.jax_compilation_cache_dir == str(folder)
        assert folder.stat().st_mode & 0o777 == 0o700
        folder.chmod(0o777)
        jax.config.update("jax_compilation_cache_dir", None)
        command.use_compilation_cache()
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
