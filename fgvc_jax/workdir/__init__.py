"""The folder of a run: its files, locks, checkpoints and records, local or in a bucket."""

from fgvc_jax.workdir.folder import Workdir
from fgvc_jax.workdir.record import Record

__all__ = ["Record", "Workdir"]
