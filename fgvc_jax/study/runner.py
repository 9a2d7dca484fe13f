"""Trains the runs of a study that are missing, and keeps what is known of them up to date."""

import difflib
import gc
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fgvc_jax import config
from fgvc_jax.config import Experiment
from fgvc_jax.evaluation import statistics
from fgvc_jax.evaluation.statistics import Key
from fgvc_jax.study import pages
from fgvc_jax.study.definition import Options, Study, experiments
from fgvc_jax.study.ledger import ABANDONED, FAILED, Judge, Ledger, correctness
from fgvc_jax.training import members as train
from fgvc_jax.training import summary
from fgvc_jax.utils.errors import Interrupted, InUse, UserError
from fgvc_jax.utils.signals import Deferred
from fgvc_jax.workdir import begun, locks, mirror, storage
from fgvc_jax.workdir.folder import Workdir

Measure = Callable[[Experiment, dict[str, Any]], dict[str, float]]
Page = Callable[..., str]  # see `pages.report`
ENDLESS = 1e8  # seconds, three years: a system's timer takes no more than some hundred
SECONDS_BETWEEN_LOOKS = 1.0  # at what another process is at


def carry_out(
    study: Study,
    options: Options,
    *,
    measure: Measure | None = None,
    measured: Sequence[str] = (),
    page: Page = pages.report,
    judge: Judge = correctness,
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
    if options.trust_ledger and measure:
        raise UserError("--trust-ledger: the ledger lacks what this study measures of its workdirs")
    opened = Workdir(options.workdir)
    folder = opened.path
    runs = experiments(study, folder=opened.address, seeds=options.seeds)
    check_metrics(options.metrics, runs.values(), measured)
    lines = _ledger_file(options.ledger)
    order = study.order or tuple(study.rows)
    ledger = Ledger(lines, study=study.name, base=study.base, rows=order, judge=judge)
    outcome = Outcome(study, folder, runs, measure, page, options.metrics, ledger)
    outcome.look()
    if options.trust_ledger:
        outcome.trust()
    if options.abandon:
        outcome.abandon(options.abandon)
    elif options.minutes:
        train_missing(outcome, minutes=options.minutes)
    text = outcome.save()
    print(f"\n{text}\n{pages.left(runs, outcome.values)}")
    print(f"saved: {opened.address}/study.md, {opened.address}/study.json")
    if outcome.failures:
        (row, seed), reason = next(iter(outcome.failures.items()))
        raise UserError(f"{len(outcome.failures)} runs failed; {row}, seed {seed}: {reason}")


def _ledger_file(text: str) -> Path:
    """The file that `--ledger` names."""
    folder, _, name = text.rpartition("/")
    there = mirror.is_url(text) and name
    return (
        storage.location(folder, "--ledger") / name if there else storage.location(text, "--ledger")
    )


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
        """Read what earlier starts, and other processes, have left."""
        for key in self.missing():
            self.add(key, _results(self.runs[key]))
        try:
            saved = storage.read_json(self.folder / "study.json")
        except (FileNotFoundError, UserError):
            return
        for run in saved.get("failed", ()):
            key = run["row"], run["seed"]
            if key in self.runs and key not in self.values:
                self.failures[key] = run["reason"]

    def trust(self) -> None:
        """Count runs whose workdirs are gone by their lines of the ledger, but for those that
        another run learns from."""
        teachers = set().union(*map(_teacher, self.runs.values()))
        for key in self.missing():
            run = self.runs[key]
            line = None if run.workdir in teachers else self.ledger.kept(key[0], run)
            if line:
                self.failures.pop(key, None)
                self.results[key] = {"environment": line["environment"]}
                self.values[key] = statistics.measure(line["results"])

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
        self._end(key, FAILED, reason)

    def abandon(self, reason: str) -> None:
        """Enter the runs that were begun and are not finished as given up."""
        for key in self.missing():
            if storage.exists(Workdir(self.runs[key].workdir).config):
                self._end(key, ABANDONED, reason)

    def _end(self, key: Key, status: str, reason: str) -> None:
        known, run = Workdir(self.runs[key].workdir).record().digests, _resolved(self.runs[key])
        self.ledger.unfinished(key[0], run, status=status, reason=reason, known=known)

    def missing(self) -> list[Key]:
        return [key for key in self.runs if key not in self.values]

    def notes(self) -> list[str]:
        """What a reader of the table must know of runs that are not in it, or are not alike."""
        failed = [
            f"failed: {row}, seed {seed}: {why}" for (row, seed), why in self.failures.items()
        ]
        rest = [key for key in self.missing() if key not in self.failures]
        missing = [f"not finished: {pages.grouped(rest)}"] if rest else []
        environments = {key: found["environment"] for key, found in self.results.items()}
        return [*failed, *missing, *pages.mixed(environments)]

    def save(self) -> str:
        """Write study.json and study.md; the text of the latter. Of several processes each in its
        turn, with a look at what the others have left: the last one leaves all runs."""
        with locks.turn(self.folder):
            self.look()
            return self._save()

    def _save(self) -> str:
        values = {key: self.values[key] for key in self.runs if key in self.values}
        compared = statistics.summarize(values, self.study.members)
        name = mirror.by_url(str(self.folder)).rpartition("/")[2]
        text = self.page(self.study, compared, name=name, metrics=self.metrics, notes=self.notes())
        storage.write_json(
            self.folder / "study.json",
            {
                "study": name,
                "base": config.to_dict(self.study.base),
                "rows": asdict(self.study)["rows"],
                "runs": [{"row": row, "seed": seed, **run} for (row, seed), run in values.items()],
                "failed": [
                    {"row": row, "seed": seed, "reason": reason}
                    for (row, seed), reason in self.failures.items()
                ],
                "missing": [{"row": row, "seed": seed} for row, seed in self.missing()],
                "summary": compared,
            },
        )
        storage.write_text(self.folder / "study.md", text)
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
    plain = "ensemble", "single", "published"
    several = "overlap", *(f"overlap_{n}" for n in range(2, most + 1))
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
        run.method.settle(labels).make(classes=2, label_smoothing=0.0, view=run.data.view)
        for run in runs
    )
    return sorted({f"head_{name}" for objective in made for name in objective.heads})


# -- training ------------------------------------------------------------------------------------


def train_missing(outcome: Outcome, *, minutes: float) -> None:
    """Train every run that is not finished, one after the other, until the time is up.

    Runs share the members that are the same. A run that fails on its way (a loss that is not
    finite) does not keep the others from being trained, nor does one that another process trains;
    a mistake that shows before it starts is raised. Whatever ends is saved at once. Several
    processes may do so at once on one folder, also on several hosts: each takes runs nobody is at.
    """
    before, done = set(outcome.failures), set()
    with _time_limit(60 * minutes):
        while key := _next(outcome, before, done):
            done.add(key)
            summary.tell(f"\n[{len(outcome.missing())} left] {key[0]}, seed {key[1]}")
            experiment = outcome.runs[key]
            workdir = Workdir(experiment.workdir)
            try:
                train.train(experiment, lender(outcome.runs.values(), experiment))
            except InUse as error:  # taken by another process since the look
                done.remove(key)
                summary.tell(f"left to others: {error}")
                time.sleep(SECONDS_BETWEEN_LOOKS)
            except UserError as error:
                if not storage.exists(workdir.config):
                    raise
                outcome.fail(key, str(error))
            else:
                outcome.add(key, _results(experiment))
            outcome.save()
            with Deferred():  # what a signal raises in a callback of the collector would be lost
                gc.collect()  # a run's arrays go before the next one's come
    for row, seed in outcome.missing():
        if _is_held(outcome.runs[row, seed]):
            summary.tell(f"left to others: {row}, seed {seed}")


def _next(outcome: Outcome, before: set[Key], done: set[Key]) -> Key | None:
    """The run to train next, None when there is none that somebody else is not at; one that learns
    from another run of the study comes when that is finished.

    At first one of a seed that nobody is at, since runs of a seed often share members. What failed
    elsewhere is not tried again here, unless it had failed `before` this start.
    """
    held = {key for key in outcome.missing() if _is_held(outcome.runs[key])}
    busy = {seed for _, seed in held}
    failed = outcome.failures.keys() - before
    unfinished = {outcome.runs[key].workdir for key in outcome.missing()}
    free = [
        key
        for key in outcome.missing()
        if key not in held | done | failed and not _teacher(outcome.runs[key]) & unfinished
    ]
    return min(free, key=lambda key: key[1] in busy, default=None)


def _is_held(run: Experiment) -> bool:
    """Whether some process is at a run."""
    return locks.held(Workdir(run.workdir).path)


def _teacher(run: Experiment) -> set[str]:
    """The workdir that a run learns from, unless that is its own, which training refuses."""
    return ({run.method.asks.workdir} if run.method.asks else set()) - {run.workdir}


def lender(runs: Iterable[Experiment], borrower: Experiment) -> train.FindTrained:
    """Lends members that one of the runs has trained: those of the training digest asked for.

    One that is being trained just now is waited for, in runs before the borrower's, so that no two
    wait for each other.
    """
    folders = [Workdir(run.workdir) for run in runs]
    earlier = folders[: [folder.path for folder in folders].index(Workdir(borrower.workdir).path)]

    def trained(training: str) -> Path | None:
        for workdir in folders:
            for number in range(1, workdir.trained() + 1):
                if _record(workdir, number).get("training") == training:
                    return workdir.member(number)
        return None

    def awaited(training: str) -> Path | None:
        for workdir in earlier:
            number = workdir.trained() + 1
            if _record(workdir, number).get("training") == training and locks.held(workdir.path):
                return workdir.member(number)
        return None

    def lend(training: str) -> Path | None:
        said = False
        while (found := trained(training)) is None and (folder := awaited(training)):
            if not said:
                summary.tell(f"waiting for {folder}, which another process is training")
            said = True
            time.sleep(SECONDS_BETWEEN_LOOKS)
        return found

    return lend


def _record(workdir: Workdir, number: int) -> dict[str, Any]:
    """What a member says of its training; nothing where that is lost."""
    try:
        return begun.read(workdir, number)
    except UserError:
        return {}


def _resolved(experiment: Experiment) -> Experiment:
    """The experiment as its run keeps it, with what it settled."""
    return replace(Workdir(experiment.workdir).record().experiment, workdir=experiment.workdir)


def _results(experiment: Experiment) -> dict[str, Any] | None:
    """results.json of a finished run, else None; its environment is that of all members.

    A file that cannot be read is told and the run taken for unfinished: its members are judged
    again.

    Raises:
        UserError: when the folder is another run's.
    """
    workdir = Workdir(experiment.workdir)
    workdir.continued(experiment)
    if storage.exists(workdir.results) and workdir.read_results() is None:
        summary.tell(f"{workdir.results} cannot be read: its run is judged again")
    results = workdir.finished(experiment.members)
    if results is None or workdir.moved(experiment):
        return None  # where data or weights are said to be elsewhere, training has a look at them
    members = [_record(workdir, n).get("environment") for n in range(1, experiment.members + 1)]
    others = [one for one in members if one and one != results["environment"]]
    if others:
        results["environment"]["others"] = others
    return results


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Ends the block after so many seconds as SIGTERM would, which saves the training that runs."""
    expired = False

    def expire(_number: int, _frame: object) -> None:
        nonlocal expired
        expired = True
        signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds if seconds < ENDLESS else 0)
    try:
        yield
    except Interrupted as stop:
        if not expired:
            raise
        summary.tell(f"the time is up: {stop}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
