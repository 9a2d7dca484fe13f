"""Fine-grained image classification in JAX: KT, HSD and CSDNet, comparable and reproducible."""

import os
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from fgvc_jax.figures.explained import Explainer

__version__ = "0.2.0"


def load(path: str | os.PathLike, **options) -> "Explainer":
    """The trained members of a workdir, or of an export for a hub, as a model that answers for
    images.

    Args:
        path: of the folder, or hf:ORG/NAME of an export on the hub; its dataset is not needed.
        options: `which`, `members`, `fusion`, `mesh`, and of new photographs `orientation` and
            `banner`, see `fgvc_jax.inference.model.open_model`.

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
    from fgvc_jax.evaluation.results_table import records
    from fgvc_jax.utils.errors import UserError
    from fgvc_jax.workdir.folder import Workdir

    workdir = Workdir(path)
    run, found = workdir.record().experiment, workdir.read_results()
    if found is None:
        folder = os.fspath(path)
        raise UserError(
            f"workdir {folder!r} has no results yet: the command that trains it finishes it"
        )
    try:
        return [{"workdir": workdir.address, "seed": run.seed} | each for each in records(found)]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{str(workdir.results)!r} is of an older version, or damaged ({error}): the "
            "command that trained it writes it anew, once the file is removed"
        ) from error
