"""`train --track`: a run's journals sent on to a tracker, by a thread that nobody waits for.

The journals are the truth. After each epoch what is new of them is sent, and at the end results,
report and card. tracker.json in the workdir says which run of the tracker this is, how far each
member was sent, and whether the tracker was told the end; where it was not, as after a kill, the
tracker says what it has: each step is there once. What could not be sent, the next start sends.
"""

import contextlib
import logging
import os
import re
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax

from fgvc_jax import config
from fgvc_jax.config import Experiment
from fgvc_jax.utils import digests
from fgvc_jax.utils.errors import UserError, first_line
from fgvc_jax.utils.progress import Reporter
from fgvc_jax.workdir import journal, storage, trackers
from fgvc_jax.workdir.folder import Workdir
from fgvc_jax.workdir.trackers import LoggedStep, Tracker

PATIENCE = 120  # seconds that the end of a run waits for a tracker
HURRY = 10  # likewise of one that is stopped
_END = sys.maxsize
_IDENTITY = re.compile(r"[0-9a-f]{16}")  # of a run
log = logging.getLogger(__name__)


@contextlib.contextmanager
def followed(experiment: Experiment, report: Reporter) -> Iterator[Reporter]:
    """While entered, a tracker follows the run, if one is asked for.

    Args:
        experiment: whose `track` says which.
        report: hears of the run.

    Yields:
        What is to hear of it instead, in the first process.

    Raises:
        UserError: when the tracker's package is missing.
    """
    if experiment.track == "none":
        yield report
        return
    trackers.check(experiment.track)
    follower = Follower(experiment)
    finished = False
    try:
        yield partial(_told, follower, report)
        finished = True
    finally:
        if (finished or follower.begun) and jax.process_index() == 0:
            follower.close(finished=finished)


def _told(follower: "Follower", report: Reporter, line: str, /, **numbers: Any) -> None:
    report(line, **numbers)
    if "step" in numbers:
        follower.wake(numbers["member"], numbers["step"])


class Follower:
    """What sends.

    Args:
        experiment: of the run, and of its tracker.
    """

    def __init__(self, experiment: Experiment):
        self._experiment = experiment
        self._workdir = Workdir(experiment.workdir)
        self._file = self._workdir.path / "tracker.json"
        self._upto = 0, 0  # member and step up to which journals are complete
        self._closing: bool | None = None  # once nothing more comes: whether the run is finished
        self._woken = threading.Event()
        self._tracker: Tracker | None = None
        self._thread: threading.Thread | None = None

    @property
    def begun(self) -> bool:
        """Whether there was anything to send."""
        return self._thread is not None

    def wake(self, member: int, step: int) -> None:
        """Have what journals say up to a step sent."""
        self._upto = member, step
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="tracker", daemon=True)
            self._thread.start()
        self._woken.set()

    def close(self, *, finished: bool) -> None:
        """Send what is left, with the artefacts of a finished run, and wait for it."""
        self._closing = finished
        self.wake(*((_END, _END) if finished else self._upto))
        assert self._thread
        patience = PATIENCE if finished else HURRY
        self._thread.join(patience)
        if self._thread.is_alive():
            self._warn(f"it did not answer in {patience} s")

    def _warn(self, reason: str) -> None:
        name = self._experiment.track
        log.warning(
            "warning: --track %s: %s; training does not depend on it, and the same command sends "
            "what is missing",
            *(name, reason),
        )

    def _run(self) -> None:
        try:
            while True:
                self._woken.wait()
                self._woken.clear()
                closing = self._closing  # before what is sent, so that nothing comes after it
                self._send(self._upto)
                if closing is None:
                    continue
                if closing:
                    self._attach()
                if self._tracker:
                    self._tracker.end(finished=closing)
                    self._state["ended"] = True
                    self._keep()
                return
        except Exception as error:  # whatever a tracker raises
            self._warn(first_line(error))

    @cached_property
    def _state(self) -> dict[str, Any]:
        """tracker.json, of this tracker."""
        name = self._experiment.track
        try:
            found = storage.read_json(self._file)
            if found["track"] == name and _IDENTITY.fullmatch(found["run"]):
                sent = {str(int(number)): int(step) for number, step in found["sent"].items()}
                return {"attached": "", "ended": False, **found, "sent": sent}
        except (FileNotFoundError, UserError, KeyError, TypeError, ValueError, AttributeError):
            pass  # none was begun, or it is damaged
        begun = {"sent": {}, "attached": "", "ended": True}
        return {"track": name, "run": uuid.uuid4().hex[:16], **begun}

    def _keep(self) -> None:
        storage.write_json(self._file, self._state)

    def _opened(self) -> Tracker:
        """The tracker's run, which tracker.json tells before it is begun. How far each member was
        sent is what the tracker has."""
        if self._tracker is None:
            spec, state = self._experiment, self._state
            state["ended"] = False
            self._keep()
            name = os.path.basename(self._workdir.address.rstrip("/"))
            tracker = trackers.TRACKERS[spec.track](
                state["run"], name, dotted(config.to_dict(spec)), self._workdir.path / "tracker"
            )
            state["sent"] = {str(number): tracker.last(number) for number in self._members()}
            self._tracker = tracker
        return self._tracker

    def _members(self) -> list[int]:
        count = self._experiment.members
        return [n for n in range(1, count + 1) if storage.exists(self._journal(n))]

    def _journal(self, number: int) -> Path:
        return self._workdir.member(number) / "metrics.jsonl"

    def _send(self, upto: tuple[int, int]) -> None:
        if self._state["ended"] and not self._new(upto):
            return
        tracker = self._opened()
        if rows := self._new(upto):
            tracker.send(rows)
            for row in rows:
                self._state["sent"][str(row.member)] = row.step
        self._keep()

    def _new(self, upto: tuple[int, int]) -> list[LoggedStep]:
        """What journals say and was not sent, up to a member's step."""
        rows: list[LoggedStep] = []
        for number in self._members():
            if number <= upto[0]:
                last = upto[1] if number == upto[0] else _END
                sent = self._state["sent"].get(str(number), 0)
                lines = journal.read(self._journal(number))
                rows += steps(number, [line for line in lines if sent < line["step"] <= last])
        return rows

    def _attach(self) -> None:
        """Results, report and card, unless these were."""
        digest = digests.of_file(self._workdir.results)
        if self._state["attached"] == digest:
            return
        with tempfile.TemporaryDirectory() as folder:
            files = [self._workdir.results, *reported(self._workdir, Path(folder))]
            self._opened().attach(files)
            self._state["attached"] = digest
            self._keep()


def steps(member: int, lines: list[dict[str, Any]]) -> list[LoggedStep]:
    """A row a step of a journal's lines: where accuracies follow losses, in one."""
    found: dict[int, dict[str, float]] = {}
    for line in lines:
        numbers = {
            name: float(value)
            for name, value in line.items()
            if name != "step" and isinstance(value, (int, float)) and not isinstance(value, bool)
        }
        found[line["step"]] = found.get(line["step"], {}) | numbers
    return [LoggedStep(member, step, found[step]) for step in sorted(found)]


def dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Options as --data.crop has them: {"data": {"crop": 32}} is {"data.crop": 32}."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= dotted(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def reported(workdir: Workdir, folder: Path) -> list[Path]:
    """The report of a finished run and its numbers, among them the card, by another process."""
    words = [workdir.address, "--output", str(folder / "report.html")]
    done = subprocess.run(
        [sys.executable, "-m", "fgvc_jax.report", *words],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no report was made"])[-1])
    return [folder / "report.html", folder / "report.json"]
