"""The folder of a run: its files, locks, checkpoints and records, local or in a bucket."""

import importlib.util

if importlib.util.find_spec("fcntl") is None:  # as on Windows, which has not these locks
    raise ImportError("fgvc_jax runs on Linux and macOS: on Windows start it in WSL")

from fgvc_jax.workdir.folder import Workdir  # noqa: E402
from fgvc_jax.workdir.record import Record  # noqa: E402

__all__ = ["Record", "Workdir"]
