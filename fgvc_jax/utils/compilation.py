"""Compiled programs, kept between runs."""

import os
import stat
from pathlib import Path

CACHE_BYTES = 2 * 2**30  # of compiled programs; those used longest ago go first


def use_compilation_cache() -> None:
    """Keep compiled programs between runs, in a folder that only this user can write.

    Whoever can write there can run code, so a folder of somebody else's, or one that others may
    write, is left alone. JAX_COMPILATION_CACHE_DIR, where set, decides instead.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "fgvc_jax" / "programs"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.stat()
    except OSError:
        return
    if status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # JAX leaves out what compiles within a second: of this project's programs, the most.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)
