"""The loop that trains ONE member."""

import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from fgvc_jax.engine import mesh as devices
from fgvc_jax.engine.checkpoint import Checkpoints
from fgvc_jax.engine.journal import Journal
from fgvc_jax.engine.state import State
from fgvc_jax.errors import Interrupted

STEPS_BETWEEN_VOTES = 10  # between two looks at whether another process was asked to stop
SECONDS_BETWEEN_SAVES = 30  # at the least, where epochs are short: a save costs as much as a step


def train_member(
    state: State,
    *,
    folder: Path,
    title: str,
    train_step: Callable,
    train_batches: Callable[[int], Iterator[dict[str, np.ndarray]]],
    store: jax.Array | None,
    evaluate: Callable[[Any], dict[str, int | float]],
    mesh: Mesh,
    epochs: int,
    steps_per_epoch: int,
    batch_size: int,
    evaluate_every: int,
    save_every: int,
    log_every: int,
    report: Callable[[str], None],
) -> State:
    """Train from `state`, or from the newest checkpoint in `folder`, to the last epoch.

    Args:
        state: at step 0.
        folder: of this member; gets checkpoints/, metrics.jsonl and tensorboard/.
        title: for the progress bar and messages.
        train_step: (state, batch, store) -> (state, metrics); donates the state.
        train_batches: first step -> this process's batches from there on.
        store: the training images on the device, or None.
        evaluate: variables -> exact counts and accuracies to write at the end of an epoch.
        mesh: devices.
        epochs: to train for.
        steps_per_epoch: optimizer steps.
        batch_size: images per step, to tell images per second.
        evaluate_every: epochs; the last one is always evaluated.
        save_every: steps between checkpoints; 0 saves at the end of an epoch, but not within
            SECONDS_BETWEEN_SAVES of the last time.
        log_every: steps between lines of metrics.jsonl.
        report: prints a line for people.

    Returns:
        The state after the last step. It is not saved for being the last, since the caller keeps
        what is frozen of it.

    Raises:
        Interrupted: after SIGINT or SIGTERM, once the state is saved.
        UserError: when the loss is not finite; the last good checkpoint stays.
    """
    total = epochs * steps_per_epoch
    checkpoints = Checkpoints(folder / "checkpoints", mesh)
    saved = checkpoints.restore(state.saved())
    if saved is not None:
        state = state.replace(**saved)
    start = int(state.step)
    if start:
        report(f"{title}: continues at step {start} of {total}")
    journal = Journal(
        folder, title=title, start=start, total=total, images_per_step=batch_size,
        write=jax.process_index() == 0,
    )  # fmt: skip
    batches = ahead(train_batches(start), lambda batch: devices.shard_batch(mesh, batch))

    last_save = time.monotonic()
    with Stop() as stop:
        try:
            for step in range(start + 1, total + 1):
                state, metrics = train_step(state, next(batches), store)
                journal.step(metrics)
                if step == start + 1:
                    jax.block_until_ready(metrics)
                    journal.restart_clock()

                epoch, into_epoch = divmod(step, steps_per_epoch)
                position = {"step": step, "epoch": epoch + (into_epoch > 0)}
                ends_epoch = into_epoch == 0
                stops = stop.agreed(step)
                saves = step % save_every == 0 if save_every else ends_epoch and _due(last_save)
                evaluates = ends_epoch and (epoch % evaluate_every == 0 or epoch == epochs)
                if stops or saves or evaluates:
                    # A state is saved only after the losses and gradients that made it are known
                    # to be finite.
                    journal.flush(position, now=True)
                elif ends_epoch or step % log_every == 0:
                    journal.flush(position, now=False)

                if evaluates:
                    scores = evaluate(state.variables)
                    journal.write({**position, **scores})
                    report(f"{title}  epoch {epoch}/{epochs}  {_summary(scores)}")
                    journal.restart_clock()
                if stops or saves:
                    checkpoints.save(step, state.saved())
                    last_save = time.monotonic()
                if stops:
                    raise Interrupted(stops, f"{title} is saved at step {step} of {total}")
        finally:
            journal.close()
            checkpoints.close()
    return state


def ahead(batches: Iterator, put: Callable, depth: int = 2) -> Iterator:
    """Keep `depth` batches on their way to the devices while a step runs."""
    queue: deque = deque()
    for batch in batches:
        queue.append(put(batch))
        if len(queue) > depth:
            yield queue.popleft()
    yield from queue


class Stop:
    """While entered, SIGINT and SIGTERM ask for a stop after the current step; a second SIGINT, or
    one during a step that never ends, interrupts at once."""

    def __enter__(self) -> "Stop":
        self._signal = 0
        self._before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: object) -> None:
        if self._signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number

    def agreed(self, step: int) -> int:
        """The signal that all processes stop for at this step, 0 for none."""
        if jax.process_count() == 1:
            return self._signal
        if step % STEPS_BETWEEN_VOTES:
            return 0
        return int(multihost_utils.process_allgather(np.int32(self._signal)).max())


def _due(last_save: float) -> bool:
    """Whether it is time to save again, by the clock of the first process."""
    due = time.monotonic() - last_save >= SECONDS_BETWEEN_SAVES
    return bool(multihost_utils.broadcast_one_to_all(np.bool_(due)))


def _summary(scores: dict[str, int | float]) -> str:
    return "  ".join(f"{k.replace('_', ' ')} {v:.1%}" for k, v in scores.items() if "accuracy" in k)
