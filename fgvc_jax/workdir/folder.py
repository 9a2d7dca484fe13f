"""The folder of a run: whose it is, and where things are in it."""

import logging
import os
import shlex
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from fgvc_jax.config import Change, Experiment
from fgvc_jax.data.left_out import LeftOut
from fgvc_jax.utils import digests, options, paths
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import locks, mirror, storage
from fgvc_jax.workdir.record import Record, another, says_elsewhere

log = logging.getLogger(__name__)


class Workdir:
    """Paths of the files in a run's folder; of one in a bucket (gs://BUCKET/RUN), those of
    its mirror.

    Args:
        path: as typed.
        what: the option that names it, for messages.
    """

    def __init__(self, path: str | os.PathLike, what: str = "--workdir"):
        text = os.fspath(path)
        is_url = mirror.is_url(text)
        self.path = mirror.folder_of(text, what) if is_url else paths.workdir(text, what)
        self.config = self.path / "config.json"
        self.results = self.path / "results.json"
        self.training_images = self.path / "training_images.npy"  # see the module of its name
        self.predictions = self.path / "predictions"
        self.precomputed = self.path / "precomputed"
        self.trunk = self.path / "trunk"
        self.broken = self.path / "broken.json"  # a test image that could not be read, later on

    @property
    def address(self) -> str:
        """The folder as people know it: a path, or a URL without a slash at the end."""
        return mirror.by_url(str(self.path))

    def member(self, number: int) -> Path:
        """members/NN of member `number`, counted from 1."""
        return self.path / "members" / f"{number:02d}"

    def final(self, number: int) -> Path:
        """The frozen member; it exists only when complete."""
        return self.kept(number, "final")

    def kept(self, number: int, which: str) -> Path:
        """A member's variables: "final", or "selected"."""
        return self.member(number) / which

    def trained(self) -> int:
        """How many members are frozen, from the first on."""
        count = 0
        while storage.exists(self.final(count + 1)):
            count += 1
        return count

    def chosen(self, members: int | str | Sequence[int], most: int) -> tuple[int, ...]:
        """Numbers of the frozen members that `--members` asks for, see `options.chosen_members`.

        Args:
            members: what is asked for.
            most: how many the run is to have.

        Raises:
            UserError: where one of them is not frozen, or was removed.
        """
        there = [number for number in range(1, most + 1) if storage.exists(self.final(number))]
        if not there:
            raise UserError(f"workdir {str(self.path)!r} has no trained member yet")
        numbers = options.chosen_members(
            members, there[-1], f"{there[-1]} are trained (0 takes all), by numbers from 1"
        )
        if missing := sorted(set(numbers) - set(there)):
            others = ",".join(map(str, there)) if len(there) > 1 else f"{there[0]}..{there[0]}"
            raise UserError(
                f"member {missing[0]} is missing in workdir {str(self.path)!r}: the command that "
                f"trained it makes it again, or do without by --members {others}"
            )
        return numbers

    def lock(self) -> AbstractContextManager[None]:
        """Be the only one who trains here; see `locks.lock`."""
        return locks.lock(self.path)

    def record(self) -> Record:
        """What this folder was made by; a UserError as of `Record.read`."""
        return Record.read(self.config)

    def continued(self, experiment: Experiment) -> Experiment:
        """The experiment, with what is automatic as it was settled when the folder was begun.

        Changes nothing. More members than before continue an experiment, see `another`.

        Raises:
            UserError: when the folder belongs to another experiment, naming the fields that differ,
                or cannot be written.
        """
        if not storage.exists(self.config):
            storage.check_writable(self.path)
            return experiment
        saved = self.record().experiment
        experiment = options.adopt(saved, experiment)
        if changed := another(saved, experiment):
            fields = ", ".join(map(str, changed))
            raise UserError(
                f"workdir {str(self.path)!r} belongs to another experiment ({fields}): "
                f"name another --workdir, or go on with what it has{_as_given(changed)}"
            )
        return experiment

    def check(self, record: Record, unread: Sequence[LeftOut] = ()) -> Record:
        """Refuse to go on with other classes, images or weights than the folder was begun with;
        `unread` are images that the record lacks since they can be read no longer.

        Returns:
            The record, with what the folder knew of the images' contents.

        Raises:
            UserError: naming what differs.
        """
        if not storage.exists(self.config):
            return record
        saved = self.record()
        others = saved.others(record)
        only_test = others.startswith("other test images") and " and " not in others
        if only_test and (unread or storage.exists(self.broken)):
            log.warning(
                "warning: the test images are no longer those that %s was begun with, one of which "
                "could not be read: members are judged on those that are there now",
                self.path,
            )
        elif others:
            broke = f", and {unread[0].name!r} can be read no longer" if unread else ""
            raise UserError(
                f"workdir {str(self.path)!r} was begun with {others}{broke}: give those again, or "
                "name another --workdir"
            )
        return replace(record, digests=digests.completed(record.digests, saved.digests))

    def moved(self, experiment: Experiment) -> bool:
        """Whether data, weights or teachers are said to be elsewhere than when it was begun."""
        return says_elsewhere(self.record().experiment, experiment)

    def claim(self, record: Record) -> None:
        """Write config.json; UserError when the folder cannot be written."""
        record.write(self.config)
        storage.remove(self.broken)  # what is there now is what the run goes on with

    def read_results(self) -> dict[str, Any] | None:
        """results.json; None where there is none, or only what a full disk or a kill left of it."""
        try:
            return storage.read_json(self.results)
        except (FileNotFoundError, UserError):
            return None

    def finished(self, members: int) -> dict[str, Any] | None:
        """The results of a run of so many members that has nothing left to do, else None."""
        results = self.read_results()
        judged = results.get("members") if isinstance(results, dict) else None
        complete = isinstance(judged, list) and len(judged) == members
        return results if complete and self.trained() >= members else None


def _as_given(changed: Sequence[Change]) -> str:
    """The saved values as a command line has them, where they are few and plain."""
    if len(changed) > 3 or not all(isinstance(each.old, str | int | float) for each in changed):
        return ""
    return f": {' '.join(f'{each.flag} {shlex.quote(str(each.old))}' for each in changed)}"
