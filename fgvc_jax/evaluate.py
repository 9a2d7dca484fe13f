"""python -m fgvc_jax.evaluate: judge the trained members of a workdir again."""

import dataclasses
import json
from dataclasses import dataclass

from fgvc_jax import command, config
from fgvc_jax.errors import UserError
from fgvc_jax.train import table
from fgvc_jax.workdir import Workdir


@dataclass(frozen=True)
class Evaluation:
    """Judge the trained members of a workdir, one by one and as an ensemble. Writes nothing."""

    workdir: str = "runs/sketchbirds"
    """A run of python -m fgvc_jax.train; it may still be running."""
    members: int = 0
    """Judge the first so many members; 0 judges all that are trained."""
    source: str = ""
    """Judge on the test images of this source, with the same classes; empty: of the run's own."""
    fusion: str = ""
    """probabilities or logits; empty: as the run was configured."""
    batch_size: int = 64
    """Images per batch."""
    members_per_pass: int = 1
    """Members that the forward pass vectorises over at a time."""
    json: bool = False
    """Print one JSON object instead of a table."""


def main(arguments: list[str]) -> None:
    options = config.command_line(
        Evaluation, arguments, program="python -m fgvc_jax.evaluate", default=Evaluation()
    )
    workdir = Workdir(options.workdir)
    experiment = workdir.experiment()
    trained = 0
    while workdir.final(trained + 1).exists():
        trained += 1
    if not trained:
        raise UserError(f"workdir {str(workdir.path)!r} has no trained member yet")
    if not 0 <= options.members <= trained:
        raise UserError(f"--members is {options.members}: {trained} are trained (0 judges all)")
    data = dataclasses.replace(experiment.data, source=options.source or experiment.data.source)
    experiment = dataclasses.replace(
        experiment,
        data=data,
        members=options.members or trained,
        fusion=options.fusion or experiment.fusion,
        evaluation_batch_size=options.batch_size,
        members_per_pass=options.members_per_pass,
    )
    results = evaluate(config.check(experiment), workdir)
    print(json.dumps(results, indent=2) if options.json else table(results))


def evaluate(experiment: config.Experiment, workdir: Workdir) -> dict:
    """Load the members and judge them; the part of results.json that needs no journal."""
    from fgvc_jax.build import Run
    from fgvc_jax.engine import checkpoint

    command.use_compilation_cache()
    run = Run(experiment)
    known, found = trained_classes(workdir), len(run.splits.classes)
    if known and known != found:
        raise UserError(
            f"{experiment.data.source!r} has {found} classes, and the members were trained with "
            f"{known}: name a --source with the same classes"
        )
    like = run.abstract_variables
    numbers = range(1, experiment.members + 1)
    members = [checkpoint.load_final(workdir.final(n), like, run.mesh) for n in numbers]
    verdict = run.judge(members)
    return {
        "source": experiment.data.source,
        "classes": len(run.splits.classes),
        "images": {"test": verdict["images"]},
        "members": [{"final": accuracy} for accuracy in verdict["single"]],
        "ensemble": verdict["ensemble"],
        "attention_overlap": verdict["attention_overlap"],
    }


def trained_classes(workdir: Workdir) -> int:
    """The number of classes that a finished run was trained with, 0 where it is not finished."""
    return json.loads(workdir.results.read_text())["classes"] if workdir.results.exists() else 0


if __name__ == "__main__":
    command.run(main)
