"""Members that go on from those of a finished run, with other photographs or more classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from flax.typing import VariableDict
from jax.sharding import Mesh

from fgvc_jax.config import Experiment
from fgvc_jax.data.names import Spellings
from fgvc_jax.inference import model
from fgvc_jax.inference.architecture import architectures
from fgvc_jax.utils import devices, digests
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir.folder import Workdir

FLAG = "--network.start"
Place = tuple[str, ...]


class Rows(NamedTuple):
    """What is known of a variable of which each class has a part: the parts of some classes."""

    axis: int  # of the classes
    rows: np.ndarray  # of these along it
    values: np.ndarray  # in their order

    def put_into(self, drawn: np.ndarray) -> np.ndarray:
        """A variable as it is drawn, with what is known."""
        filled = np.array(drawn)
        np.moveaxis(filled, self.axis, 0)[self.rows] = np.moveaxis(self.values, self.axis, 0)
        return filled


@dataclass(frozen=True)
class Predecessor:
    """A member of a finished run."""

    workdir: str
    number: int

    @cached_property
    def known(self) -> tuple[Sequence[str], Mapping[Place, np.ndarray]]:
        """Its classes, and all its variables by place, a frozen trunk's among them."""
        asked = model.open_model(self.workdir, members=str(self.number), mesh=devices.own())
        parts = asked.members[0].variables, asked.trunk
        leaves = {place: leaf for part in parts for place, leaf in flatten_dict(part).items()}
        return asked.classes, jax.device_get(leaves)

    @cached_property
    def digest(self) -> str:
        """Of its variables, and of the classes that they know."""
        classes, leaves = self.known
        return digests.of_value([list(classes), digests.of_arrays(unflatten_dict(leaves))])


@dataclass(frozen=True, eq=False)
class WarmStart:
    """A finished member as the weights (`initial.Weights`) of another.

    Args:
        member: the finished one.
        classes: of the other.
        axes: of the classes in its variables, by place, see `class_axes`.
        head: whether the main head is taken; else it is left to who solves for it.
    """

    member: Predecessor
    classes: Sequence[str]
    axes: Mapping[Place, int]
    head: bool

    def digest(self) -> str:
        return self.member.digest

    def load(self, variables: VariableDict) -> VariableDict:
        """Variables like `variables`; those of which each class has a part are `Rows` where there
        are new classes, and none is known by more than its name.

        Raises:
            UserError: where the two networks differ, or no class is the same.
        """
        before, theirs = self.member.known
        spellings = Spellings(before)  # a folder may come back from another system
        same = [spellings.find(name) for name in self.classes]
        rows = np.array([row for row, alike in enumerate(same) if alike], int)
        if self.head and not rows.size:
            raise self._refused(
                f"it knows none of these classes (it has {before[0]!r}, and here there is "
                f"{self.classes[0]!r}): take its network alone by --network.weights"
            )
        picked = [before.index(alike[0]) for alike in same if alike]
        found: dict[Place, Any] = {}
        for place, leaf in flatten_dict(variables).items():
            if not self.head and place[1:3] == ("heads", "logits"):
                found[place] = leaf
                continue
            if place not in theirs:
                raise self._refused(f"it has no {'/'.join(place)}{_INSTEAD}")
            values, axis = theirs[place], self.axes.get(place)
            if axis is not None and values.ndim > axis and values.shape[axis] == len(before):
                values = values.take(picked, axis)
                shape = (*leaf.shape[:axis], len(rows), *leaf.shape[axis + 1 :])
                found[place] = values
                if len(rows) < len(self.classes):
                    found[place] = Rows(axis, rows, values)
            else:
                shape, found[place] = leaf.shape, values
            if values.shape != shape:
                raise self._refused(
                    f"its {'/'.join(place)} is {values.shape}, and here {leaf.shape}{_INSTEAD}"
                )
        if self.head and (extra := theirs.keys() - found.keys()):
            raise self._refused(f"its {'/'.join(min(extra))} has no place here{_INSTEAD}")
        return {**variables, **unflatten_dict(found)}

    def _refused(self, why: str) -> UserError:
        return UserError(f"{FLAG} {self.member.workdir!r}, member {self.member.number}: {why}")


_INSTEAD = (
    ": its network or head is another one; without --config a run goes on with its own, and "
    "--network.weights takes what fits of its first member"
)


def predecessors(experiment: Experiment) -> list[Predecessor | None]:
    """What each member goes on from; None for those that begin otherwise.

    Raises:
        UserError: where there is no such run, or it has fewer members.
    """
    found: list[Predecessor | None] = []
    for number, network in enumerate(experiment.each, start=1):
        if network.start:
            trained = Workdir(network.start, FLAG).trained()
            if trained < number:
                raise UserError(
                    f"{FLAG} {network.start!r} has {trained} finished members, and member {number} "
                    f"has none to go on from: --members {trained}"
                    if trained
                    else f"{FLAG} {network.start!r} has no finished member: train it first"
                )
        found.append(Predecessor(network.start, number) if network.start else None)
    return found


def starts(
    before: Sequence[Predecessor | None], experiment: Experiment, classes: Sequence[str], mesh: Mesh
) -> list[WarmStart | None]:
    """What each member of an experiment on these classes goes on from, where it does."""
    if not any(before):
        return [None] * len(before)
    head = not experiment.method.solves
    return [
        WarmStart(one, tuple(classes), axes, head) if one else None
        for one, axes in zip(before, class_axes(experiment, len(classes), mesh), strict=True)
    ]


def class_axes(experiment: Experiment, classes: int, mesh: Mesh) -> list[dict[Place, int]]:
    """By member the axis of the classes in each variable that has one, by its place: it is longer
    with one class more."""
    counts = (
        [flatten_dict(plan.whole) for plan in architectures(experiment, count, mesh)]
        for count in (classes, classes + 1)
    )
    return [
        {
            place: next(i for i, n in enumerate(leaf.shape) if n != more[place].shape[i])
            for place, leaf in one.items()
            if leaf.shape != more[place].shape
        }
        for one, more in zip(*counts, strict=True)
    ]
