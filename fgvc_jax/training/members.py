"""Trains the members of an experiment one after the other, and has them judged."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fgvc_jax import config, networks
from fgvc_jax.config import Experiment
from fgvc_jax.data import left_out, sources
from fgvc_jax.data.images import Broken
from fgvc_jax.data.left_out import LeftOut
from fgvc_jax.inference.architecture import Member
from fgvc_jax.training import evaluator, loop, solving, suitability, summary, tracking
from fgvc_jax.training.precomputed import SummedAttention, check_apart, shared_folder
from fgvc_jax.training.prepared import open_dataset
from fgvc_jax.training.run import Run
from fgvc_jax.utils import compilation, digests, processes, progress
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.progress import Reporter
from fgvc_jax.utils.signals import SIGNALS, Deferred
from fgvc_jax.workdir import begun, checkpoint, columns, storage, taxonomy, training_images
from fgvc_jax.workdir import unread as unread_images
from fgvc_jax.workdir.folder import Workdir
from fgvc_jax.workdir.record import ELSEWHERE

log = logging.getLogger(__name__)
_CHECKPOINTS = "checkpoints"  # folder of a member in training
_NOT_LENT = _CHECKPOINTS, "tensorboard"  # of a member
# Training digest -> the folder of a member that was trained just so, elsewhere; or None.
FindTrained = Callable[[str], Path | None]


def train(
    experiment: Experiment,
    lend: FindTrained = lambda digest: None,
    *,
    report: Reporter = summary.tell,
    signals: Sequence[int] = SIGNALS,
    compared: bool = False,
) -> dict[str, Any]:
    """Train what is missing of an experiment, judge all members, and return results.json.

    The one entrance to training: whatever the command checks is checked here.

    Args:
        experiment: its `workdir` is where it begins or continues.
        lend: asked for each member before it is trained.
        report: hears of it in the first process.
        signals: see `signals.Deferred`.
        compared: for a study, which asks for results alone: training photographs are not kept for
            neighbours (`evaluate` does so later), and what a run without calibration cannot do is
            not said.

    Raises:
        UserError: for what makes no sense, does not fit the workdir, or goes wrong on the way.
        Interrupted: after a signal (`utils.signals`); what was finished is kept.
    """
    experiment = config.check(experiment)
    with tracking.followed(experiment, report) as report:
        return _train(experiment, lend, report, signals, compared)


def _train(
    experiment: Experiment,
    lend: FindTrained,
    report: Reporter,
    signals: Sequence[int],
    compared: bool,
) -> dict[str, Any]:
    """See `train`."""
    began = time.perf_counter()
    workdir = Workdir(experiment.workdir)
    compilation.use_compilation_cache()
    if experiment.distributed:
        processes.join_processes()
        processes.check_alike(experiment, ELSEWHERE)
    first = jax.process_index() == 0
    report = report if first else summary.ignore

    for path in (workdir.path, shared_folder(experiment) or ""):
        sources.check_outside(experiment.data.source, path)
    if asked := experiment.method.asks:
        check_apart(asked, workdir)
    experiment = workdir.continued(experiment)
    results = workdir.finished(experiment.members)
    if results and not workdir.moved(experiment):
        for line in begun.check_all(workdir, workdir.record(), experiment.members):
            report(line)
        check_data(workdir, experiment)
        if first and (told := evaluator.judge_families_anew(workdir, results, experiment)):
            report(told)
        several = f"all {experiment.members} members are" if experiment.members > 1 else "it is"
        report(f"{workdir.path}: {several} trained; nothing to do")
        return results

    run = Run(experiment)
    families = taxonomy.asked(workdir.path, experiment, run.splits.classes, run.splits.lineages)
    with remembering_broken(run, workdir):
        unread = leave_out(run, workdir, run.images.look(unread_images.suspects(workdir)))
        report(summary.describe(run))
        if (run.trunk or run.embeddings) and not experiment.network.weights:
            what = "trunk" if run.trunk else "network"
            report(
                f"the frozen {what} has random weights: name pretrained ones by --network.weights"
            )
        if run.shared:
            report(
                f"adapters of rank {run.experiment.network.lora_rank}: no features are kept, since "
                "each member makes others of the trunk, which runs whole in every step, and once "
                "for each member wherever an ensemble is asked"
            )
        with progress.in_first("looking at weights"):
            run.start.check()  # before all images are decoded
        unread += leave_out(run, workdir, run.images.undecodable())
        with progress.in_first("getting ready"):
            run.check_input()
    for line in summary.of_teachers(run):
        report(line)
    if first and not workdir.trained():
        with progress.waiting("looking whether weights and images go together"):
            doubts = suitability.doubts(run)
        for line in doubts:
            log.warning("warning: %s", line)
    with processes.held_by_first(workdir.lock):
        workdir.continued(run.experiment)
        if not storage.exists(workdir.config):
            begun.check_lost(workdir, run.record)
        run.record = workdir.check(run.record, unread)
        processes.wait_for_all("the workdir fits")
        if first:
            workdir.claim(run.record)
            taxonomy.keep(workdir.path, experiment, families)
            columns.keep(workdir.path, experiment.data.source, run.splits.test.names)
            unread_images.keep(workdir, run.left_out)
            training_images.keep(workdir, run.marks("train"))
            if workdir.trained() < experiment.members:
                storage.remove(workdir.results)  # which are of other members from here on
        processes.check_shared(
            partial(storage.exists, workdir.config), f"--workdir {experiment.workdir!r}"
        )
        if not first:  # whose data and weights are those of the first
            workdir.check(run.record, unread)
        if run.trunk and not processes.of_first(np.bool_(storage.exists(workdir.trunk))):
            checkpoint.save_final(workdir.trunk, run.trunk.on_devices)
        frozen: list[tuple[str, Member]] = []
        with (
            remembering_broken(run, workdir),
            config.flagged(run.experiment),
            _memory_told(run.experiment),
        ):
            for number in range(1, experiment.members + 1):
                frozen.append(member(run, workdir, number, frozen, lend, report, signals))
            machine = summary.environment(run)
            results = evaluator.judge_run(run, workdir, frozen, machine, report, compared=compared)
        results["seconds"]["this_process"] = time.perf_counter() - began
        if first:
            storage.write_json(workdir.results, results)
    return results


def leave_out(run: Run, workdir: Workdir, found: Sequence[LeftOut]) -> list[LeftOut]:
    """Leave out images that turn out to be broken, and those that the run left out when it began; a
    warning names them.

    Returns:
        Those that are broken now but were used when the run began.

    Raises:
        UserError: when these are too many, see `left_out.check`.
    """
    names, before = run.splits.names, unread_images.left_out(workdir)
    known, broken = {each.name for each in before}, {each.name for each in found}
    run.leave_out(before, found)
    lines = [left_out.told(found, len(names))] if found else []
    mended = sorted((known & names) - broken)
    if mended:
        more = f" and {len(mended) - 1:,} more" if len(mended) > 1 else ""
        lines.append(
            f"{workdir.path} was begun without {mended[0]!r}{more}, which can be read now, and "
            "goes on without: name another --workdir to have all"
        )
    if jax.process_index() == 0:
        for line in lines:
            log.warning("warning: %s", line)
    begun_here = storage.exists(workdir.config)
    return [each for each in found if begun_here and each.name not in known]


@contextlib.contextmanager
def remembering_broken(run: Run, workdir: Workdir) -> Iterator[None]:
    """Have a workdir that there is remember that a test image is broken: nothing was learned from
    it, so that it may be repaired or removed (`Workdir.check`)."""
    try:
        yield
    except Broken as error:
        if storage.exists(workdir.config) and evaluator.is_tested(run, error.names):
            storage.write_json(workdir.broken, {"images": error.names})
        raise


def check_data(workdir: Workdir, experiment: Experiment) -> None:
    """Refuse to call a run finished whose data, by names and sizes, are others by now. A dataset
    that has gone is no matter.

    Raises:
        UserError: with what changed.
    """
    try:
        before = {each.name for each in unread_images.left_out(workdir)}
        splits = left_out.without(open_dataset(experiment), before)
    except UserError as error:
        log.info("the data are not compared: %s", error)
        return
    saved = workdir.record()
    now = replace(
        saved, classes=splits.classes, digests=saved.digests | digests.of_data(splits, {})
    )
    if others := saved.others(now):
        raise UserError(
            f"workdir {str(workdir.path)!r} is finished, and the data are no longer those: it had "
            f"{others}; name another --workdir, or judge by python -m fgvc_jax.evaluate --source"
        )


def member(
    run: Run,
    workdir: Workdir,
    number: int,
    frozen: list[tuple[str, Member]],
    lend: FindTrained,
    report: Reporter,
    signals: Sequence[int],
) -> tuple[str, Member]:
    """(digest, the member) of a number: read, borrowed or trained against the frozen ones."""
    folder, final = workdir.member(number), workdir.final(number)
    plan = run.plan(number).architecture
    teachers = [digest for digest, _ in frozen]
    goes_on = storage.exists(final) or checkpoint.begun(folder / _CHECKPOINTS)
    if goes_on and (others := begun.check(workdir, run.record, number, teachers)):
        report(begun.told(number, others))
    training = run.record.training(number, teachers)
    if jax.process_index() == 0 and not storage.exists(final) and (lent := lend(training)):
        storage.copy_folder(lent, folder, last=final.name, leave_out=_NOT_LENT)
        report(f"member {number} is that of {lent.parent.parent}")
    if processes.of_first(np.bool_(storage.exists(final))):
        _drop_checkpoints(run, folder)  # of one that was killed before it could
        variables = checkpoint.load_final(final, plan.variables, run.mesh)
        return digests.of_arrays(variables), run.member(number, variables)

    known = begun.read(workdir, number)
    if jax.process_index() == 0:
        if not goes_on:
            begun.forget_epochs(workdir, number)
        if not (goes_on and known):
            known = begun.write(workdir, run.record, number, teachers)
    run.cache.prepare(number, attention_before(run, number, frozen), report)
    with Deferred(signals) as asked:
        scores: dict[str, Any] = {}
        if run.experiment.method.solves:
            variables = solving.solve_member(run, workdir, report, asked)
        else:
            variables, scores = train_member(run, workdir, number, frozen, report, asked)
        identity = digests.of_arrays(variables)
        if jax.process_index() == 0:
            storage.write_json(
                folder / begun.FILE,
                {
                    **known,
                    "variables": identity,
                    "scores": scores,
                    "seconds": evaluator.seconds(folder),
                    "environment": summary.environment(run),
                },
            )
        with progress.in_first(f"keeping member {number}/{run.experiment.members}"):
            checkpoint.save_final(final, variables)
        _drop_checkpoints(run, folder)
        asked.number = processes.largest(asked.number)
    return identity, run.member(number, variables)


def _drop_checkpoints(run: Run, folder: Path) -> None:
    """Remove the checkpoints of a finished member: they are several times as large as what it
    learned, and nothing reads them any more."""
    if run.experiment.keep_checkpoints or jax.process_index() > 0:
        return
    if storage.matching(folder / _CHECKPOINTS, "*"):
        storage.remove(folder / _CHECKPOINTS)


def attention_before(
    run: Run, number: int, frozen: Sequence[tuple[str, Member]]
) -> SummedAttention | None:
    """Attention of the frozen members, (digest, member) in order, before member `number`; None
    where it is not precomputed."""
    spec = run.experiment
    if spec.transfer.name == "none" or spec.transfer.maps == "online":
        return None
    before = [spec.of(n).network for n in range(1, number)]
    return SummedAttention(
        members=tuple(frozen),
        parts=[networks.parts(n.name, dtype=n.dtype, kept=bool(n.frozen)) for n in before],
        grid=run.plan(number).architecture.grid,
        grids=sorted({plan.architecture.grid for plan in run.plans}),
        view=spec.data.view,
        seed=spec.data.view_seed,
        trunk=run.record.digests["trunk"],
        batch_size=spec.batch_size,
        mesh=run.mesh,
        behind=bool(run.features),
    )


def train_member(
    run: Run,
    workdir: Workdir,
    number: int,
    frozen: list[tuple[str, Member]],
    report: Reporter,
    asked: Deferred,
) -> tuple[Any, dict[str, Any]]:
    """Train member `number` against the frozen ones; its variables and the last epoch's scores."""
    spec, folder = run.experiment, workdir.member(number)
    store = run.images["train"].store if not run.features else None
    judged = evaluator.Epochs(run, number, folder)
    train_step = run.plan(number).train_step
    with progress.in_first(f"member {number}/{spec.members} begins"):
        begin = run.state(number, [member.variables for _, member in frozen])
    state = loop.train_loop(
        begin,
        folder=folder,
        title=f"member {number}/{spec.members}",
        train_step=lambda state, batch: train_step(
            state, run.cache.complete(batch), store, *run.shared
        ),
        train_batches=lambda start: run.train_batches(number, start),
        evaluate=judged,
        mesh=run.mesh,
        pace=loop.Pace(
            epochs=spec.epochs,
            steps_per_epoch=run.steps_per_epoch,
            batch_size=spec.batch_size,
            evaluate_every=spec.evaluate_every,
            save_every=spec.save_every,
            log_every=spec.log_every,
        ),
        report=partial(report, member=number, members=spec.members),
        asked=asked,
    )
    return state.variables, judged.last or evaluator.evaluate_member(
        run, run.member(number, state.variables)
    )


@contextlib.contextmanager
def _memory_told(spec: Experiment) -> Iterator[None]:
    """Turn a device's error of having no memory left into a line that names what needs less."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        parts = 2 * spec.optimizer.accumulate
        divides = spec.batch_size % parts == 0 and not spec.method.solves
        ways = [f"--optimizer.accumulate {parts}"] if divides else []
        ways += ["a smaller --batch-size", f"a --data.crop below {spec.data.crop}"]
        raise UserError(
            f"the device has no memory for a step on {spec.batch_words} images of {spec.data.crop} "
            f"px: take {', or '.join(ways)}, in a new --workdir; where it was in evaluation, a "
            f"--evaluation-batch-size below {spec.evaluation_batch_size} in this one"
        ) from error
