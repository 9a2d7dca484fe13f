"""Kill a run again and again and compare what comes out with an uninterrupted one, bit for bit.

    python scripts/chaos.py [--kills 5] [--seed 0]

Trains configs/tiny.py twice: once in peace, once under SIGKILL, first during a save and then at
random moments, each time followed by the same command. Prints what was hit, and whether parameters,
batch statistics, optimizer state and results are equal. Exit code 1 if they are not.
"""

from fgvc_jax import command

if __name__ == "__main__":
    command.prepare()

import json
import random
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
from fgvc_jax.workdir import Workdir

CONFIG = Path(__file__).parents[1] / "configs/tiny.py"


@dataclass(frozen=True)
class Options:
    """SIGKILL a tiny run at random moments, continue it, and compare with an uninterrupted one."""

    kills: int = 5
    """Kills at random moments; one more comes during a save."""
    epochs: int = 12
    """Epochs per member."""
    seed: int = 0
    """Of the moments."""


def start(workdir: Path, epochs: int) -> subprocess.Popen:
    words = [sys.executable, "-m", "fgvc_jax.train", "--config", str(CONFIG), "--workdir",
             str(workdir), "--epochs", str(epochs), "--save-every", "1"]  # fmt: skip
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def saved_steps(workdir: Path) -> str:
    return ", ".join(
        f"member {path.parts[-3]} step {path.name}"
        for path in sorted(workdir.glob("members/*/checkpoints/*"))
        if path.name.isdigit()
    )


def kill_at_random(workdir: Path, options: Options, seconds: float) -> str:
    process = start(workdir, options.epochs)
    try:
        process.wait(seconds)
        return "had ended before the kill"
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return f"killed after {seconds:.1f} s with {saved_steps(workdir) or 'nothing saved'}"


def kill_during_save(workdir: Path, options: Options) -> str:
    """Kill as soon as a checkpoint is half written: its temporary folder is there."""
    process = start(workdir, options.epochs)
    while process.poll() is None:
        unfinished = list(workdir.glob("members/*/checkpoints/*tmp*"))
        if unfinished:
            process.kill()
            process.wait()
            left = [path.name for path in unfinished if path.exists()]
            return f"killed during a save, left behind: {', '.join(left) or 'nothing'}"
        time.sleep(0.001)
    return "had ended before a save was seen"


def outcome(workdir: Path) -> tuple[list, dict]:
    """Last states of all members and the results without times."""
    run = Run(Workdir(workdir).record().experiment)
    states = []
    for number in range(1, run.experiment.members + 1):
        checkpoints = Checkpoints(Workdir(str(workdir)).member(number) / "checkpoints", run.mesh)
        states.append(jax.device_get(checkpoints.restore(run.state(number, []).saved())))
    results = json.loads((workdir / "results.json").read_text())
    del results["seconds"]
    return states, results


def main(arguments: list[str]) -> None:
    options = command_line(Options, arguments, program="python scripts/chaos.py", default=Options())
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        peace, war = Path(folder) / "peace", Path(folder) / "war"
        began = time.perf_counter()
        start(peace, options.epochs).wait()
        whole = time.perf_counter() - began
        print(f"uninterrupted run: {whole:.1f} s, {saved_steps(peace)}")
        print("kill 1:", kill_during_save(war, options))
        for number in range(options.kills):
            # Early enough that a continued run, too, is still at work.
            seconds = moments.uniform(0.1, 0.25) * whole
            print(f"kill {number + 2}:", kill_at_random(war, options, seconds))
        process = start(war, options.epochs)
        words, _ = process.communicate()
        print(words)
        (states, results), (others, other_results) = outcome(peace), outcome(war)
        leaves, other_leaves = jax.tree.leaves(states), jax.tree.leaves(others)
        equal = sum(map(np.array_equal, leaves, other_leaves))
        print(f"{equal} of {len(leaves)} arrays of the last states are equal bit for bit")
        print(f"results equal: {results == other_results}")
        if equal < len(leaves) or results != other_results:
            sys.exit(1)


if __name__ == "__main__":
    command.run(main)
