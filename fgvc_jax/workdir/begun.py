"""What a member was begun as: written as its training begins, and compared at every start.

So a member is known by what computed its first step, whatever goes on with it or looks at it later.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax

from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import storage
from fgvc_jax.workdir.folder import Workdir
from fgvc_jax.workdir.record import Record

FILE = "member.json"
_SINCE = 2  # the numerics of members begun before they told them
_OF_AN_EPOCH = "selected.json", "selected", "best_on_test.json", "best_on_test.npy"


def read(workdir: Workdir, number: int) -> dict[str, Any]:
    """What a member's file says; nothing where there is none."""
    try:
        found = storage.read_json(workdir.member(number) / FILE)
    except FileNotFoundError:
        return {}
    return found if isinstance(found, dict) else {}


def forget_epochs(workdir: Workdir, number: int) -> None:
    """Remove what is kept of the best epochs of a member that begins anew."""
    for name in _OF_AN_EPOCH:
        storage.remove(workdir.member(number) / name)


def write(workdir: Workdir, record: Record, number: int, teachers: Sequence[str]) -> dict[str, Any]:
    """Write what a member begins as and return it; `teachers` as for `Record.training`."""
    training = {"training": record.training(number, teachers)}
    begun = training | record.origin(number, teachers)
    storage.write_json(workdir.member(number) / FILE, begun)
    return begun


def check(workdir: Workdir, record: Record, number: int, teachers: Sequence[str]) -> str:
    """Compare what a member was begun as with what it would begin as now.

    The data are compared by parts (`Record.others`): they may be known by other digests now.

    Returns:
        What is computed otherwise now, in words, where that is no reason to refuse: the member is
        trained. Empty for nothing.

    Raises:
        UserError: naming what is not the same.
    """
    found, now = read(workdir, number), record.origin(number, teachers)
    name = f"member {number} in {str(workdir.path)!r}"
    if found.get("teachers") and found["teachers"] != now["teachers"]:
        raise UserError(
            f"{name} was trained against other members than those that are there now: remove "
            f"{str(workdir.member(number))!r} to train it again"
        )
    for key, what in (("weights", "pretrained weights"), ("teacher", "teachers")):
        if key in found and found[key] != now.get(key):
            raise UserError(
                f"{name} was begun with other {what}: give those again, or name another --workdir"
            )
    if not found:
        return ""
    others = " and ".join(_otherwise(found.get("numerics", _SINCE), now["numerics"]))
    if others and not storage.exists(workdir.final(number)):
        raise UserError(
            f"{name} was begun by a version of this program that computes {others} otherwise: go "
            "on with that version, or name another --workdir"
        )
    return others


def check_all(workdir: Workdir, record: Record, members: int) -> list[str]:
    """Compare the first trained members as `check` does; a line for people on each that is computed
    otherwise now."""
    return [
        told(number, others)
        for number, _, teachers in trained(workdir, members)
        if (others := check(workdir, record, number, teachers))
    ]


def told(number: int, others: str) -> str:
    """A line on a trained member of which `others` is computed otherwise now."""
    return (
        f"member {number} was trained by a version of this program that computes {others} "
        "otherwise: what it learned stands; another --workdir trains it anew"
    )


def check_lost(workdir: Workdir, record: Record) -> None:
    """Refuse members of another experiment, which nothing else tells once config.json is lost.

    Raises:
        UserError: naming the first of them.
    """
    for number, found, teachers in trained(workdir, record.experiment.members):
        if found.get("training") not in (None, record.training(number, teachers)):
            raise UserError(
                f"workdir {str(workdir.path)!r} lost its config.json, and its member {number} is "
                "of another experiment: give the command that trained it, or another --workdir"
            )


def trained(workdir: Workdir, members: int) -> Iterator[tuple[int, dict[str, Any], list[str]]]:
    """(number, what its file says, digests of the members before it) of the first trained members,
    up to where one does not tell what the later ones were taught by."""
    teachers: list[str] = []
    for number in range(1, min(workdir.trained(), members) + 1):
        found = read(workdir, number)
        yield number, found, list(teachers)
        if "variables" not in found:
            return
        teachers.append(found["variables"])


def _otherwise(before: object, now: object) -> list[str]:
    """Parts that are not computed as they were, of two `digests.numerics`, that a run here feels:
    on accelerators a convolution of bfloat16 is what it was."""
    known, new = (each if isinstance(each, dict) else {"step": each} for each in (before, now))
    return [
        part
        for part in sorted(known.keys() | new.keys())
        if known.get(part, 1) != new.get(part, 1)
        and not (part == "bfloat16 depthwise" and jax.default_backend() != "cpu")
    ]
