"""Trains the runs of a study that are missing, whose members are shared where they are the same."""

import gc
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fgvc_jax.config import Experiment
from fgvc_jax.evaluation.statistics import Key
from fgvc_jax.study import pages
from fgvc_jax.study.definition import Options, Study, check_metrics, experiments
from fgvc_jax.study.ledger import Judge, Ledger, correctness
from fgvc_jax.study.outcome import Measure, Outcome, Page, member_record, results_of, teacher_of
from fgvc_jax.training import members, summary
from fgvc_jax.utils.errors import Interrupted, InUse, UserError
from fgvc_jax.utils.signals import Deferred
from fgvc_jax.workdir import locks, mirror, storage
from fgvc_jax.workdir.folder import Workdir

ENDLESS = 1e8  # seconds, three years: a system's timer takes no more than some hundred
SECONDS_BETWEEN_LOOKS = 1.0  # at what another process is at


def carry_out(
    study: Study,
    options: Options,
    *,
    measure: Measure | None = None,
    measured: Sequence[str] = (),
    page: Page = pages.study_page,
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
        page: what study.md says, see `pages.study_page`.
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


# -- training ------------------------------------------------------------------------------------


def train_missing(outcome: Outcome, *, minutes: float) -> None:
    """Train every run that is not finished, one after the other, until the time is up.

    Runs share the members that are the same. A run that fails on its way (a loss that is not
    finite) does not keep the others from being trained, nor does one that another process trains;
    a mistake that shows before it starts is raised. Whatever ends is saved at once. Several
    processes may do so at once on one folder, also on several hosts: each takes runs nobody is at.
    """
    before = set(outcome.failures)
    done: set[Key] = set()
    with _time_limit(60 * minutes):
        while key := _next(outcome, before, done):
            done.add(key)
            summary.tell(f"\n[{len(outcome.missing())} left] {key[0]}, seed {key[1]}")
            experiment = outcome.runs[key]
            workdir = Workdir(experiment.workdir)
            try:
                lend = lender(outcome.runs.values(), experiment)
                members.train(experiment, lend, compared=True)
            except InUse as error:  # taken by another process since the look
                done.remove(key)
                summary.tell(f"left to others: {error}")
                time.sleep(SECONDS_BETWEEN_LOOKS)
            except UserError as error:
                if not storage.exists(workdir.config):
                    raise
                outcome.fail(key, str(error))
            else:
                outcome.add(key, results_of(experiment))
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
        if key not in held | done | failed and not teacher_of(outcome.runs[key]) & unfinished
    ]
    return min(free, key=lambda key: key[1] in busy, default=None)


def _is_held(run: Experiment) -> bool:
    """Whether some process is at a run."""
    return locks.held(Workdir(run.workdir).path)


def lender(runs: Iterable[Experiment], borrower: Experiment) -> members.FindTrained:
    """Lends members that one of the runs has trained: those of the training digest asked for.

    One that is being trained just now is waited for, in runs before the borrower's, so that no two
    wait for each other.
    """
    folders = [Workdir(run.workdir) for run in runs]
    earlier = folders[: [folder.path for folder in folders].index(Workdir(borrower.workdir).path)]

    def trained(training: str) -> Path | None:
        for workdir in folders:
            for number in range(1, workdir.trained() + 1):
                if member_record(workdir, number).get("training") == training:
                    return workdir.member(number)
        return None

    def awaited(training: str) -> Path | None:
        for workdir in earlier:
            number = workdir.trained() + 1
            asked = member_record(workdir, number).get("training") == training
            if asked and locks.held(workdir.path):
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
