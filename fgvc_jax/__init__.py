"""Fine-grained image classification in JAX: KT, HSD and CSDNet, comparable and reproducible."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast

if TYPE_CHECKING:
    from fgvc_jax.config import Experiment
    from fgvc_jax.figures.explained import Explainer
    from fgvc_jax.figures.fitted import Fitted
    from fgvc_jax.inference.model import ModelOptions

__version__ = "0.4.0"


def fit(
    what: "Experiment | str | os.PathLike",
    workdir: str | os.PathLike | None = None,
    progress: Callable[[dict[str, Any]], Any] | Literal[False] | None = None,
    **fields: object,
) -> "Fitted":
    """Train an experiment to its end, or what is missing of it, in this process: no signal is
    caught, no process started but git's, which tells the commit (and with `track` the report's),
    JAX taken as it is. What is interrupted, as by Ctrl-C, the same call continues, on the CPU bit
    for bit.

        run = fgvc_jax.fit("folder:birds", workdir="runs/birds", members=1)
        fgvc_jax.fit(experiment, progress=lambda told: print(told["line"]))

    Args:
        what: an `fgvc_jax.config.Experiment`, or a word as `python -m fgvc_jax.train` takes it: a
            config, a source, a folder of images, or a workdir to continue.
        workdir: the run's folder; None: what the experiment says, `runs/...`.
        progress: is called with a dict for whatever there is to tell: its "line" for people, and
            after an epoch "member", "members", "epoch", "epochs", "step", "test_accuracy" and other
            scores. What it raises ends the training. None prints the lines, with bars on a
            terminal; False says nothing.
        fields: of the experiment that override, those of a group in a dict:
            `epochs=3, optimizer={"learning_rate": 0.01}`.

    Returns:
        The run, which shows itself in a notebook; `.workdir`, `.results`, `.history`, `.model`.

    Raises:
        fgvc_jax.utils.errors.UserError: for what makes no sense, does not fit the workdir, or goes
            wrong on the way.
    """
    from fgvc_jax.figures.fitted import Fitted
    from fgvc_jax.training import fit as training

    return Fitted(training.fit(what, workdir, progress, **fields))


def load(path: str | os.PathLike, **options: "Unpack[ModelOptions]") -> "Explainer":
    """The trained members of a workdir, or of an export for a hub, as a model that answers for
    images.

    Args:
        path: of the folder, or hf:ORG/NAME of an export on the hub; its dataset is not needed.
            Compiled programs are kept in the user's cache, as by all commands, unless JAX was told
            a folder for them.
        options: `which`, `members`, `fusion`, `mesh`, `members_at_once`, and of new photographs
            `orientation` and `banner`, see `fgvc_jax.inference.model.open_model`.

    Returns:
        A model with `.classes`, `.predict(images)`, `.attention(images)`, `.top(images, k)`,
        `.embed(images)` and `.explain(image)`; images are paths, PIL images or arrays.

    Raises:
        fgvc_jax.utils.errors.UserError: when there is no such workdir, or it has no trained member
            yet; when the export is damaged.
    """
    from fgvc_jax.figures.explained import Explainer
    from fgvc_jax.inference.export.hub import is_export, open_hub
    from fgvc_jax.inference.model import open_model
    from fgvc_jax.utils import compilation

    if compilation.folder() is None:
        compilation.use_compilation_cache()
    opened = open_hub if is_export(path) else open_model
    return cast(Explainer, opened(path, kind=Explainer, **options))


def results(path: str | os.PathLike) -> list[dict[str, Any]]:
    """What a finished run measured on its test images, one number a record, as a data frame has it:
    `pandas.DataFrame(fgvc_jax.results("runs/kt"))`.

    Args:
        path: of the workdir.

    Returns:
        "workdir" and "seed" of the run, and what `fgvc_jax.evaluation.results_table.records` says.

    Raises:
        fgvc_jax.utils.errors.UserError: when there is no such workdir, or it is not finished.
    """
    from fgvc_jax.workdir.finished import records_of

    return records_of(path)
