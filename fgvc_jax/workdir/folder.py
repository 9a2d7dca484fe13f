"""The folder of a run: whose it is, and where things are in it."""

import os
import re
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from fgvc_jax import config
from fgvc_jax.config import Experiment
from fgvc_jax.utils import digests, paths
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import locks, mirror, storage
from fgvc_jax.workdir.record import FORMAT, Record

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
        self.predictions = self.path / "predictions"
        self.precomputed = self.path / "precomputed"
        self.trunk = self.path / "trunk"

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
        if found != FORMAT:
            if storage.exists(self.path / "export.json"):
                raise UserError(
                    f"{str(self.path)!r} is an export, which predict and fgvc_jax.load read: name "
                    "the --workdir that it was made of"
                )
            raise UserError(
                f"workdir {str(self.path)!r} has format {found}, and this program reads format "
                f"{FORMAT}: name another --workdir"
            )
        try:
            extra = {name: saved.pop(name) for name in ("class_names", "digests", "selects")}
            experiment = config.check(config.from_dict(saved))
        except (KeyError, TypeError, UserError) as error:
            raise UserError(f"{str(self.config)!r} cannot be read: {error}") from error
        return Record(
            experiment, tuple(extra["class_names"]), extra["digests"], bool(extra["selects"])
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
        experiment = config.adopt(saved, experiment)
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
            self._check_members(record)
            return record
        saved = self.record()
        if others := saved.others(record):
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

    def _check_members(self, record: Record) -> None:
        """Refuse members of another experiment, which nothing else tells once config.json is lost.

        Raises:
            UserError: naming the first of them.
        """
        teachers: list[str] = []
        for number in range(1, min(self.trained(), record.experiment.members) + 1):
            path = self.member(number) / "member.json"
            found = storage.read_json(path) if storage.exists(path) else {}
            if found.get("training") not in (None, record.training(number, teachers)):
                raise UserError(
                    f"workdir {str(self.path)!r} lost its config.json, and its member {number} is "
                    "of another experiment: give the command that trained it, or another --workdir"
                )
            if "variables" not in found:
                return  # nobody can tell what the later ones were taught by
            teachers.append(found["variables"])

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
                "class_names": list(record.classes),
                "digests": record.digests,
                "selects": record.selects,
            },
        )

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
