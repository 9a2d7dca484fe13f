"""Solves ONE member: a frozen network with a head that is solved, not trained by steps."""

import time
from pathlib import Path

import jax
import numpy as np
from flax.typing import VariableDict

from fgvc_jax.objectives.base import Solved
from fgvc_jax.training.run import Run
from fgvc_jax.utils import devices, processes, progress
from fgvc_jax.utils.errors import Interrupted
from fgvc_jax.utils.progress import Report
from fgvc_jax.utils.signals import Deferred
from fgvc_jax.workdir.journal import Journal


def solve_member(run: Run, folder: Path, report: Report, asked: Deferred) -> VariableDict:
    """Solve the only member of a run; its variables. There is no epoch that could be selected.

    Args:
        run: whose objective `solves`, and whose embeddings are stored.
        folder: of the member; gets metrics.jsonl and tensorboard/.
        report: is told in lines.
        asked: tells whether a signal asks for a stop.

    Raises:
        Interrupted: after a signal; the embeddings are kept.
    """
    spec, labels, began = run.experiment, run.splits.train.labels, time.perf_counter()
    start = run.start.variables(1)
    solved = Solved({}, {})
    if jax.process_index() == 0:
        with progress.bar(desc=spec.objective, unit=" steps", leave=False) as bar:

            def watch(said: str) -> None:
                if said:
                    bar.set_postfix_str(said)
                bar.update()
                if asked.number:
                    raise Interrupted(asked.number, "the embeddings are kept")

            solved = spec.method.solve(
                run.cache.embeddings().astype(np.float32),
                labels,
                classes=len(run.splits.classes),
                seed=spec.seed,
                watch=watch,
            )
    head = {**start["params"]["heads"]["logits"], **solved.params}
    heads = {**start["params"]["heads"], "logits": jax.tree.map(processes.of_first, head)}
    variables = devices.replicate(
        run.mesh, {**start, "params": {**start["params"], "heads": heads}}
    )
    journal = Journal(
        folder, title=spec.objective, start=0, total=1, images_per_step=len(labels),
        write=jax.process_index() == 0,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    try:
        journal.write({"step": 1, "epoch": 1, **solved.metrics, "seconds": seconds})
    finally:
        journal.close()
    decay = solved.metrics.get("weight_decay")
    report(f"{spec.objective}: {f'weight decay {decay:g}, ' if decay else ''}{seconds:.1f} s")
    return variables
