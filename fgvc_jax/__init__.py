"""Fine-grained image classification in JAX: KT, HSD and CSDNet, comparable and reproducible."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fgvc_jax.model import Model

__version__ = "0.2.0"


def load(path: str | os.PathLike, **options) -> "Model":
    """The trained members of a workdir, as a model that answers for images.

    Args:
        path: of the workdir; its dataset is not needed.
        options: `which`, `members`, `fusion`, `mesh`, see `fgvc_jax.model.open_model`.

    Returns:
        A model with `.classes`, `.predict(images)`, `.attention(images)` and `.top(images, k)`;
        images are paths, PIL images or arrays.

    Raises:
        fgvc_jax.errors.UserError: when there is no such workdir, or it has no trained member yet.
    """
    from fgvc_jax.model import open_model

    return open_model(path, **options)
