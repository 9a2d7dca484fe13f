"""Photographs of each class, for pages that name classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fgvc_jax.data.view import View
from fgvc_jax.figures.page import THUMBNAIL, address
from fgvc_jax.figures.pictures import kept_picture
from fgvc_jax.utils import digests
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import predictions
from fgvc_jax.workdir.folder import Workdir
from fgvc_jax.workdir.thumbnails import Thumbnails

EXAMPLES = 3  # photographs of a class


@dataclass(frozen=True)
class Examples:
    """Photographs that a run keeps: labels (N,) int, and as many encoded files."""

    labels: np.ndarray
    files: Sequence[bytes] | Thumbnails

    @classmethod
    def of(cls, workdir: str, view: View) -> "Examples":
        """Those of the test part; none where it is not kept, as before the run is finished, and of
        an export."""
        try:
            run = Workdir(workdir)
            images = digests.best(run.record().digests["test"])
            part = predictions.read(predictions.folder_of(run.path, "test", view, images))
            return cls(part.labels, Thumbnails(part.folder, len(part.labels)))
        except (FileNotFoundError, ValueError, UserError):
            return cls(np.zeros(0, np.int32), ())

    def addresses(self, label: int, most: int = EXAMPLES) -> list[str]:
        """At most so many of a class, at even distances, as data: addresses."""
        mine = np.flatnonzero(self.labels == label)
        chosen = np.unique(np.linspace(0, len(mine) - 1, min(most, len(mine))).astype(int))
        found = (kept_picture(self.files[i]) for i in mine[chosen])
        return [address(picture, THUMBNAIL) for picture in found if picture is not None]

    def first(self, label: int) -> bytes:
        """The first photograph of a class, as it is kept, of which `addresses` begins; empty where
        none is."""
        mine = np.flatnonzero(self.labels == label)
        return self.files[mine[0]] if len(mine) else b""
