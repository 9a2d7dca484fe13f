"""The loop that trains ONE member."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from fgvc_jax.data.feed import ahead
from fgvc_jax.training.state import State
from fgvc_jax.utils import devices, processes
from fgvc_jax.utils.errors import Interrupted
from fgvc_jax.utils.progress import Reporter
from fgvc_jax.utils.signals import Deferred
from fgvc_jax.workdir.checkpoint import Checkpoints
from fgvc_jax.workdir.journal import Journal

STEPS_BETWEEN_VOTES = 10  # between two looks at whether another process was asked to stop
SECONDS_BETWEEN_SAVES = 30  # at the least, where epochs are short: a save costs as much as a step


class Pace(NamedTuple):
    """How long a member is trained, and what happens how often."""

    epochs: int
    steps_per_epoch: int
    batch_size: int  # images per step, to tell images per second
    evaluate_every: int  # epochs; the last one is always evaluated
    save_every: int  # steps between checkpoints; 0: at the end of an epoch, but see below
    log_every: int  # steps between lines of metrics.jsonl


def train_loop(
    state: State,
    *,
    folder: Path,
    title: str,
    train_step: Callable,
    train_batches: Callable[[int], Iterator[dict[str, np.ndarray]]],
    evaluate: Callable[[Any, dict[str, int]], dict[str, int | float]],
    mesh: Mesh,
    pace: Pace,
    report: Reporter,
    asked: Deferred,
) -> State:
    """Train from `state`, or from the newest checkpoint in `folder`, to the last epoch.

    Args:
        state: at step 0.
        folder: of this member; gets checkpoints/, metrics.jsonl and tensorboard/.
        title: for the progress bar and messages.
        train_step: (state, batch) -> (state, metrics); donates the state.
        train_batches: first step -> this process's batches from there on.
        evaluate: (variables, {"step", "epoch"}) -> counts and accuracies to write at the end of an
            epoch.
        mesh: devices.
        pace: see `Pace`. With `save_every` 0 a checkpoint is written at the end of an epoch, but
            not within SECONDS_BETWEEN_SAVES of the last.
        report: is told in lines, and after an epoch in numbers.
        asked: tells whether a signal asks for a stop.

    Returns:
        The state after the last step. It is not saved for being the last, nor does a signal during
        it stop here, since the caller keeps what is frozen of it.

    Raises:
        Interrupted: after a signal (`utils.signals`), once the state is saved.
        UserError: when the loss is not finite; the last good checkpoint stays.
    """
    steps_per_epoch = pace.steps_per_epoch
    total = pace.epochs * steps_per_epoch
    checkpoints = Checkpoints(folder / "checkpoints", mesh)
    saved = checkpoints.restore(state.saved())
    if saved is not None:
        state = state.replace(**saved)
    start = int(state.step)
    if start:
        report(f"{title}: continues at step {start} of {total}")
    journal = Journal(
        folder, title=title, start=start, total=total, images_per_step=pace.batch_size,
        write=jax.process_index() == 0,
    )  # fmt: skip
    batches = ahead(train_batches(start), lambda batch: devices.shard_batch(mesh, batch))

    last_save = time.monotonic()
    try:
        journal.doing("compiling")
        for step in range(start + 1, total + 1):
            state, metrics = train_step(state, next(batches))
            journal.step(metrics)
            if step == start + 1:
                jax.block_until_ready(metrics)
                journal.doing("")
                journal.restart_clock()

            epoch, into_epoch = divmod(step, steps_per_epoch)
            position = {"step": step, "epoch": epoch + (into_epoch > 0)}
            ends_epoch = into_epoch == 0
            stops = _agreed(asked, step)
            saves = (
                step % pace.save_every == 0 if pace.save_every else ends_epoch and _due(last_save)
            )
            evaluates = ends_epoch and (epoch % pace.evaluate_every == 0 or epoch == pace.epochs)
            if stops or saves or evaluates:
                # A state is saved only after the losses and gradients that made it are known
                # to be finite.
                journal.flush(position, now=True)
            elif ends_epoch or step % pace.log_every == 0:
                journal.flush(position, now=False)

            if evaluates:
                journal.doing("judging")
                scores = evaluate(state.variables, position)
                journal.write({**position, **scores})
                line = f"{title}  epoch {epoch}/{pace.epochs}  {_summary(scores)}"
                report(line, **position, epochs=pace.epochs, **scores)
                journal.doing("")
                journal.restart_clock()
            if stops or saves:
                journal.publish()
                checkpoints.save(step, state.saved())
                last_save = time.monotonic()
            if stops and step < total:
                asked.number = 0
                raise Interrupted(stops, f"{title} is saved at step {step} of {total}")
    finally:
        journal.close()
        checkpoints.close()
    return state


def _agreed(asked: Deferred, step: int) -> int:
    """The signal that all processes stop for at this step, 0 for none."""
    if jax.process_count() > 1 and step % STEPS_BETWEEN_VOTES:
        return 0
    return processes.largest(asked.number)


def _due(last_save: float) -> bool:
    """Whether it is time to save again, by the clock of the first process."""
    due = time.monotonic() - last_save >= SECONDS_BETWEEN_SAVES
    return bool(processes.of_first(np.bool_(due)))


def _summary(scores: dict[str, int | float]) -> str:
    return "  ".join(f"{k.replace('_', ' ')} {v:.1%}" for k, v in scores.items() if "accuracy" in k)
