"""Which members one program asks together (`ensemble.vmapped`), and which one after the other."""

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from fgvc_jax.config import MembersAtOnce
from fgvc_jax.data.view import View
from fgvc_jax.ensemble import Stacked, stack
from fgvc_jax.inference import passes
from fgvc_jax.inference.architecture import Member
from fgvc_jax.networks import Network
from fgvc_jax.networks.efficientnet import EfficientNet
from fgvc_jax.networks.swin import SwinTransformer
from fgvc_jax.networks.vit import VisionTransformer
from fgvc_jax.utils import devices
from fgvc_jax.utils.devices import Packed
from fgvc_jax.utils.errors import UserError

MemberAnswer = dict[str, jax.Array]  # of one member, see `passes.answer_pass`
LARGEST_GROUP = 8  # members in a group, so that memory is bounded
# Of which an accelerator is given few large kernels for many small ones: vectorised over members a
# product of matrices stays one, and so does a depthwise convolution; any other becomes a grouped
# convolution, which moves half as much again (an H100, ResNet-50). On the CPU nothing gains but
# single photographs of EfficientNet-Lite, a tenth.
FAST = VisionTransformer, SwinTransformer, EfficientNet


class Group(NamedTuple):
    """Members that one program asks."""

    places: Sequence[int]  # of their answers among all that are asked for
    view: View
    step: Callable  # `passes.answer_pass` of one, `passes.ensemble_pass` of several
    variables: Any  # of one, or `Stacked`

    def ask(self, batch: Packed, store: jax.Array | None) -> list[MemberAnswer]:
        """What each of them answers."""
        found = self.step(self.variables, batch, store)
        return found if isinstance(found, list) else [found]


class Stacks:
    """Members that were stacked, on the devices, beside their own variables: of each architecture
    those that were asked for last."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Network, list[Any], Stacked]] = {}

    def of(self, network: Network, variables: Sequence[Any], mesh: Mesh) -> Stacked:
        """The variables of members of a network as one."""
        if id(network) in self._kept:
            _, before, stacked = self._kept[id(network)]
            if len(before) == len(variables) and all(map(operator.is_, before, variables)):
                return stacked
        stacked = devices.replicate(mesh, stack(variables))
        self._kept[id(network)] = network, list(variables), stacked
        return stacked


def check(asked: MembersAtOnce) -> None:
    """Raise a UserError where it is no number of members, nor "auto"."""
    whole = isinstance(asked, int) and not isinstance(asked, bool) and asked > 0
    if not whole and asked != "auto":
        raise UserError(f"--members-at-once is {asked!r}: it must be a number from 1, or auto")


def at_once(asked: MembersAtOnce, network: Network, mesh: Mesh, *, kept: bool = False) -> int:
    """How many members of one architecture a program vectorises over; 1: one program for each.

    Args:
        asked: a number, or "auto": what measured fastest, see `scripts/BENCHMARKS.md` (ensemble).
        network: of the members.
        mesh: devices. Several GPUs would each attend for the whole batch: JAX's rule for cuDNN's
            kernel joins members and images in one axis, which is then not split.
        kept: whether the answers are kept. These are then asked for one by one, by the program that
            judges a member after each epoch, so that they are the same to the bit whichever members
            were there when they were asked.
    """
    if asked != "auto":
        return asked
    platform = mesh.devices.flat[0].platform
    if kept or platform == "cpu" or (platform == "gpu" and mesh.size > 1):
        return 1
    return LARGEST_GROUP if isinstance(network.backbone, FAST) else 1


def groups(
    members: Sequence[Member],
    numbers: Sequence[int],
    *,
    asked: MembersAtOnce,
    stacks: Stacks,
    kept: bool,
    mesh: Mesh,
    **made: Any,
) -> list[Group]:
    """Chosen members by the programs that ask them: those of one architecture and view together
    where that pays, all others one by one.

    Args:
        members: of a model.
        numbers: of those that are asked, from 0, in the order of their answers.
        asked: see `at_once`.
        stacks: members that were stacked before.
        kept: see `at_once`.
        mesh: devices.
        made: other arguments of `passes.answer_pass`, but for network and view.
    """
    alike: dict[tuple[int, View], list[int]] = {}
    for place, number in enumerate(numbers):
        network, _, view = members[number]
        alike.setdefault((id(network), view), []).append(place)
    found = []
    for places in alike.values():
        several = [members[numbers[place]] for place in places]
        network, _, view = several[0]
        made |= {"network": network, "view": view, "mesh": mesh}
        most = at_once(asked, network, mesh, kept=kept)
        if most == 1 or len(places) == 1:
            step = passes.answer_pass(**made)
            found += [
                Group([place], view, step, member.variables)
                for place, member in zip(places, several, strict=True)
            ]
            continue
        stacked = stacks.of(network, [member.variables for member in several], mesh)
        step = passes.ensemble_pass(at_once=most, **made)
        found.append(Group(places, view, step, stacked))
    return found


def in_order(asked: Sequence[Group], found: Sequence[list[MemberAnswer]]) -> list[MemberAnswer]:
    """What groups of members answer, each member's in its place."""
    placed = {
        place: answer
        for group, answers in zip(asked, found, strict=True)
        for place, answer in zip(group.places, answers, strict=True)
    }
    return [placed[place] for place in range(len(placed))]
