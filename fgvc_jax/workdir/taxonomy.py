"""The taxonomy of a run's classes, kept in its workdir: the file that it was read from may go."""

import logging
import os
from pathlib import Path

from fgvc_jax.config import Experiment
from fgvc_jax.data.taxonomy import CUB, Taxonomy, read_taxonomy
from fgvc_jax.workdir import storage

FILE = "taxonomy.json"
log = logging.getLogger(__name__)


def kept(workdir: Path, classes: tuple[str, ...]) -> Taxonomy | None:
    """The taxonomy that a workdir has of its classes; None where it has none.

    Raises:
        UserError: where it is damaged.
    """
    file = workdir / FILE
    try:
        saved = storage.read_json(file)
    except FileNotFoundError:
        return None
    return Taxonomy.from_json(saved, classes, repr(str(file)))


def asked(workdir: Path, experiment: Experiment, classes: tuple[str, ...]) -> Taxonomy | None:
    """The taxonomy that an experiment names, or else that its workdir keeps: also where the file
    that it was once read from has gone.

    Raises:
        UserError: where it is none of these classes.
    """
    spec = experiment.data.taxonomy
    there = kept(workdir, classes)
    if not spec:
        return there
    if there and spec != CUB and not os.path.lexists(os.path.expanduser(spec)):
        log.info("taxonomy %r is gone: that of %s serves", spec, workdir)
        return there
    return read_taxonomy(spec, classes)


def keep(workdir: Path, taxonomy: Taxonomy | None) -> None:
    """Keep a taxonomy, where there is one, in a workdir."""
    if taxonomy is not None:
        storage.write_json(workdir / FILE, taxonomy.to_json())
