"""The images that calibrate some members of a workdir, with what these answer on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from fgvc_jax.data.view import View
from fgvc_jax.evaluation.tallies import Chosen, Fused, KeptAnswers
from fgvc_jax.utils import digests
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import predictions
from fgvc_jax.workdir.predictions import Part
from fgvc_jax.workdir.record import Record


@dataclass(frozen=True)
class CalibrationSet:
    """Members of a workdir, and the images that calibrate them.

    workdir: its folder. identities: digests of the members. fusion: see `ensemble.fuse`. view: at
    test. part, images: what it is fitted to, and the images' digest: the validation part, or else
    the training images that a solver held out; None where there are none. listed: classes that are
    told apart, by their numbers, as if there were no others; empty: all. tta: in which views images
    are answered; a temperature of the one view need not hold for the mean of several.
    """

    workdir: Path
    identities: tuple[str, ...]
    fusion: str
    view: View
    part: str
    images: str | None
    listed: tuple[int, ...] = ()
    tta: str = ""

    @classmethod
    def of(cls, workdir: Path, record: Record, identities: Sequence[str], fusion: str) -> Self:
        """Of the run that a record tells of."""
        known, experiment = record.digests.get("validation"), record.experiment
        part, images = "validation", digests.best(known) if known else None
        if not known and experiment.method.solves:
            part, images = predictions.HELD_OUT, record.held_out
        return cls(workdir, tuple(identities), fusion, experiment.data.view, part, images)

    @property
    def fitted_to(self) -> Part:
        """The part with all members' answers; UserError where it is not kept."""
        folder = self._folder
        try:
            part = predictions.read(folder)
        except UserError:
            part = None
        if part is None or not all(part.has(identity) for identity in self.identities):
            what, instead = (
                "its validation part",
                predictions.way_out(self.workdir, f" --tta {self.tta}" if self.tta else ""),
            )
            if self.part == predictions.HELD_OUT:
                what, instead = "training images that were held out", "train again elsewhere"
            raise UserError(
                f"workdir {str(self.workdir)!r} does not keep what these members answer on {what}: "
                f"{instead}"
            )
        return part

    @property
    def _chosen(self) -> KeptAnswers:
        """Those of `fitted_to` whose class is listed."""
        part = self.fitted_to
        if not self.listed:
            return part
        return Chosen(part, *self._where(part, np.ones(len(part.labels), bool)))

    def _where(self, part: Part, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The wanted images (N,) bool whose class is listed, and the classes that are."""
        if not self.listed:
            return np.flatnonzero(wanted), None
        columns = np.array(self.listed)
        return np.flatnonzero(wanted & np.isin(part.labels, columns)), columns

    def _fused(self, part: KeptAnswers) -> Fused:
        return Fused(part, self.identities, self.fusion)

    @property
    def _folder(self) -> Path:
        if self.images is None:
            raise UserError(
                f"workdir {str(self.workdir)!r} has no validation part, which calibration needs: "
                "train with --data.validation 0.1, in a new --workdir"
            )
        if self.tta and self.part == predictions.HELD_OUT:
            raise UserError(
                f"workdir {str(self.workdir)!r} is calibrated on training images that were held "
                f"out, in one view: leave out --tta {self.tta}, or train with --data.validation "
                "0.1, in a new --workdir"
            )
        part = predictions.in_views(self.part, self.tta)
        return predictions.folder_of(self.workdir, part, self.view, self.images)
