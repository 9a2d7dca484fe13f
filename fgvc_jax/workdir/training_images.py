"""Which images a run trains on, one by one, so that a student of its members can tell its own from
those: of what its teachers have learned by heart nothing new is measured.
"""

import hashlib

import numpy as np

from fgvc_jax.utils import digests
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import storage
from fgvc_jax.workdir.folder import Workdir
from fgvc_jax.workdir.record import Record

_BYTES = 16  # of a SHA-256, enough to tell a million images apart


def marks(images: digests.LabelledImages, contents: list[bytes] | None) -> np.ndarray:
    """(N, 2, 16) uint8: what each image is known by.

    Args:
        images: of a part.
        contents: SHA-256 of each one's bytes; None where they are not read.

    Returns:
        [:, 0] by name and size of its file, [:, 1] by content, zeros where that is not known.
    """
    found = np.zeros((len(images.names), 2, _BYTES), np.uint8)
    for i, name in enumerate(images.names):
        size, _ = images.stat(i) or (None, None)
        known = hashlib.sha256(f"{name}\0{size}".encode(errors="surrogateescape")).digest()
        found[i, 0] = np.frombuffer(known, np.uint8, _BYTES)
        if contents:
            found[i, 1] = np.frombuffer(contents[i], np.uint8, _BYTES)
    return found


def keep(workdir: Workdir, training: np.ndarray) -> None:
    """Keep the `marks` of a run's training images, unless they are there, by content too."""
    try:
        kept = storage.map_array(workdir.training_images)
    except (FileNotFoundError, ValueError):
        kept = np.zeros((0, 2, _BYTES), np.uint8)
    if len(kept) != len(training) or (training[:, 1].any() and not kept[:, 1].any()):
        storage.write_array(workdir.training_images, training)


def trained_on(workdir: Workdir, own: Record, images: np.ndarray) -> int | None:
    """How many images of a part were training images of another run.

    Args:
        workdir: of the other run.
        own: the record of the run whose part it is.
        images: the `marks` of the part.

    Returns:
        Their number; None where the other run does not tell its training images one by one, and
        they are not those of this run, which share none with its other parts.
    """
    try:
        training = storage.map_array(workdir.training_images)
        if training.dtype != np.uint8 or training.shape[1:] != (2, _BYTES):
            raise ValueError("these are no marks of images")
    except (FileNotFoundError, ValueError, UserError):
        theirs = workdir.record().digests["train"]
        same = not digests.differ(theirs, own.digests["train"])
        return 0 if same else None
    by = int(bool(training[:, 1].any() and images[:, 1].any()))
    known = {row.tobytes() for row in training[:, by]}
    return sum(row.tobytes() in known for row in images[:, by])
