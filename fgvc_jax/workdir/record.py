"""What identifies a run: its experiment, classes, and digests of data and weights; and config.json,
which says so."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import fgvc_jax
from fgvc_jax import config, networks
from fgvc_jax.config import Experiment
from fgvc_jax.data.names import in_the_form_of
from fgvc_jax.objectives import OBJECTIVES
from fgvc_jax.utils import digests, options
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import some
from fgvc_jax.workdir import storage

FORMAT = 2  # of what is in a workdir; raised when an older program would misread a newer one
# Where data, weights and teachers lie may change: their digests decide whether they are the same.
ELSEWHERE = (
    *("--workdir", "--data.source", "--data.cache", "--data.allow-links", "--data.taxonomy"),
    *("--network*.weights", "--network*.start", "--kd.teacher"),
)
_MOVABLE = re.compile(r"--(data\.source|networks?\.(\d+\.)?(weights|start)|kd\.teacher)")


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

    @property
    def unselected(self) -> str:
        """Why no epoch was selected, in words; empty where one was."""
        if self.experiment.method.solves:
            return "was solved, not trained by epochs"
        return "" if self.selects else "has no validation part, so no epoch was selected"

    @property
    def held_out(self) -> str:
        """Digest of the training images that a solver holds out in turn, and of how."""
        known = digests.best(self.digests["train"])
        return digests.of_value([known, self.experiment.seed, *self.groups.values()])

    @property
    def groups(self) -> dict[str, str]:
        """{"groups": digest of those that a solver holds out whole}; {} where there are none, or an
        older version did not tell."""
        found = self.digests["train"].get("groups") if self.experiment.method.solves else None
        return {"groups": found} if found else {}

    @classmethod
    def read(cls, file: Path) -> Self:
        """What a workdir's config.json says.

        Raises:
            UserError: where there is none, or it is of an export, another format or version.
        """
        saved, program = _saved(file)
        try:
            extra = {name: saved.pop(name) for name in ("class_names", "digests", "selects")}
            experiment = config.check(config.from_dict(saved))
        except (KeyError, TypeError, UserError) as error:
            if program not in ("", fgvc_jax.__version__):  # whose fields need not be ours
                raise _newer(str(file.parent), program) from error
            raise UserError(f"{str(file)!r} cannot be read: {error}") from error
        return cls(
            experiment, tuple(extra["class_names"]), extra["digests"], bool(extra["selects"])
        )

    def write(self, file: Path) -> None:
        """Write config.json.

        Raises:
            UserError: when it cannot be written.
        """
        more = {
            "format": FORMAT,
            "program": fgvc_jax.__version__,
            "class_names": list(self.classes),
            "digests": self.digests,
            "selects": self.selects,
        }
        storage.write_json(file, config.to_dict(self.experiment) | more)

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
        return {
            **asked,
            **self.groups,
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
        return known[member - 1] if isinstance(known, list) else known

    def others(self, new: "Record") -> str:
        """What is not the same in a newer record of the same folder, in words; empty if all is."""
        theirs, ours = set(self.classes), set(new.classes)
        if theirs != ours:
            if set(in_the_form_of(self.classes, new.classes)) == theirs:
                return "the same classes, whose names have their accents in another form (Unicode)"
            named = some("missing", theirs - ours) + some("new", ours - theirs)
            return f"other classes ({', '.join(named)})"
        if self.classes != new.classes:
            return "the same classes in another order"
        known, now = self.digests, new.digests
        if digests.respelt(known, now):
            return "the same images, whose names have their accents in another form (Unicode)"
        others = digests.changed(known, now)
        numbers = range(1, self.experiment.members + 1)
        same = all(self.weights(member) == new.weights(member) for member in numbers)
        others += [] if same else ["pretrained weights"]
        others += ["variables of the frozen trunk"] if known["trunk"] != now["trunk"] else []
        told = "groups" in known.get("train", {})
        others += ["groups of training images"] if told and self.groups != new.groups else []
        others += ["teachers"] if known.get("teacher") != now.get("teacher") else []
        return f"other {' and '.join(others)}" if others else ""


def another(saved: Experiment, given: Experiment) -> list[config.Change]:
    """The fields in which a given experiment is another one than the saved one.

    More members than before continue an experiment, since a member does not depend on later ones.
    """
    added = range(saved.members + 1, given.members + 1)
    theirs = tuple(f"--networks.{n}." for n in added if saved.networks)
    return [
        change
        for change in config.differences(saved, given)
        if not _MOVABLE.fullmatch(change.flag)
        if not (added and (change.flag == "--members" or change.flag.startswith(theirs)))
    ]


def says_elsewhere(saved: Experiment, given: Experiment) -> bool:
    """Whether data, weights or teachers are said to be elsewhere."""
    return any(_MOVABLE.fullmatch(each.flag) for each in config.differences(saved, given))


def _saved(file: Path) -> tuple[dict[str, Any], str]:
    """(what a config.json of this format says, the version that wrote it).

    Raises:
        UserError: as `Record.read`.
    """
    folder = str(file.parent)
    try:
        saved = storage.read_json(file)
    except FileNotFoundError:
        raise UserError(
            f"{folder!r} is no workdir of a run (it has no config.json): "
            "train first, or name another --workdir"
        ) from None
    saved = saved if isinstance(saved, dict) else {"format": None}
    found, program = saved.pop("format", 1), str(saved.pop("program", ""))
    if found != FORMAT:
        if "fgvc_jax" in saved or storage.exists(file.parent / "export.json"):
            raise UserError(
                f"{folder!r} is an export, which predict and fgvc_jax.load read; for "
                "anything else name a workdir, such as the one that it was made of"
            )
        if isinstance(found, int) and found > FORMAT:
            raise _newer(folder, program or f"a newer version (format {found})")
        raise UserError(
            f"workdir {folder!r} has format {found}, and this program reads format "
            f"{FORMAT}: name another --workdir"
        )
    return saved, program


def _newer(folder: str, program: str) -> UserError:
    return UserError(
        f"workdir {folder!r} was written by {program} of fgvc_jax, which this one "
        f"({fgvc_jax.__version__}) does not understand: use that version, or name another --workdir"
    )


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
    "--network.start",
    "--kd.teacher",
    "--kd.which",
    "--kd.members",
)
