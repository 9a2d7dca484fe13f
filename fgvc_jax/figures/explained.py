"""A model that draws why it says what it says of an image, for a notebook or a file."""

import base64
import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fgvc_jax.data.images import Photograph
from fgvc_jax.figures import explanation, nearest, panels
from fgvc_jax.figures.framed import framed
from fgvc_jax.figures.page import render
from fgvc_jax.inference import gradcam
from fgvc_jax.inference.model import Model
from fgvc_jax.utils import paths
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import printable
from fgvc_jax.workdir import storage


@dataclass(frozen=True, repr=False)
class Explained:
    """A drawing that a notebook shows.

    picture: the drawing, which `python -m fgvc_jax.explain` makes, too. evidence: the numbers that
    are drawn. words: what it says, in a sentence.
    """

    picture: Image.Image
    evidence: gradcam.Evidence
    words: str

    def __repr__(self) -> str:
        return f"<{printable(self.words)}>"

    def _repr_html_(self) -> str:
        code = base64.b64encode(_png(self.picture)).decode()
        return render("picture.html", address=f"data:image/png;base64,{code}",
                      alternative=self.words)  # fmt: skip

    def save(self, path: str | os.PathLike) -> None:
        """Write it to a PNG.

        Raises:
            UserError: for another kind of file, and where nothing can be written.
        """
        file = paths.local(os.fspath(path), "the picture")
        if file.suffix.lower() != ".png":
            raise UserError(f"the picture {os.fspath(path)!r} is a PNG: end its name in .png")
        write(self.picture, file)


class Explainer(Model):
    """A `Model` that draws, too: what `fgvc_jax.load` opens."""

    def explain(
        self, image: Photograph, *, against: str = "", calibrated: bool = False
    ) -> Explained:
        """Where the members look in an image, and what speaks for its likeliest class rather than
        for another, see `inference.gradcam`.

        Args:
            image: a path, a PIL image or an (H, W, 3) uint8 array.
            against: the other class by its name; empty: the second likeliest.
            calibrated: see `predict`; it changes the probabilities that are told.

        Raises:
            UserError: for an image that cannot be read, several images, or a class that is not
                there.
        """
        number = gradcam.class_number(self, against)
        if isinstance(image, (list, tuple)) or (isinstance(image, np.ndarray) and image.ndim > 3):
            raise UserError("one image is drawn at a time: call it once for each")
        square = self.square(image)
        (found,) = gradcam.find_evidence(
            self, [square], against=number, calibrated=calibrated, decoded=True
        )
        path = os.fspath(image) if isinstance(image, (str, os.PathLike)) else ""
        near = nearest.panel_rows(self, found.seen, [found.predicted, found.against])
        whole = framed(self, image, panels.SIDE, panels.PAPER)
        note = explanation.end(path)
        drawn = explanation.page(self.classes, found, note, self.numbers, near, whole)
        return Explained(drawn, found, explanation.sentence(self.classes, found))


def write(picture: Image.Image, path: Path) -> None:
    """Write a PNG; what is there appears complete, and no link is followed."""
    storage.write_bytes(path, _png(picture))


def _png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()
