"""The folder of a run: whose it is, where things are in it, and writing them atomically."""

import json
import os
from pathlib import Path
from typing import Any

from fgvc_jax import config, paths
from fgvc_jax.config import Experiment
from fgvc_jax.errors import UserError


class Workdir:
    """Paths of a run's files, as DESIGN names them."""

    def __init__(self, path: str):
        self.path = paths.workdir(path)
        self.config = self.path / "config.json"
        self.results = self.path / "results.json"
        self.attention = self.path / "attention"

    def member(self, number: int) -> Path:
        """members/NN of member `number`, counted from 1."""
        return self.path / "members" / f"{number:02d}"

    def final(self, number: int) -> Path:
        """The frozen member; it exists only when complete."""
        return self.member(number) / "final"

    def experiment(self) -> Experiment:
        """The experiment that this folder was made by.

        Raises:
            UserError: when there is none or it cannot be read.
        """
        try:
            saved = config.from_dict(json.loads(self.config.read_text()))
        except FileNotFoundError:
            raise UserError(
                f"{str(self.path)!r} is no workdir of a run (it has no config.json): "
                "train first, or name another --workdir"
            ) from None
        except (ValueError, TypeError, UserError) as error:
            raise UserError(f"{str(self.config)!r} cannot be read: {error}") from error
        return config.check(saved)

    def check(self, experiment: Experiment) -> None:
        """Refuse a folder that belongs to another experiment; changes nothing.

        More members than before continue an experiment: the first ones do not depend on the later.

        Raises:
            UserError: naming the fields that differ.
        """
        if not self.config.exists():
            if self.path.exists() and not self.path.is_dir():
                raise UserError(f"--workdir {str(self.path)!r} is not a folder: name another")
            return
        changed = config.differences(self.experiment(), experiment)
        more = experiment.members > self.experiment().members
        changed = [c for c in changed if not (more and c.startswith("--members "))]
        if changed:
            raise UserError(
                f"workdir {str(self.path)!r} belongs to another experiment ({', '.join(changed)}): "
                "name another --workdir"
            )

    def claim(self, experiment: Experiment) -> None:
        """Write config.json.

        Raises:
            UserError: when the folder cannot be written.
        """
        try:
            write_json(self.config, config.to_dict(experiment))
        except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
            raise UserError(
                f"workdir {str(self.path)!r} cannot be written ({error.strerror}): "
                "name another --workdir"
            ) from error


def write_json(path: Path, value: Any) -> None:
    """Replace `path` atomically, so that a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w") as file:
        json.dump(value, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
