"""Fine-grained image classification in JAX: KT, HSD and CSDNet, comparable and reproducible."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fgvc_jax.inference.model import Model

__version__ = "0.2.0"


def load(path: str | os.PathLike, **options) -> "Model":
    """The trained members of a workdir, or of an export for a hub, as a model that answers for
    images.

    Args:
        path: of the folder, or hf:ORG/NAME of an export on the hub; its dataset is not needed.
        options: `which`, `members`, `fusion`, `mesh`, and of new photographs `orientation` and
            `banner`, see `fgvc_jax.inference.model.open_model`.

    Returns:
        A model with `.classes`, `.predict(images)`, `.attention(images)`, `.top(images, k)` and
        `.embed(images)`; images are paths, PIL images or arrays.

    Raises:
        fgvc_jax.utils.errors.UserError: when there is no such workdir, or it has no trained member
            yet; when the export is damaged.
    """
    from fgvc_jax.inference.export.hub import is_export, open_hub
    from fgvc_jax.inference.model import open_model

    return open_hub(path, **options) if is_export(path) else open_model(path, **options)
