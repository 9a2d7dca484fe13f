"""What a study is, its command line, and the experiments that it consists of."""

import dataclasses
import difflib
import math
import re
import runpy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fgvc_jax import config
from fgvc_jax.config import Experiment
from fgvc_jax.utils import command_line
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.options import HELP

if TYPE_CHECKING:  # of a room that loads JAX, which --help does without
    from fgvc_jax.evaluation.statistics import Key

ROW = "row:"  # of the same study, as a teacher
OWN = {"seed": "--seeds", "workdir": "--workdir"}  # fields that the study gives its runs itself
# What people change: those that --help tells of.
_COMMON = (
    "--config", "--workdir", "--seeds", "--minutes", "--metrics", "--rows", "--ledger",
    "--base.members", "--base.epochs", "--base.batch-size", "--base.data.source",
    "--base.data.resize", "--base.data.crop", "--base.data.classes", "--base.data.cache",
    "--base.network.name", "--base.network.weights", "--base.network.frozen",
    "--base.optimizer.learning-rate", "--base.optimizer.head-learning-rate",
)  # fmt: skip


@dataclass(frozen=True)
class Study:
    """What is compared."""

    base: Experiment
    """The experiment that every row changes; its seed and workdir do not matter."""
    rows: Mapping[str, Mapping[str, Any]]
    """Name -> {dotted field: value}, such as {"transfer.name": "none"}; {} is the base itself. All
    rows are compared with the first one."""
    seeds: int = 5
    """Every row is trained with the seeds 0 ... seeds - 1."""
    metrics: tuple[str, ...] = ("ensemble", "single")
    """What the table shows, names as in `statistics.measure`; overlap and accuracies of heads come
    by themselves."""
    name: str = ""
    """Of the study in tables; by itself that of its file."""
    question: str = ""
    """What is asked; by itself the first paragraph of the file's docstring."""
    recipe: Experiment | None = None
    """The published one, every deviation from which is told."""
    gain: float = 0.0
    """The published difference to the first row, as a fraction, that is to be shown or excluded."""
    beside: tuple[tuple[str, str, str, str], ...] = ()
    """(row, metric, other row, its metric): differences that the pages tell beside those to the
    first row."""
    order: tuple[str, ...] = ()
    """All rows of the study where `rows` has only some of them; empty: those."""

    @property
    def members(self) -> dict[str, int]:
        """The number of members of every row."""
        return {row: change(self.base, changes).members for row, changes in self.rows.items()}


@dataclass(frozen=True)
class Options:
    """Train the runs of a study that are missing and compare its rows.

    A study FILE has get_study(), see scripts/studies/. The same command continues after an
    interruption. --base.* are the fields of the experiment that every row changes, as of train.
    """

    base: Experiment
    config: str = ""
    """Vary the experiment of this config file, not the one that the study would take."""
    workdir: str = ""
    """Where the runs and the table go, a folder or gs://BUCKET/NAME; empty: runs/studies/NAME."""
    seeds: int = 0
    """Train the first so many seeds; 0: as many as the study says."""
    minutes: float = math.inf
    """Save and stop after so many minutes; 0 trains nothing and reports what is finished."""
    metrics: tuple[str, ...] = ()
    """ensemble, single, ensemble_N, single_N, ...: what to compare; empty: as the study says."""
    rows: tuple[str, ...] = ()
    """Only these rows, the first of which the others are compared with; empty: all of the study."""
    ledger: str = ""
    """Where a line for every run that ends is appended; empty: ledger.jsonl in the workdir."""
    trust_ledger: bool = False
    """Count runs by their finished lines in the ledger where their workdirs are gone. Data and
    weights go by their names: that they are the same is what you trust."""
    abandon: str = ""
    """Train nothing: tell the ledger that the runs begun and not finished are given up, and why."""


def parse(arguments: Sequence[str], program: str) -> tuple[Study, Options]:
    """The study of `FILE [options]` and the options, with folder, seeds and metrics resolved.

    Raises:
        UserError: for a file or an option that makes no sense.
        SystemExit: 0 after printing `--help`.
    """
    file, *rest = [*arguments] or [""]

    def read(words: Sequence[str], base: Experiment) -> Options:
        return command_line.command_line(
            Options, [*words],
            program=program, default=Options(base=base), also=["--config"], common=_COMMON,
        )  # fmt: skip

    if file in HELP:
        read([file], Experiment())
    if not file or file.startswith("-"):
        raise UserError("the first argument is a study, such as scripts/studies/hsd.py")
    base = load_study(file).base
    options = read(rest, base)
    if options.config:
        base = config.load_config(options.config, **config.said(rest, "--base."))
        options = read(rest, base)
    for name, instead in OWN.items():
        if getattr(options.base, name) != getattr(base, name):
            raise UserError(f"--base.{name} plays no role in a study: {instead} does")
    study = _chosen(load_study(file, options.base), options.rows)
    workdir = options.workdir.rstrip("/") or options.workdir or f"runs/studies/{study.name}"
    if options.seeds < 0 or not options.minutes >= 0:
        raise UserError("--seeds and --minutes must not be negative")
    return study, replace(
        options,
        workdir=workdir,
        ledger=options.ledger or f"{workdir}/ledger.jsonl",
        seeds=options.seeds or study.seeds,
        metrics=options.metrics or study.metrics,
    )


def load_study(path: str, base: Experiment | None = None) -> Study:
    """The study of a Python file, which is run: of its own base, or of another.

    Raises:
        UserError: when there is none.
    """
    if not Path(path).is_file():
        raise UserError(f"study {path!r} does not exist; see the files in scripts/studies/")
    try:
        names = runpy.run_path(path)
        if "get_study" not in names:
            raise UserError("it has no function get_study()")
        study = names["get_study"](*([] if base is None else [base]))
    except UserError as error:
        raise UserError(f"study {path!r}: {error}") from error
    except Exception as error:
        raise UserError(f"study {path!r} failed: {type(error).__name__}: {error}") from error
    if not isinstance(study, Study):
        raise UserError(f"get_study() of {path!r} returned no fgvc_jax.study.Study")
    paragraph = (names["__doc__"] or "").split("\n\n")[0]
    return replace(
        study,
        name=study.name or Path(path).stem,
        question=study.question or " ".join(paragraph.split()),
    )


def _chosen(study: Study, names: Sequence[str]) -> Study:
    """The study with the named rows only; all for no names."""
    for name in names:
        if name not in study.rows:
            raise UserError(f"row {name!r} is not among {', '.join(study.rows)}")
    rows = {name: study.rows[name] for name in names or study.rows}
    return replace(study, rows=rows, order=tuple(study.rows))


def experiments(study: Study, *, folder: Path | str, seeds: int) -> "dict[Key, Experiment]":
    """The checked experiment of every row and seed; all rows of one seed before the next seed.

    Outputs of a frozen trunk or a teacher are computed once for all of them, unless the
    study names another `data.cache`. A row whose `kd.teacher` is row:NAME learns from the run of
    the row NAME and the same seed.

    Raises:
        UserError: for a row whose name is no folder's, or whose changes make no sense.
    """
    runs = {}
    for seed in range(seeds):
        for row, changes in study.rows.items():
            if not re.fullmatch(r"[\w+=-][\w.+=-]*", row):
                raise UserError(f"row {row!r}: name it with letters, digits and _ . + = -")
            for name in OWN.keys() & changes.keys():
                raise UserError(f"row {row!r} changes {name}, which every run of a study has anew")
            try:
                experiment = change(study.base, changes)
                data, kd = experiment.data, experiment.kd
                if (experiment.network.frozen or experiment.method.asks) and not data.cache:
                    data = replace(data, cache=f"{folder}/.cache")  # the name of no row
                if kd.teacher.startswith(ROW):
                    kd = replace(kd, teacher=f"{folder}/{kd.teacher.removeprefix(ROW)}/{seed}")
                workdir = f"{folder}/{row}/{seed}"
                experiment = replace(experiment, seed=seed, workdir=workdir, data=data, kd=kd)
                runs[row, seed] = config.check(experiment)
            except UserError as error:
                raise UserError(f"row {row!r}: {error}") from error
    return runs


def change(experiment: Experiment, changes: Mapping[str, Any]) -> Experiment:
    """The experiment with {dotted field: value} put in. UserError for an unknown field or type."""
    for name, value in changes.items():
        experiment = _put(experiment, name, value, name)
    return experiment


def _put(group: Any, path: str, value: object, name: str) -> Any:
    first, _, rest = path.partition(".")
    known = [field.name for field in dataclasses.fields(group)]
    old = getattr(group, first, None)
    if first not in known or (rest and not dataclasses.is_dataclass(old)):
        near = difflib.get_close_matches(first, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        raise UserError(f"there is no field {name!r}: {hint}")
    if rest:
        value = _put(old, rest, value, name)
    elif type(value) is not type(old) and (type(old), type(value)) != (float, int):
        raise UserError(f"{name} is {value!r}: it must be of type {type(old).__name__}")
    return replace(group, **{first: value})


def check_metrics(
    names: Sequence[str], runs: Iterable[Experiment], measured: Sequence[str]
) -> None:
    """Refuse the name of a metric that no run will have.

    Raises:
        UserError: naming what there is.
    """
    runs = list(runs)
    most = max(run.members for run in runs)
    plain = "ensemble", "single", "published"
    several = "overlap", "overlap_high", *(f"overlap_{n}" for n in range(2, most + 1))
    known = [
        *(*plain, "head_logits"),
        *(f"{kind}_{n}" for kind in plain for n in range(1, most + 1)),
        *(several if most > 1 else ()),
        *measured,
    ]
    if any(name.startswith("head_") and name not in known for name in names):
        known += _heads(runs)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise UserError(f"there is no metric {name!r}: {hint}")


def _heads(runs: Iterable[Experiment]) -> list[str]:
    """Metrics of the heads that objectives have beside the main one, whatever their classes."""
    labels = np.repeat(np.arange(2), 1000)
    made = (
        config.settle(run, labels).make(classes=2, label_smoothing=0.0, view=run.data.view)
        for run in runs
    )
    return sorted({f"head_{name}" for objective in made for name in objective.heads})
