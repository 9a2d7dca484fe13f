"""What a member's training leaves to read: metrics.jsonl, TensorBoard, the progress bar."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np

from fgvc_jax.utils import progress
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import locks, storage


class Journal:
    """Metrics of one member's training, fetched late: a window of steps is read from the device
    when the next one is full, so that logging never waits for a step in flight.

    With `write` false (all processes but the first) nothing is written, but values are checked.
    """

    def __init__(
        self, folder: Path, *, title: str, start: int, total: int, images_per_step: int, write: bool
    ):
        self.path = folder / "metrics.jsonl"
        self._boards = folder / "tensorboard"
        self._images = images_per_step
        self._window: list[Mapping[str, jax.Array]] = []
        self._full: tuple[dict[str, int], list[Mapping[str, jax.Array]], int] | None = None
        self._clock = time.perf_counter()  # when the training of the oldest window began
        self._untimed = 0  # steps of the open window that were over when the clock began
        self._done: float | None = None  # when the full window was first seen to be computed
        self._bar = progress.bar(
            total=total, initial=start, desc=title, unit="step", disable=None if write else True,
            dynamic_ncols=True, leave=False,
        )  # fmt: skip
        self._written: tuple[IO[str], Any] | None = None  # metrics.jsonl, and TensorBoard's writer
        if write:
            from tensorboardX import SummaryWriter

            keep = [line for line in read(self.path) if line["step"] <= start]
            storage.write_text(self.path, "".join(json.dumps(line) + "\n" for line in keep))
            file = storage.append(self.path)
            self._written = file, SummaryWriter(str(self._boards), purge_step=start + 1)

    def step(self, metrics: Mapping[str, jax.Array]) -> None:
        """Remember one step's metrics without waiting for them."""
        self._window.append(metrics)
        self._bar.update(1)
        self._look()

    def restart_clock(self) -> None:
        """Do not count what came before (compilation, an evaluation) as training time."""
        self._clock, self._untimed = time.perf_counter(), len(self._window)

    def doing(self, what: str) -> None:
        """Say beside the bar what goes on; empty: only steps."""
        self._bar.set_postfix_str(what)

    def flush(self, position: dict[str, int], *, now: bool) -> None:
        """Close the window at `position` and write the one before it, or this one too if `now`.

        Raises:
            UserError: when a loss or gradient of the written steps is not finite.
        """
        self._write_window()
        if self._window:
            self._full = position, self._window, len(self._window) - self._untimed
        self._window, self._untimed = [], 0
        self._look()
        if now:
            self._write_window()

    def _look(self) -> None:
        """Note the time once the full window is computed: steps are dispatched long before."""
        if self._full and self._done is None and jax.tree.leaves(self._full[1][-1])[0].is_ready():
            self._done = time.perf_counter()

    def _write_window(self) -> None:
        if self._full is None:
            return
        (position, window, timed), self._full = self._full, None
        window = jax.device_get(window)
        done, self._done = self._done or time.perf_counter(), None
        seconds, self._clock = done - self._clock, done
        mean = {k: sum(float(m[k]) for m in window) / len(window) for k in window[0]}
        for offset, values in enumerate(window, start=position["step"] - len(window) + 1):
            bad = [k for k, v in values.items() if not math.isfinite(v)]
            if bad:
                raise UserError(
                    f"{bad[0]} is not finite at step {offset}: the last good checkpoint is kept; "
                    "lower --optimizer.learning-rate or set --optimizer.clip-norm, "
                    "in a new --workdir"
                )
        summary = f"loss {mean['loss']:.3f}, accuracy {mean['accuracy']:.1%}"
        if timed:
            rate = self._images * timed / seconds
            mean |= {"images_per_second": rate, "seconds": seconds}
            summary += f", {rate:.0f} images/s"
        self.write({**position, **mean})
        self._bar.set_postfix_str(summary)

    def write(self, line: dict[str, Any]) -> None:
        """Append one JSON object, and its scalars to TensorBoard."""
        if self._written:
            file, board = self._written
            locks.check_lease(self.path)
            file.write(json.dumps(line) + "\n")
            file.flush()
            for name, value in line.items():
                if name not in ("step", "epoch"):
                    board.add_scalar(name, value, line["step"])

    def publish(self) -> None:
        """Have others see what was written so far, see `storage.publish`."""
        if self._written:
            _, board = self._written
            board.flush()
            for path in (self.path, *sorted(self._boards.iterdir())):
                storage.publish(path)

    def close(self) -> None:
        self._bar.close()
        self.publish()
        for each in self._written or ():
            each.close()


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; those that are damaged, as by a kill, are left out."""
    lines = []
    try:
        content = storage.read_bytes(path)
    except FileNotFoundError:
        return []
    for text in content.splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines


def by_epoch(lines: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """A journal by epoch: accuracies after it, means over the steps that are logged of the losses
    in it.

    Args:
        lines: of metrics.jsonl.
    """
    found: dict[int, dict[str, list[float]]] = {}
    for line in lines:
        epoch = found.setdefault(line["epoch"], {})
        for key in ("loss", "orthogonal", "test_accuracy", "validation_accuracy"):
            if isinstance(line.get(key), (int, float)):
                epoch.setdefault(key, []).append(line[key])
    return [
        {"epoch": epoch, **{key: float(np.mean(values)) for key, values in each.items()}}
        for epoch, each in sorted(found.items())
    ]
