"""The training photographs of a site, small and as its members see them, so that the page shows the
nearest ones.

neighbours.bin has, one behind the other, the vectors that the run keeps, (N, D) float16 in little
endian, and the pictures that it keeps, each an encoded file.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import remembered
from fgvc_jax.workdir.predictions import Part

FILE = "neighbours.bin"


class SitePhotographs(NamedTuple):
    """data: of the file. about: what the page is told of it: numbers in the vector of each member,
    "widths", of each photograph its class, "labels", and the bytes of its picture, "pictures"."""

    data: bytes
    about: dict[str, Any]

    @classmethod
    def of(cls, part: Part, members: Sequence[str]) -> Self:
        """Those that a run keeps, as members see them, by their digests.

        Raises:
            UserError: where the pictures are not kept.
        """
        pictures = remembered.pictures(part)
        if pictures is None:
            raise UserError(f"{str(part.folder)!r} has no pictures of them")
        seen = [remembered.embedding(part, member) for member in members]
        files = list(map(pictures.__getitem__, range(len(pictures))))
        about = {
            "widths": [each.shape[1] for each in seen],
            "labels": part.labels.tolist(),
            "pictures": list(map(len, files)),
        }
        vectors = np.concatenate(seen, axis=1).astype("<f2").tobytes()
        return cls(vectors + b"".join(files), about)

    @property
    def size(self) -> str:
        """In words."""
        pictures = sum(self.about["pictures"])
        vectors = len(self.data) - pictures
        return (
            f"{len(self.about['labels']):,} training photographs, small ({pictures / 1e6:.1f} MB), "
            f"and what the members see of them in float16 ({vectors / 1e6:.1f} MB)"
        )

    @property
    def listed(self) -> str:
        """For a README."""
        return f"`{FILE}`: {self.size}"
