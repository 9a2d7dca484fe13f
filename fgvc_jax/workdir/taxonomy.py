"""The taxonomy of a run's classes, kept in its workdir: the file that it was read from may go."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fgvc_jax.config import Experiment
from fgvc_jax.data.taxonomy import CUB, Taxonomy, of_folders, read_taxonomy
from fgvc_jax.workdir import storage

FILE = "taxonomy.json"


def kept(workdir: Path, classes: Sequence[str]) -> Taxonomy | None:
    """The taxonomy that a workdir has of these classes; None where it has none.

    Raises:
        UserError: where it is damaged.
    """
    saved = _saved(workdir)
    if saved is None:
        return None
    return Taxonomy.from_json(saved, classes, repr(str(workdir / FILE)))


def asked(
    workdir: Path,
    experiment: Experiment,
    classes: Sequence[str],
    lineages: Sequence[tuple[str, ...]] = (),
) -> Taxonomy | None:
    """The taxonomy that an experiment names, or else that its workdir keeps, or the dataset's
    folders have (`Splits.lineages`). A kept one serves where the file that it was read from has
    gone.

    Raises:
        UserError: where it is none of these classes.
    """
    spec, saved = experiment.data.taxonomy, _saved(workdir)
    same = isinstance(saved, dict) and saved.get("source") == spec
    gone = same and spec != CUB and not os.path.lexists(os.path.expanduser(spec))
    if spec and not gone:
        return read_taxonomy(spec, classes)
    there = kept(workdir, classes)
    return of_folders(lineages) if there is None and lineages else there


def is_kept(workdir: Path, taxonomy: Taxonomy) -> bool:
    """Whether a workdir has this very taxonomy."""
    saved = _saved(workdir)
    return isinstance(saved, dict) and saved | taxonomy.to_json() == saved


def keep(workdir: Path, experiment: Experiment, taxonomy: Taxonomy | None) -> None:
    """Keep the taxonomy that was `asked` for in its workdir, where it is another than there."""
    if taxonomy is not None and not is_kept(workdir, taxonomy):
        source = {"source": experiment.data.taxonomy}
        storage.write_json(workdir / FILE, source | taxonomy.to_json())


def way_out(workdir: Path) -> str:
    """How a workdir comes to have one, as the end of a message."""
    there = storage.writable(workdir)
    copy = "" if there else "nothing can be written there; of a copy elsewhere, "
    named = shlex.quote(str(workdir)) if there else "COPY"
    return f"{copy}python -m fgvc_jax.train {named} --data.taxonomy FILE.csv gives it one"


def _saved(workdir: Path) -> Any:
    try:
        return storage.read_json(workdir / FILE)
    except FileNotFoundError:
        return None
