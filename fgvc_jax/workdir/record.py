"""What identifies a run: its experiment, classes, and digests of data and weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fgvc_jax import networks
from fgvc_jax.config import Experiment
from fgvc_jax.objectives import OBJECTIVES
from fgvc_jax.utils import digests, options
from fgvc_jax.utils.text import some

FORMAT = 2  # of what is in a workdir; raised when an older program would misread a newer one


@dataclass(frozen=True)
class Record:
    """What config.json says of a run."""

    experiment: Experiment  # resolved: nothing is left to the devices or the data
    classes: tuple[str, ...]
    # Of the data (`digests.of_data`); as "weights" of their file, a list where members have
    # networks of their own; as "trunk" of the frozen one; as "teacher" of the ensemble that the
    # objective asks, and as "teacher_parts" what of `digests.NUMERICS` that computes with.
    digests: dict[str, Any]
    selects: bool  # whether there is a validation part

    def training(self, member: int, teachers: Sequence[str]) -> str:
        """Digest of all that the variables of member `member` (from 1) depend on.

        Args:
            member: its number.
            teachers: digests of the frozen members before it.
        """
        spec = self.experiment.of(member)
        fields = {
            flag: value
            for flag, field, value in options.fields(spec)
            if not field.metadata.get("free")
            and options.digested(field, value)
            and flag not in _NOT_OF_ONE_MEMBER
        }
        if member == 1:  # whose own views are those that all share
            del fields["--data.view-sharing"]
        origin = self.origin(member, teachers)
        others = {f"--{name}." for name in OBJECTIVES if name != spec.objective}
        others |= set() if origin["teachers"] else {"--transfer."}
        fields = {k: v for k, v in fields.items() if not k.startswith(tuple(others))}
        return digests.of_value(origin | {"fields": fields})

    def origin(self, member: int, teachers: Sequence[str]) -> dict[str, Any]:
        """What the variables of member `member` (from 1) depend on beside the experiment's fields,
        as JSON has it; `teachers` as for `training`."""
        spec = self.experiment
        taught = spec.transfer.name != "none" and bool(teachers)
        asked = {"teacher": self.digests["teacher"]} if spec.method.asks else {}
        return asked | {
            "numerics": self.numerics(member),
            "member": member,
            "teachers": list(teachers) if taught else [],
            "weights": self.weights(member),
            "data": self.digests["data"],
        }

    def numerics(self, member: int) -> int | dict[str, int]:
        """How the numbers of member `member` (from 1) are computed, see `digests.numerics`."""
        spec = self.experiment.of(member)
        network = spec.network
        own = networks.parts(
            network.name,
            dtype=network.dtype,
            kept=bool(network.frozen),
            stochastic_depth=network.stochastic_depth,
        )
        of_method = spec.method.parts(spec.data.view)
        return digests.numerics([*own, *of_method, *self.digests.get("teacher_parts", ())])

    def weights(self, member: int) -> str | None:
        """Digest of the pretrained weights of member `member` (from 1); None where it has none."""
        known = self.digests["weights"]
        return known[member - 1] if self.experiment.networks else known

    def others(self, new: "Record") -> str:
        """What is not the same in a newer record of the same folder, in words; empty if all is."""
        theirs, ours = set(self.classes), set(new.classes)
        if theirs != ours:
            named = some("missing", theirs - ours) + some("new", ours - theirs)
            return f"other classes ({', '.join(named)})"
        if self.classes != new.classes:
            return "the same classes in another order"
        known, now = self.digests, new.digests
        others = digests.changed(known, now)
        numbers = range(1, self.experiment.members + 1)
        same = all(self.weights(member) == new.weights(member) for member in numbers)
        others += [] if same else ["pretrained weights"]
        others += ["variables of the frozen trunk"] if known["trunk"] != now["trunk"] else []
        others += ["teachers"] if known.get("teacher") != now.get("teacher") else []
        return f"other {' and '.join(others)}" if others else ""


# Fields that change no number of a single member: data, weights and teachers have digests of their
# own.
_NOT_OF_ONE_MEMBER = (
    "--members",
    "--fusion",
    "--data.source",
    "--data.classes",
    "--data.images-per-class",
    "--data.validation",
    "--network.weights",
    "--kd.teacher",
    "--kd.which",
    "--kd.members",
)
