"""Training from Python: in this process, with whatever JAX it has, and no signal of its own."""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Literal

from fgvc_jax.config import Experiment
from fgvc_jax.training import experiments, members, summary
from fgvc_jax.utils import progress
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.progress import Reporter

Told = Callable[[dict[str, Any]], Any]


def fit(
    what: Experiment | str | os.PathLike,
    workdir: str | os.PathLike | None = None,
    told: Told | Literal[False] | None = None,
    **fields: object,
) -> str:
    """Train as `fgvc_jax.fit` says, whose `progress` is `told`; the workdir of the finished run."""
    if workdir is not None:
        fields |= {"workdir": workdir}
    experiment = _experiment(what, [*_options(fields)])
    if experiment.distributed:
        raise UserError(
            "fit trains in this process alone: several processes are joined by the command, "
            "python -m fgvc_jax.train --distributed"
        )
    with progress.hidden(told is not None), _quiet_saves():
        members.train(experiment, report=_report(told), signals=())
    return experiment.workdir


@contextlib.contextmanager
def _quiet_saves() -> Iterator[None]:
    """Hear nothing of how long a save has taken, which Orbax warns of by absl's logger."""
    told = logging.getLogger("absl")
    level = told.level
    told.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        told.setLevel(level)


def _experiment(what: Experiment | str | os.PathLike, options: list[str]) -> Experiment:
    if isinstance(what, Experiment):
        if any(option.startswith("--config=") for option in options):
            raise UserError("an experiment and a config are two: give one of them")
        return experiments.parse(options, what) if options else what
    word = os.fspath(what) if isinstance(what, (str, os.PathLike)) else ""
    if not word or word.startswith("-"):
        raise UserError(
            f"{what!r} names nothing to train: give an Experiment, a config, a source, a folder of "
            "images or a workdir; fields by keywords"
        )
    return experiments.experiment_of([word, *options])


def _options(fields: Mapping[str, Any], prefix: str = "--") -> Iterator[str]:
    """Fields as a command line has them: {"data": {"crop": 32}} is --data.crop=32."""
    for name, value in fields.items():
        flag = prefix + name.replace("_", "-")
        if isinstance(value, Mapping):
            yield from _options(value, f"{flag}.")
        elif dataclasses.is_dataclass(value):
            raise UserError(
                f"{name} is of the class {type(value).__name__}: give what changes as a dict, or "
                "the whole Experiment"
            )
        elif isinstance(value, (list, tuple)):
            yield from (flag, *map(str, value))
        else:
            yield f"{flag}={os.fspath(value) if isinstance(value, os.PathLike) else value}"


def _report(told: Told | Literal[False] | None) -> Reporter:
    if told is None:
        return summary.tell
    if told is False:
        return summary.ignore
    if not callable(told):
        raise UserError(
            f"progress is {told!r}: give a function that takes a dict, False for silence, or None "
            "to have it printed"
        )
    return partial(_tell, told)


def _tell(told: Told, line: str, /, **numbers: float | None) -> None:
    told({"line": line, **numbers})
