"""Kill a run again and again and compare what comes out with an uninterrupted one, bit for bit.

    python scripts/chaos.py [--kills 5] [--seed 0]
    python scripts/chaos.py --processes 2 4 --devices 4 --kills 20 --folder runs/chaos --minutes 8
    python scripts/chaos.py --processes 2 4 --devices 0 --kills 20

Trains configs/tiny.py twice: once in peace, once under SIGKILL, each time followed by the same
command. The kills come in turn during a save, at any moment after the start, during a restore, a
pass over attention maps and an evaluation, further and further into the run, the last one while
the members are judged. Where a run has several processes a random one is killed, and the others
must end by themselves within 15 seconds, with one line each. Prints what was hit, and whether
parameters, batch statistics, optimizer state and results are equal. With --folder the same command
continues after the kill that it came to. Exit code 1 if something is not as it must be.
"""

from fgvc_jax.commands import start

if __name__ == "__main__":
    start.prepare()

import contextlib
import functools
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from benchmarks import record
from orbax.checkpoint import CheckpointManager

from fgvc_jax.commands import train
from fgvc_jax.training import evaluator
from fgvc_jax.training.precomputed.store import Store
from fgvc_jax.training.run import Run
from fgvc_jax.utils.command_line import command_line
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import markdown_table
from fgvc_jax.workdir import storage
from fgvc_jax.workdir.checkpoint import Checkpoints
from fgvc_jax.workdir.folder import Workdir

CONFIG = Path(__file__).parents[1] / "configs/tiny.py"
STEPS_PER_EPOCH = 4  # of this experiment
PATIENCE = 15.0  # seconds for the others to end after one was killed
SAVE, ANY, RESTORE, MAPS, EVALUATION = "save", "any moment", "restore", "map pass", "evaluation"
# What kills come during, in turn, and seconds that one waits at the most once that has begun.
MOMENTS = {SAVE: 0.02, ANY: 10.0, RESTORE: 0.1, MAPS: 0.2, EVALUATION: 0.3}
MARKS = "CHAOS_MARKS"  # in a process of the run: names the file where it tells what it is at
MARKED = {
    RESTORE: [(CheckpointManager, "restore")],
    MAPS: [(Store, "make")],
    EVALUATION: [(evaluator, "evaluate_member"), (evaluator, "keep_answers")],
}
OVER = "-"  # instead of one of them


@dataclass(frozen=True)
class Options:
    """SIGKILL a tiny run at random moments, continue it, and compare with an uninterrupted one."""

    kills: int = 5
    """How often."""
    members: int = 6
    """Members of the run."""
    epochs: int = 3
    """Epochs per member."""
    processes: tuple[int, ...] = (1,)
    """Of the run; with several numbers each start takes the next one, round and round."""
    devices: int = 2
    """Of all processes together; 0: one for each process, so that their number may change between
    starts, and accuracies are compared, within one image, instead of bits."""
    seed: int = 0
    """Of the moments, and of who is killed."""
    folder: str = ""
    """Where the runs and kills.jsonl are kept, to continue; empty: nowhere."""
    minutes: float = 0.0
    """Begin no further start after so many minutes; 0: go on to the end."""
    write: bool = False
    """Keep the table in scripts/BENCHMARKS.md."""


# -- the run ---------------------------------------------------------------------------------------


def marked(arguments: list[str]) -> None:
    """The command `train`, which tells a file what it is at."""
    file = os.open(os.environ[MARKS], os.O_WRONLY | os.O_APPEND)
    for moment, functions in MARKED.items():
        for owner, name in functions:
            setattr(owner, name, _marking(file, moment, getattr(owner, name)))
    train.main(arguments)


def _marking(file: int, moment: str, function: Callable) -> Callable:
    @functools.wraps(function)
    def marks(*arguments: Any, **options: Any) -> Any:
        os.write(file, f"{moment}\n".encode())
        try:
            return function(*arguments, **options)
        finally:
            os.write(file, f"{OVER}\n".encode())

    return marks


class Job:
    """One start of the command `train`, in one or several processes, which have found each other
    once it is made."""

    def __init__(self, workdir: Path, options: Options, count: int):
        self.workdir = workdir
        self.marks = [workdir.with_name(f"marks.{index}") for index in range(count)]
        words = [sys.executable, __file__, "--config", CONFIG, "--workdir", workdir,
                 "--members", options.members, "--epochs", options.epochs,
                 "--save-every", "1", "--keep-checkpoints"]  # fmt: skip
        words += ["--distributed", "True"] if count > 1 else []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.processes: list[subprocess.Popen] = []
        for index, marks in enumerate(self.marks):
            marks.write_text("")
            names = {
                "JAX_NUM_CPU_DEVICES": options.devices // count or 1,
                "JAX_COORDINATOR_ADDRESS": address,
                "JAX_NUM_PROCESSES": count,
                "JAX_PROCESS_ID": index,
                # XLA divides operations by its threads: as many as cores, or devices if more.
                "NPROC": max(options.devices // min(options.processes), 1),
                MARKS: marks,
            }
            environment = os.environ | {name: str(value) for name, value in names.items()}
            self.processes.append(
                subprocess.Popen(
                    [str(word) for word in words],
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
                )
            )  # fmt: skip
        for line in self.processes[0].stdout:  # until all have joined, nobody is missed
            if line.startswith("sketchbirds: "):
                break

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()

    def over(self) -> bool:
        return all(process.poll() is not None for process in self.processes)

    def until(self, holds: Callable[[], bool], seconds: float = float("inf")) -> bool:
        """Wait until something holds, for so long; whether it does, before the job is over."""
        deadline = time.monotonic() + seconds
        while not (found := holds()) and not self.over() and time.monotonic() < deadline:
            time.sleep(0.01)
        return found

    def is_at(self, index: int, moment: str) -> bool:
        """Whether a process is at one of MOMENTS: at a save where there is a checkpoint's temporary
        folder, which all processes write."""
        if moment == ANY:
            return True
        if moment == SAVE:
            return any(self.workdir.glob("members/*/checkpoints/*tmp*"))
        return self.marks[index].read_text().splitlines()[-1:] == [moment]

    def kill(self, index: int) -> float:
        """Kill a process; seconds until the others, of which there may be none, had ended.

        Raises:
            UserError: when they did not end in time, or with more than one line.
        """
        began = time.monotonic()
        self.processes[index].kill()
        self.until(self.over, PATIENCE)
        seconds, in_time = time.monotonic() - began, self.over()
        for process in self.processes:
            process.kill()
        said = [process.stderr.read().splitlines() for process in self.processes]
        others = said[:index] + said[index + 1 :]
        if not in_time or any(len(lines) != 1 for lines in others):
            told = "\n".join(f"{lines}" for lines in others)
            raise UserError(f"after process {index} was killed, {seconds:.1f} s:\n{told}")
        return seconds

    def finish(self) -> None:
        """Wait for the end of a job that nobody kills."""
        said = [process.communicate() for process in self.processes]
        codes = [process.returncode for process in self.processes]
        if any(codes):
            raise UserError(f"a start ended with {codes}:\n{''.join(err for _, err in said)}")


def progress(workdir: Path, epochs: int) -> int:
    """Steps of all members together up to the newest checkpoint."""
    saved = [
        (int(path.parts[-3]) - 1) * STEPS_PER_EPOCH * epochs + int(path.name)
        for path in workdir.glob("members/*/checkpoints/*")
        if path.name.isdigit()
    ]
    return max(saved, default=0)


# -- kills -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kill:
    """What a kill hit.

    number: from 1. processes: of the run, of which `process` was killed. during: one of MOMENTS,
    empty where it was over when the kill came. steps: that were saved before. seconds: until the
    others had ended.
    """

    number: int
    processes: int
    process: int
    during: str
    steps: int
    seconds: float

    def __str__(self) -> str:
        others = f"; the others ended within {self.seconds:.1f} s" if self.processes > 1 else ""
        return (
            f"kill {self.number}: process {self.process} of {self.processes}, during "
            f"{self.during or 'none of the moments'}, after {self.steps} saved steps{others}"
        )


def kill(workdir: Path, options: Options, number: int) -> Kill | None:
    """Start the run and kill one of its processes; None where it ended before."""
    chance = random.Random(f"{options.seed} {number}")
    count = options.processes[(number - 1) % len(options.processes)]
    index = chance.randrange(count)
    moment = list(MOMENTS)[(number - 1) % len(MOMENTS)]
    steps = options.members * options.epochs * STEPS_PER_EPOCH
    share = 1.0 if number == options.kills else (number - 1) / options.kills
    # Soon after the start, once there is something to restore; before any of the members left.
    if moment in (RESTORE, MAPS) or (moment == ANY and number > len(MOMENTS)):
        share = 0.0
    with Job(workdir, options, count) as job:
        begun = job.until(lambda: progress(workdir, options.epochs) >= share * steps)
        # A start that finds a finished member has nothing to restore: its first save serves.
        before = progress(workdir, options.epochs) if moment == RESTORE else steps
        if not begun or not job.until(
            lambda: job.is_at(index, moment) or progress(workdir, options.epochs) > before
        ):
            job.finish()
            return None
        if job.until(job.over, chance.uniform(0, MOMENTS[moment])):
            job.finish()
            return None
        unfinished = job.is_at(index, moment)
        seconds = job.kill(index)
        hit = unfinished and (moment == SAVE or job.is_at(index, moment))
        saved = progress(workdir, options.epochs)
        return Kill(number, count, index, moment if hit else "", saved, round(seconds, 2))


def table(kills: Sequence[Kill]) -> str:
    """How often each moment was hit, and how long the others took to end."""
    counts = sorted({each.processes for each in kills})
    rows = []
    for moment in [*MOMENTS, ""]:
        found = [each for each in kills if each.during == moment]
        if found:
            several = [each.seconds for each in found if each.processes > 1]
            numbers = [len(found), *(sum(e.processes == count for e in found) for count in counts)]
            longest = f"{max(several):.1f}" if several else "-"
            rows.append([moment or "none of these", *map(str, numbers), longest])
    header = ["killed during", "kills", *(f"of {count} processes" for count in counts)]
    return markdown_table([*header, "others ended within, s"], rows)


# -- what comes out --------------------------------------------------------------------------------


def outcome(workdir: Path) -> tuple[list, dict]:
    """Last states of all members and the results without times."""
    run = Run(Workdir(workdir).record().experiment)
    states = []
    for number in range(1, run.experiment.members + 1):
        checkpoints = Checkpoints(Workdir(str(workdir)).member(number) / "checkpoints", run.mesh)
        states.append(jax.device_get(checkpoints.restore(run.state(number, []).saved())))
    results = json.loads((workdir / "results.json").read_text())
    del results["seconds"], results["environment"]
    return states, results


def same(peace: Path, war: Path, options: Options) -> tuple[bool, str]:
    """Whether two runs have the same outcome, and in what, in words."""
    (states, results), (others, other_results) = outcome(peace), outcome(war)
    if not options.devices:
        images = results["images"]["test"]
        pairs = list(zip(accuracies(results), accuracies(other_results), strict=True))
        largest = max(abs(a - b) for a, b in pairs) * images
        words = f"{len(pairs)} accuracies on {images} images differ by {largest:.0f} at the most"
        return round(largest) <= 1, words
    leaves, other_leaves = jax.tree.leaves(states), jax.tree.leaves(others)
    equal = sum(map(np.array_equal, leaves, other_leaves))
    alike = "equal" if results == other_results else "not equal"
    words = f"{equal} of {len(leaves)} arrays of the last states are equal bit for bit, "
    return equal == len(leaves) and alike == "equal", f"{words}results {alike}"


def accuracies(results: dict) -> list[float]:
    return [*(member["final"] for member in results["members"]), *results["ensemble"]]


# -- the command -----------------------------------------------------------------------------------


def main(arguments: list[str]) -> None:
    options = command_line(Options, arguments, program="python scripts/chaos.py", default=Options())
    end = time.monotonic() + (60 * options.minutes or float("inf"))
    with place(options) as folder:
        peace, war, log = folder / "peace", folder / "war", folder / "kills.jsonl"
        if not (peace / "results.json").exists():
            shutil.rmtree(peace, ignore_errors=True)
            with Job(peace, options, options.processes[0]) as job:
                job.finish()
            print("the uninterrupted run has ended", flush=True)
        kills = [Kill(**json.loads(line)) for line in log.open()] if log.exists() else []
        while len(kills) < options.kills:
            if time.monotonic() > end:
                print(f"the time is up after {len(kills)} kills: the same command continues")
                return
            hit = kill(war, options, len(kills) + 1)
            if hit is None:
                raise UserError(f"the run had ended before kill {len(kills) + 1}: give it --epochs")
            with log.open("a") as file:
                file.write(json.dumps(asdict(hit)) + "\n")
            kills.append(hit)
            print(hit, flush=True)
        with Job(war, options, options.processes[len(kills) % len(options.processes)]) as job:
            job.finish()
        good, words = same(peace, war, options)
    found = f"{table(kills)}\n\nBeside an uninterrupted run: {words}."
    print(found)
    if options.write:
        record.write(f"chaos: {record.options(options)}", f"{record.processor()}.\n\n{found}")
    if not good:
        sys.exit(1)


@contextlib.contextmanager
def place(options: Options) -> Iterator[Path]:
    """The folder that is named, begun with the same options, or one for the moment.

    Raises:
        UserError: when it was begun with others.
    """
    if not options.folder:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    folder, asked = Path(options.folder).absolute(), record.options(options)
    known = folder / "options.json"
    if known.exists() and storage.read_json(known) != asked:
        raise UserError(f"--folder {options.folder!r} was begun with other options: name another")
    storage.write_json(known, asked)
    yield folder


if __name__ == "__main__":
    start.run(marked if MARKS in os.environ else main)
