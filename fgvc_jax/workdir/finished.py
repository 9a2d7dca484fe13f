"""A finished run as it was kept: its results, and what its members answer on the test images."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fgvc_jax import config
from fgvc_jax.evaluation.results_table import records
from fgvc_jax.evaluation.tallies import Fused
from fgvc_jax.utils import digests, options
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import journal, mirror, predictions, storage
from fgvc_jax.workdir.calibration import CalibrationStore, judge_kept
from fgvc_jax.workdir.folder import Workdir
from fgvc_jax.workdir.predictions import Part
from fgvc_jax.workdir.record import Record

# (workdir, numbers of members) -> digests of its selected members, whose variables must be read.
Select = Callable[[str, Sequence[int]], Sequence[str]]
OF_A_SEED = "--seed", "--data.view-seed"  # the latter is settled as the former


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, or some of its members: what it is, its results, and its test answers.

    identities: digests of the members, as they were "final" or "selected" (`which`). numbers: of
    them in the run, from 1. complete: whether these are all that have results.
    """

    workdir: Workdir
    record: Record
    results: dict[str, Any]
    part: Part
    identities: tuple[str, ...]
    numbers: tuple[int, ...]
    which: str
    complete: bool
    select: Select | None

    @classmethod
    def of(
        cls,
        folder: str,
        members: int | str | Sequence[int] = 0,
        which: str = "final",
        what: str = "--workdir",
        *,
        select: Select | None = None,
    ) -> "FinishedRun":
        """Read a run, which the option `what` names; of the members that `options.chosen_members`
        reads.

        `select` is needed for its "selected" members.

        Raises:
            UserError: when it is not finished, or has not kept what these members answer.
        """
        workdir = Workdir(folder, what)
        record, results = workdir.record(), workdir.read_results()
        if results is None:
            raise UserError(
                f"workdir {folder!r} has no results yet: the command that trains it finishes it"
            )
        try:
            identities = results["digests"]["members"]
            part = predictions.read(workdir.predictions / results["predictions"]["test"])
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{str(workdir.results)!r} tells of no predictions ({error}): the command that "
                "trained it writes it anew, once the file is removed"
            ) from error
        judged = len(identities)
        numbers = options.chosen_members(
            members, judged, f"workdir {folder!r} has results of {judged}"
        )
        complete = numbers == tuple(range(1, judged + 1))
        identities = tuple(identities[number - 1] for number in numbers)
        if which == "selected":
            if select is None:
                raise ValueError("which is 'selected': select must tell the members' digests")
            identities = tuple(select(folder, numbers))
        if not all(part.has(identity) for identity in identities):
            again = "" if which == "final" else f" --which {which}"
            raise UserError(
                f"workdir {folder!r} does not keep what its {which} members answer: "
                f"{predictions.way_out(workdir.path, again)}"
            )
        return cls(workdir, record, results, part, identities, numbers, which, complete, select)

    def fused(self, progress: Callable[[int], Any] = bool, part: Part | None = None) -> Fused:
        """What they say together, of the test images or another part; `progress` see
        `tallies.Fused`."""
        fusion = self.record.experiment.fusion
        return Fused(part or self.part, self.identities, fusion, progress)

    @property
    def calibration_store(self) -> CalibrationStore:
        """These members, whose calibration is kept."""
        fusion = self.record.experiment.fusion
        return CalibrationStore.of(self.workdir.path, self.record, self.identities, fusion)

    @property
    def held_out(self) -> Part | None:
        """Training images that were held out of what a solver learned; None where none were."""
        kept = self.calibration_store
        return kept.fitted_to if kept.part == predictions.HELD_OUT else None

    def right(self, progress: Callable[[int], Any] = bool) -> np.ndarray:
        """(N,) bool, which test images they name rightly together."""
        labels = self.part.labels
        return np.concatenate(
            [values.argmax(-1) == labels[rows] for rows, values in self.fused(progress)]
        )

    @property
    def first(self) -> bool:
        """Whether these are the first members of the run, in order."""
        return self.numbers == tuple(range(1, len(self.numbers) + 1))

    def of_each(self, values: Sequence[Any]) -> list[Any]:
        """Of what results.json has of every member, that of these."""
        return [values[number - 1] for number in self.numbers]

    @property
    def learning(self) -> list[list[dict[str, float]]]:
        """The journal of each by epoch, see `journal.by_epoch`."""
        folders = [self.workdir.member(number) for number in self.numbers]
        return [journal.by_epoch(journal.read(f / "metrics.jsonl")) for f in folders]

    @property
    def learning_curve(self) -> dict[str, Any] | None:
        """What more images would bring, see the module of its name; None where that is not known,
        as of members that were trained by steps."""
        if len(self.identities) > 1:
            return None
        return predictions.curve(self.workdir.path, self.identities[0])

    @cached_property
    def judged(self) -> dict[str, Any]:
        """ "metrics", "attention_overlap" and "calibration" of these members, as in results.json;
        without calibration where they are not all."""
        count = len(self.identities)
        found = self.results
        if self.which != "final" or not self.first:
            found = judge_kept(self.part, self.calibration_store, None, write=False)
        return {
            "metrics": {kind: each[:count] for kind, each in found["metrics"].items()},
            "attention_overlap": [row[:count] for row in found["attention_overlap"][:count]],
            "calibration": found["calibration"] if self.complete else None,
        }

    def check_comparable(self, other: "FinishedRun") -> None:
        """Refuse a run on other test images."""
        if not self.is_comparable(other):
            images, theirs = len(self.part.labels), len(other.part.labels)
            raise UserError(
                f"--against {str(other.workdir.path)!r} was judged on other test images or classes "
                f"({theirs:,} images of {len(other.part.classes):,} classes, here {images:,} of "
                f"{len(self.part.classes):,}): only runs on the same ones can be compared"
            )

    def is_comparable(self, other: "FinishedRun") -> bool:
        """Whether both were judged on the same images of the same classes, in the same order."""
        mine, theirs = self.record.digests["test"], other.record.digests["test"]
        same = self.part.classes == other.part.classes and digests.same_images(mine, theirs)
        return same and np.array_equal(self.part.labels, other.part.labels)


def seeds(run: FinishedRun) -> dict[int, FinishedRun]:
    """The runs of a study that are one with other seeds, and itself: those beside it, in
    folders named by their seeds, that differ in nothing else and keep as many members."""
    spec, folder = run.record.experiment, run.workdir.address
    found = {spec.seed: run}
    row, _, name = (folder if mirror.is_url(folder) else os.path.abspath(folder)).rpartition("/")
    if name != str(spec.seed) or f"{row}/" == mirror.SCHEME:
        return found
    for beside in storage.matching(storage.location(row, "--workdir"), "*"):
        if not beside.name.isdecimal() or beside.name == name:
            continue
        try:
            other = FinishedRun.of(
                f"{row}/{beside.name}", run.numbers, run.which, select=run.select
            )
        except UserError:  # not finished, or something else
            continue
        theirs = other.record.experiment
        changed = config.differences(spec, theirs)
        alike = all(each.flag in OF_A_SEED for each in changed)
        if alike and beside.name == str(theirs.seed) and run.is_comparable(other):
            found[theirs.seed] = other
    return dict(sorted(found.items()))


def records_of(path: str | os.PathLike) -> list[dict[str, Any]]:
    """What a finished run measured: "workdir" and "seed" of it, and `results_table.records`.

    Raises:
        UserError: when there is no such workdir, or it is not finished.
    """
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
