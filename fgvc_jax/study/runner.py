"""Trains the runs of a study that are missing, and keeps what is known of them up to date."""

import difflib
import gc
import json
import math
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fgvc_jax import config, train
from fgvc_jax.config import Experiment, Transfer
from fgvc_jax.errors import Interrupted, UserError
from fgvc_jax.objectives import OBJECTIVES
from fgvc_jax.study import pages, statistics
from fgvc_jax.study.definition import Options, Study, experiments
from fgvc_jax.study.ledger import ABANDONED, FAILED, Judge, Ledger
from fgvc_jax.study.statistics import Key
from fgvc_jax.workdir import Workdir, write_json

Measure = Callable[[Experiment, dict[str, Any]], dict[str, float]]
Page = Callable[..., str]  # see `pages.report`


def carry_out(
    study: Study,
    options: Options,
    *,
    measure: Measure | None = None,
    measured: Sequence[str] = (),
    page: Page = pages.report,
    judge: Judge | None = None,
) -> None:
    """Train what is missing and print the table.

    study.json and study.md say at any time what is finished, what failed and what is missing: they
    are written anew whenever a run ends. The ledger has a line of every run that ended.

    Args:
        study: from `definition.parse`.
        options: from `definition.parse`.
        measure: (experiment, results) of a finished run -> metrics beside those of
            `statistics.measure`.
        measured: the names of these metrics.
        page: what study.md says, see `pages.report`.
        judge: what the ledger is to say of single images, see `ledger.Ledger`.

    Raises:
        UserError: at the end, when runs failed.
    """
    folder = Path(options.workdir)
    runs = experiments(study, folder=folder, seeds=options.seeds)
    check_metrics(options.metrics, runs.values(), measured)
    ledger = Ledger(
        Path(options.ledger), study=study.name, base=study.base, rows=list(study.rows), judge=judge
    )
    outcome = Outcome(study, folder, runs, measure, page, options.metrics, ledger)
    outcome.look()
    if options.abandon:
        outcome.abandon(options.abandon)
    elif options.minutes:
        train_missing(outcome, minutes=options.minutes)
    text = outcome.save()
    print(f"\n{text}\n{pages.left(runs, outcome.values)}")
    print(f"saved: {folder / 'study.md'}, {folder / 'study.json'}")
    if outcome.failures:
        (row, seed), reason = next(iter(outcome.failures.items()))
        raise UserError(f"{len(outcome.failures)} runs failed; {row}, seed {seed}: {reason}")


@dataclass
class Outcome:
    """What is known of the runs of a study."""

    study: Study
    folder: Path
    runs: Mapping[Key, Experiment]
    measure: Measure | None
    page: Page
    metrics: Sequence[str]
    ledger: Ledger
    results: dict[Key, dict[str, Any]] = field(default_factory=dict)
    """results.json of every finished run."""
    values: dict[Key, dict[str, float]] = field(default_factory=dict)
    """Its metrics."""
    failures: dict[Key, str] = field(default_factory=dict)
    """What runs said that failed, now or when they were last tried."""

    def look(self) -> None:
        """Read what earlier starts have left."""
        for key, experiment in self.runs.items():
            self.add(key, _results(experiment))
        try:
            saved = json.loads((self.folder / "study.json").read_text())
        except (FileNotFoundError, ValueError):
            return
        for run in saved.get("failed", ()):
            key = run["row"], run["seed"]
            if key in self.runs and key not in self.values:
                self.failures[key] = run["reason"]

    def add(self, key: Key, results: dict[str, Any] | None) -> None:
        """Measure a finished run and enter it into the ledger."""
        if results is not None:
            self.failures.pop(key, None)
            self.results[key] = results
            more = self.measure(self.runs[key], results) if self.measure else {}
            self.values[key] = statistics.measure(results) | more
            try:
                self.ledger.finished(key[0], _resolved(self.runs[key]), results)
            except UserError as error:
                self.failures[key] = f"it has no line in the ledger: {error}"

    def fail(self, key: Key, reason: str) -> None:
        """Remember why a run failed, in the ledger as well."""
        self.failures[key] = reason
        run = _resolved(self.runs[key])
        self.ledger.unfinished(key[0], run, status=FAILED, reason=reason)

    def abandon(self, reason: str) -> None:
        """Enter the runs that were begun and are not finished as given up."""
        for key in self.missing():
            if Workdir(self.runs[key].workdir).config.exists():
                run = _resolved(self.runs[key])
                self.ledger.unfinished(key[0], run, status=ABANDONED, reason=reason)

    def missing(self) -> list[Key]:
        return [key for key in self.runs if key not in self.values]

    def notes(self) -> list[str]:
        """What a reader of the table must know of runs that are not in it, or are not alike."""
        failed = [
            f"failed: {row}, seed {seed}: {why}" for (row, seed), why in self.failures.items()
        ]
        rest = [key for key in self.missing() if key not in self.failures]
        missing = [f"not finished: {pages.grouped(rest)}"] if rest else []
        environments = {key: r.get("environment", {}) for key, r in self.results.items()}
        return [*failed, *missing, *pages.mixed(environments)]

    def save(self) -> str:
        """Write study.json and study.md; the text of the latter."""
        values = {key: self.values[key] for key in self.runs if key in self.values}
        summary = statistics.summarize(values, self.study.members)
        name = self.folder.name
        text = self.page(self.study, summary, name=name, metrics=self.metrics, notes=self.notes())
        write_json(
            self.folder / "study.json",
            {
                "study": name,
                "base": config.to_dict(self.study.base),
                "rows": {row: dict(changes) for row, changes in self.study.rows.items()},
                "runs": [{"row": row, "seed": seed, **run} for (row, seed), run in values.items()],
                "failed": [
                    {"row": row, "seed": seed, "reason": reason}
                    for (row, seed), reason in self.failures.items()
                ],
                "missing": [{"row": row, "seed": seed} for row, seed in self.missing()],
                "summary": summary,
            },
        )
        (self.folder / "study.md").write_text(text)
        return text


def check_metrics(
    names: Sequence[str], runs: Iterable[Experiment], measured: Sequence[str]
) -> None:
    """Refuse the name of a metric that no run will have.

    Raises:
        UserError: naming what there is.
    """
    runs = list(runs)
    most = max(run.members for run in runs)
    several = "overlap", *(f"overlap_{n}" for n in range(2, most + 1))
    known = [
        *("ensemble", "single", "head_logits"),
        *(f"{kind}_{n}" for kind in ("ensemble", "single") for n in range(1, most + 1)),
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
    made = (run.method.settle(labels).make(classes=2, label_smoothing=0.0) for run in runs)
    return sorted({f"head_{name}" for objective in made for name in objective.heads})


# -- training ------------------------------------------------------------------------------------


def train_missing(outcome: Outcome, *, minutes: float) -> None:
    """Train every run that is not finished, one after the other, until the time is up.

    Runs whose first members are the same share it. A run that fails on its way (a loss that is not
    finite) does not keep the others from being trained; a mistake that shows before it starts is
    raised. Whatever ends is saved at once.
    """
    missing = outcome.missing()
    with _time_limit(60 * minutes):
        for number, (row, seed) in enumerate(missing, start=1):
            key, experiment = (row, seed), outcome.runs[row, seed]
            train.tell(f"\n[{number}/{len(missing)}] {row}, seed {seed}")
            workdir = Workdir(experiment.workdir)
            _share_first_member(experiment, outcome.runs.values())
            try:
                results = train.train(experiment, workdir)
            except UserError as error:
                if not workdir.config.exists():
                    raise
                outcome.fail(key, str(error))
            else:
                outcome.add(key, results)
            outcome.save()
            gc.collect()  # a run's arrays go before the next one's come


def first_member_key(experiment: Experiment) -> tuple[str, ...]:
    """What the first member of a run depends on: equal for two runs, their first members are equal.

    It learns from no other member and is judged alone, so the number of members, their fusion and
    the transfer play no role, nor do options of objectives that are not used. The number of views
    decides what it sees.
    """
    plain = Experiment()
    views = min(experiment.data.views or experiment.epochs, experiment.epochs)
    unused = {name for name in OBJECTIVES if name != experiment.objective and hasattr(plain, name)}
    alone = replace(
        experiment,
        members=1,
        fusion=plain.fusion,
        transfer=Transfer(),
        data=replace(experiment.data, views=views),
        **{name: getattr(plain, name) for name in unused},
    )
    return tuple(config.differences(plain, alone))


def _share_first_member(experiment: Experiment, others: Iterable[Experiment]) -> None:
    """Copy the first member from another run that trained the same one, unless it is there."""
    workdir = Workdir(experiment.workdir)
    copy = workdir.member(1)
    alike = (e for e in others if first_member_key(e) == first_member_key(experiment))
    trained = (w for e in alike if (w := Workdir(e.workdir)).final(1).exists())
    source = None if copy.exists() else next(trained, None)
    if source is None:
        return
    workdir.claim(experiment)
    partial = copy.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a copy that was killed
    shutil.copytree(source.member(1), partial, ignore=shutil.ignore_patterns("checkpoints"))
    partial.replace(copy)
    train.tell(f"member 1 is that of {source.path}")


def _resolved(experiment: Experiment) -> Experiment:
    """The experiment as its run keeps it, with what it resolved."""
    return replace(Workdir(experiment.workdir).experiment(), workdir=experiment.workdir)


def _results(experiment: Experiment) -> dict[str, Any] | None:
    """results.json of a finished run, else None.

    A file that cannot be read is told and the run taken for unfinished: its members are judged
    again.

    Raises:
        UserError: when the folder is another run's.
    """
    workdir = Workdir(experiment.workdir)
    workdir.check(experiment)
    try:
        return train.finished(workdir, experiment)
    except (ValueError, TypeError, KeyError):
        train.tell(f"{workdir.results} cannot be read: its run is judged again")
        return None


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Ends the block after so many seconds as SIGTERM would, which saves the training that runs."""
    expired = False

    def expire(_number: int, _frame: object) -> None:
        nonlocal expired
        expired = True
        signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds if math.isfinite(seconds) else 0)
    try:
        yield
    except Interrupted as stop:
        if not expired:
            raise
        train.tell(f"the time is up: {stop}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
