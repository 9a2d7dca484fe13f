"""The folder of a run: whose it is, and where things are in it."""

import logging
import os
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import fgvc_jax
from fgvc_jax import config
from fgvc_jax.config import Experiment
from fgvc_jax.utils import digests, options, paths
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import locks, mirror, storage
from fgvc_jax.workdir.record import FORMAT, Record

log = logging.getLogger(__name__)


# Where data, weights and teachers lie may change: their digests decide whether they are the same.
_MOVABLE = re.compile(r"--(data\.source|network\.weights|networks\.\d+\.weights|kd\.teacher) ")


class Workdir:
    """Paths of a run's files, as DESIGN names them; of one in a bucket (gs://BUCKET/RUN), those of
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
        """Numbers of the frozen members that `--members` asks for, see `options.chosen`.

        Args:
            members: what is asked for.
            most: how many the run is to have.

        Raises:
            UserError: where one of them is not frozen, or was removed.
        """
        there = [number for number in range(1, most + 1) if storage.exists(self.final(number))]
        if not there:
            raise UserError(f"workdir {str(self.path)!r} has no trained member yet")
        numbers = options.chosen(
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
        """What this folder was made by.

        Raises:
            UserError: when there is no run, or it is of another format.
        """
        try:
            saved = storage.read_json(self.config)
        except FileNotFoundError:
            raise UserError(
                f"{str(self.path)!r} is no workdir of a run (it has no config.json): "
                "train first, or name another --workdir"
            ) from None
        found = saved.pop("format", 1) if isinstance(saved, dict) else None
        program = str(saved.pop("program", "")) if isinstance(saved, dict) else ""
        if found != FORMAT:
            of_hub = isinstance(saved, dict) and "fgvc_jax" in saved
            if of_hub or storage.exists(self.path / "export.json"):
                raise UserError(
                    f"{str(self.path)!r} is an export, which predict and fgvc_jax.load read; for "
                    "anything else name a workdir, such as the one that it was made of"
                )
            if isinstance(found, int) and found > FORMAT:
                raise self._newer(program or f"a newer version (format {found})")
            raise UserError(
                f"workdir {str(self.path)!r} has format {found}, and this program reads format "
                f"{FORMAT}: name another --workdir"
            )
        try:
            extra = {name: saved.pop(name) for name in ("class_names", "digests", "selects")}
            experiment = config.check(config.from_dict(saved))
        except (KeyError, TypeError, UserError) as error:
            if program not in ("", fgvc_jax.__version__):  # whose fields need not be ours
                raise self._newer(program) from error
            raise UserError(f"{str(self.config)!r} cannot be read: {error}") from error
        return Record(
            experiment, tuple(extra["class_names"]), extra["digests"], bool(extra["selects"])
        )

    def _newer(self, program: str) -> UserError:
        return UserError(
            f"workdir {str(self.path)!r} was written by {program} of fgvc_jax, which this one "
            f"({fgvc_jax.__version__}) does not understand: use that version, or name another "
            "--workdir"
        )

    def continued(self, experiment: Experiment) -> Experiment:
        """The experiment, with what is automatic as it was settled when the folder was begun.

        More members than before continue an experiment: the first ones do not depend on the later.
        Changes nothing.

        Raises:
            UserError: when the folder belongs to another experiment, naming the fields that differ,
                or cannot be written.
        """
        if not storage.exists(self.config):
            storage.check_writable(self.path)
            return experiment
        saved = self.record().experiment
        experiment = options.adopt(saved, experiment)
        changed = config.differences(saved, experiment)
        added = range(saved.members + 1, experiment.members + 1)
        allowed = ("--members ", *(f"--networks.{n}." for n in added if saved.networks))
        changed = [
            change
            for change in changed
            if not (_MOVABLE.match(change) or (added and change.startswith(allowed)))
        ]
        if changed:
            raise UserError(
                f"workdir {str(self.path)!r} belongs to another experiment ({', '.join(changed)}): "
                "name another --workdir"
            )
        return experiment

    def check(self, record: Record) -> Record:
        """Refuse to go on with other classes, images or weights than the folder was begun with.

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
        if only_test and storage.exists(self.broken):
            log.warning(
                "warning: the test images are no longer those that %s was begun with, one of which "
                "could not be read: members are judged on those that are there now",
                self.path,
            )
        elif others:
            raise UserError(
                f"workdir {str(self.path)!r} was begun with {others}: give those again, or name "
                "another --workdir"
            )
        return replace(record, digests=digests.completed(record.digests, saved.digests))

    def moved(self, experiment: Experiment) -> bool:
        """Whether data, weights or teachers are said to be elsewhere than when the folder was
        begun, so that only their digests can tell that they are the same."""
        changed = config.differences(self.record().experiment, experiment)
        return any(map(_MOVABLE.match, changed))

    def claim(self, record: Record) -> None:
        """Write config.json.

        Raises:
            UserError: when the folder cannot be written.
        """
        storage.write_json(
            self.config,
            config.to_dict(record.experiment)
            | {
                "format": FORMAT,
                "program": fgvc_jax.__version__,
                "class_names": list(record.classes),
                "digests": record.digests,
                "selects": record.selects,
            },
        )
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
