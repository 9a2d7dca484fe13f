"""Kill a run again and again and compare what comes out with an uninterrupted one, bit for bit.

    python scripts/chaos.py [--kills 5] [--seed 0]
    python scripts/chaos.py --processes 2 4 --devices 4 --kills 20
    python scripts/chaos.py --processes 2 1 4 --devices 0

Trains configs/tiny.py twice: once in peace, once under SIGKILL, first during a save and then at
random moments, each time followed by the same command. Where a run has several processes a random
one is killed, and the others must end by themselves within 15 seconds, with one line each. Prints
what was hit, and whether parameters, batch statistics, optimizer state and results are equal. Exit
code 1 if something is not as it must be.
"""

from fgvc_jax import command

if __name__ == "__main__":
    command.prepare()

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from fgvc_jax.build import Run
from fgvc_jax.config import command_line
from fgvc_jax.engine.checkpoint import Checkpoints
from fgvc_jax.errors import UserError
from fgvc_jax.workdir import Workdir

CONFIG = Path(__file__).parents[1] / "configs/tiny.py"
MEMBERS, STEPS_PER_EPOCH = 2, 4  # of this experiment
PATIENCE = 15.0  # seconds for the others to end after one was killed


@dataclass(frozen=True)
class Options:
    """SIGKILL a tiny run at random moments, continue it, and compare with an uninterrupted one."""

    kills: int = 5
    """Kills at random moments; one more comes during a save."""
    epochs: int = 12
    """Epochs per member."""
    processes: tuple[int, ...] = (1,)
    """Of the run; with several numbers each start takes the next one, round and round."""
    devices: int = 2
    """Of all processes together; 0: one for each process, so that their number may change between
    starts, and accuracies are compared, within one image, instead of bits."""
    seed: int = 0
    """Of the moments, and of who is killed."""


class Job:
    """One start of the command `train`, in one or several processes, which have found each other
    once it is made."""

    def __init__(self, workdir: Path, options: Options, count: int):
        words = [sys.executable, "-m", "fgvc_jax.train", "--config", CONFIG, "--workdir", workdir,
                 "--epochs", options.epochs, "--save-every", "1"]  # fmt: skip
        words += ["--distributed", "True"] if count > 1 else []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.processes = []
        for index in range(count):
            names = {
                "JAX_NUM_CPU_DEVICES": options.devices // count or 1,
                "JAX_COORDINATOR_ADDRESS": address,
                "JAX_NUM_PROCESSES": count,
                "JAX_PROCESS_ID": index,
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

    def over(self) -> bool:
        return all(process.poll() is not None for process in self.processes)

    def wait(self, seconds: float) -> bool:
        """Whether it ended by itself within so many seconds."""
        deadline = time.monotonic() + seconds
        while not self.over() and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.over()

    def kill(self, index: int) -> str:
        """Kill a process; how the others ended, of which there may be none.

        Raises:
            UserError: when they did not end in time, or with more than one line.
        """
        began = time.monotonic()
        self.processes[index].kill()
        in_time = self.wait(PATIENCE)
        seconds = time.monotonic() - began
        for process in self.processes:
            process.kill()
        said = [process.stderr.read().splitlines() for process in self.processes]
        others = said[:index] + said[index + 1 :]
        if not in_time or any(len(lines) != 1 for lines in others):
            told = "\n".join(f"{lines}" for lines in others)
            raise UserError(f"after process {index} was killed, {seconds:.1f} s:\n{told}")
        return f"; the others ended within {seconds:.1f} s" if others else ""


def finish(job: Job) -> None:
    """Wait for the end of a job that nobody kills."""
    codes = [process.wait() for process in job.processes]
    if any(codes):
        told = "".join(process.stderr.read() for process in job.processes)
        raise UserError(f"a start ended with {codes}:\n{told}")


def saved(workdir: Path) -> set[str]:
    """Checkpoints that are there."""
    return {
        f"member {path.parts[-3]} step {path.name}"
        for path in workdir.glob("members/*/checkpoints/*")
        if path.name.isdigit()
    }


def kill_at_random(workdir: Path, job: Job, index: int, saves: int, seconds: float) -> str:
    """Kill so many seconds after so many further checkpoints."""
    before, seen = saved(workdir), set()
    while not job.over() and len(seen) < saves:
        seen |= saved(workdir) - before
        time.sleep(0.01)
    if job.wait(seconds):
        finish(job)
        return "had ended before the kill"
    others = job.kill(index)
    return f"process {index} killed {seconds:.1f} s after {saves} further checkpoints{others}"


def kill_during_save(workdir: Path, job: Job, index: int) -> str:
    """Kill as soon as a checkpoint is half written: its temporary folder is there."""
    while not job.over():
        unfinished = list(workdir.glob("members/*/checkpoints/*tmp*"))
        if unfinished:
            others = job.kill(index)
            left = [path.name for path in unfinished if path.exists()]
            left = ", ".join(left) or "nothing"
            return f"process {index} killed during a save, left behind: {left}{others}"
        time.sleep(0.001)
    finish(job)
    return "had ended before a save was seen"


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


def same(peace: Path, war: Path, options: Options) -> bool:
    """Whether two runs have the same outcome; prints in what."""
    (states, results), (others, other_results) = outcome(peace), outcome(war)
    if not options.devices:
        images = results["images"]["test"]
        pairs = list(zip(accuracies(results), accuracies(other_results), strict=True))
        largest = max(abs(a - b) for a, b in pairs) * images
        print(f"{len(pairs)} accuracies on {images} images differ by {largest:.0f} at the most")
        return round(largest) <= 1
    leaves, other_leaves = jax.tree.leaves(states), jax.tree.leaves(others)
    equal = sum(map(np.array_equal, leaves, other_leaves))
    print(f"{equal} of {len(leaves)} arrays of the last states are equal bit for bit")
    print(f"results equal: {results == other_results}")
    return equal == len(leaves) and results == other_results


def accuracies(results: dict) -> list[float]:
    return [*(member["final"] for member in results["members"]), *results["ensemble"]]


def main(arguments: list[str]) -> None:
    options = command_line(Options, arguments, program="python scripts/chaos.py", default=Options())
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        peace, war = Path(folder) / "peace", Path(folder) / "war"
        job = Job(peace, options, options.processes[0])
        began = time.perf_counter()
        finish(job)
        whole = time.perf_counter() - began
        every = STEPS_PER_EPOCH * options.epochs * MEMBERS  # checkpoints
        print(f"uninterrupted run: {whole:.1f} s, {every} checkpoints", flush=True)
        for number in range(options.kills + 1):
            count = options.processes[number % len(options.processes)]
            job, index = Job(war, options, count), moments.randrange(count)
            if number == 0:
                hit = kill_during_save(war, job, index)
            else:
                # Few checkpoints, so that the run is at work still when the last kill comes. Before
                # the first one it reads, compiles and restores.
                saves = moments.randrange(max(every // (options.kills + 1), 1) + 1)
                seconds = moments.uniform(0, (1 if saves else 20) * whole / every)
                hit = kill_at_random(war, job, index, saves, seconds)
            print(f"kill {number + 1}, {count} processes: {hit}", flush=True)
        finish(Job(war, options, options.processes[(options.kills + 1) % len(options.processes)]))
        if not same(peace, war, options):
            sys.exit(1)


if __name__ == "__main__":
    command.run(main)
