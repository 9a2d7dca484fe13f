"""Solves ONE member: a frozen network with a head that is solved, not trained by steps."""

import time

import jax
import jax.numpy as jnp
import numpy as np
from flax.typing import VariableDict

from fgvc_jax import config
from fgvc_jax.data.records import Source, Subset
from fgvc_jax.evaluation import learning_curve
from fgvc_jax.inference.passes import kept_answers
from fgvc_jax.objectives.base import HeldOut, Solved
from fgvc_jax.training import novel
from fgvc_jax.training.run import Run
from fgvc_jax.utils import devices, digests, processes, progress
from fgvc_jax.utils.errors import Interrupted
from fgvc_jax.utils.progress import Reporter
from fgvc_jax.utils.signals import Deferred
from fgvc_jax.workdir import predictions, remembered
from fgvc_jax.workdir.folder import Workdir
from fgvc_jax.workdir.journal import Journal

BLOCK = 1024  # images whose distances are looked for at a time


def solve_member(run: Run, workdir: Workdir, report: Reporter, asked: Deferred) -> VariableDict:
    """Solve the only member of a run; its variables. There is no epoch that could be selected.

    Args:
        run: whose objective `solves`, and whose embeddings are stored.
        workdir: gets the member's metrics.jsonl and tensorboard/, and what is said of training
            images that were held out.
        report: is told in lines.
        asked: tells whether a signal asks for a stop.

    Raises:
        Interrupted: after a signal; the embeddings are kept.
    """
    spec, train, began = run.experiment, run.splits.train, time.perf_counter()
    start = run.start.variables(1)
    none, nothing = np.zeros(0, int), np.zeros((0, 0), np.float32)
    solved = Solved({}, {}, HeldOut(none, nothing, np.zeros(0, np.float32), none))
    chosen: dict[str, float] = {}
    groups = np.arange(len(train)) if train.groups is None else _numbered(train)
    if jax.process_index() == 0:
        with progress.bar(desc=spec.objective, unit=" steps", leave=False) as bar:

            def watch(said: str) -> None:
                if said:
                    bar.set_postfix_str(said)
                bar.update()
                if asked.number:
                    raise Interrupted(asked.number, "the embeddings are kept")

            with config.flagged(spec):
                embeddings = run.cache.embeddings().astype(np.float32)
                solved = spec.method.solve(
                    embeddings,
                    train.labels,
                    groups,
                    classes=len(run.splits.classes),
                    seed=spec.seed,
                    watch=watch,
                )
                if solved.refit:
                    watch("new classes")
                    of_all = embeddings, train.labels, groups
                    chosen = novel.choose(*of_all, solved.refit, spec.seed)
    head = {**start["params"]["heads"]["logits"], **solved.params}
    heads = {**start["params"]["heads"], "logits": jax.tree.map(processes.of_first, head)}
    variables = devices.replicate(
        run.mesh, {**start, "params": {**start["params"], "heads": heads}}
    )
    journal = Journal(
        workdir.member(1), title=spec.objective, start=0, total=1, images_per_step=len(train),
        write=jax.process_index() == 0,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    try:
        journal.write({"step": 1, "epoch": 1, **solved.metrics, "seconds": seconds})
    finally:
        journal.close()
    if jax.process_index() == 0:
        with progress.waiting("keeping what was held out"):
            _keep(run, workdir, variables, solved, groups, chosen)
    decay = solved.metrics.get("weight_decay")
    report(f"{spec.objective}: {f'weight decay {decay:g}, ' if decay else ''}{seconds:.1f} s")
    return variables


def _numbered(train: Source) -> np.ndarray:
    """(N,) int: the group of each image; those without one are alone."""
    groups, count = np.asarray(train.groups), len(train)
    numbers = np.unique(groups, return_inverse=True)[1]
    return np.where(groups == "", len(numbers) + np.arange(count), numbers)


def _keep(
    run: Run,
    workdir: Workdir,
    variables: VariableDict,
    solved: Solved,
    groups: np.ndarray,
    chosen: dict[str, float],
) -> None:
    """Keep what is said of training images that were held out, for whoever wants answers for images
    that nothing was learned from; by what new classes are told, see `novel.choose`; and what more
    images would bring, see `learning_curve.curve_of`."""
    held_out, train = solved.held_out, run.splits.train
    part = predictions.part_of(
        workdir.path,
        predictions.HELD_OUT,
        Subset(train, held_out.rows),
        classes=run.splits.classes,
        view=run.experiment.data.view,
        images=run.record.held_out,
    )
    identity = digests.of_arrays(variables)
    predictions.keep_chosen(part, identity, chosen)
    if solved.fewer:
        said = {share: each.log_probabilities for share, each in solved.fewer.items()}
        said[1.0] = held_out.log_probabilities
        found = learning_curve.curve_of(train.labels, groups, held_out.rows, held_out.heads, said)
        predictions.keep_curve(part, identity, found)
    with predictions.keep(part, [identity], [(1, 1)], novel=True) as arrays:
        answers, attention, novelty = arrays[0]
        largest = held_out.energy - held_out.log_probabilities.max(-1)
        far = _distances(run, workdir, held_out.rows, groups)
        novelty[:] = np.stack([held_out.energy, largest, far], axis=-1)
        answers[:] = np.asarray(kept_answers(jnp.asarray(held_out.log_probabilities)))
        attention[:] = 0  # nobody asked where anything was looked at


def _distances(run: Run, workdir: Workdir, held_out: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(n,) of images that were held out, by their rows: to the nearest training photograph of
    another group that the run will keep."""
    embeddings = run.cache.embeddings()
    most = remembered.fitting(embeddings.shape[1])
    _, rows = remembered.part_of(workdir.path, run.splits.train, run.record, most)
    kept, found = embeddings[rows].astype(np.float32), []
    for start in range(0, len(held_out), BLOCK):
        some = held_out[start : start + BLOCK]
        apart = groups[some, None] == groups[rows]
        found.append(novel.distances(embeddings[some].astype(np.float32), kept, apart))
    return np.concatenate(found or [np.zeros(0)])
