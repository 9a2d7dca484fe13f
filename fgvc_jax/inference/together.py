"""Which members one program asks together (`ensemble.vmapped`), and which one after the other."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
from flax.typing import VariableDict
from jax.sharding import Mesh

from fgvc_jax.config import MembersAtOnce
from fgvc_jax.data.view import View
from fgvc_jax.ensemble import Alike, alike
from fgvc_jax.inference import passes
from fgvc_jax.inference.architecture import Member
from fgvc_jax.networks import Network
from fgvc_jax.networks.efficientnet import EfficientNet
from fgvc_jax.networks.swin import SwinTransformer
from fgvc_jax.networks.vit import VisionTransformer
from fgvc_jax.utils.devices import Packed
from fgvc_jax.utils.errors import UserError

MemberAnswer = dict[str, jax.Array]  # of one member, see `passes.answer_pass`
LARGEST_GROUP = 8  # members in a group, so that memory is bounded
# Of which an accelerator is given few large kernels for many small ones: vectorised over members a
# product of matrices stays one, and on a GPU a depthwise convolution, too. Any other becomes a
# grouped one, which moves half as much again (an H100, ResNet-50), and a TPU's depthwise ones move
# four times as much (Lite0), its windows a tenth more (Swin-T). On the CPU nothing gains.
FAST = {
    "gpu": (VisionTransformer, SwinTransformer, EfficientNet),
    "tpu": (VisionTransformer,),
}


class MemberGroup(NamedTuple):
    """Members that one program asks."""

    places: Sequence[int]  # of their answers among all that are asked for
    view: View
    step: Callable  # `passes.answer_pass` of one, `passes.ensemble_pass` of several
    variables: VariableDict | Alike

    def ask(self, batch: Packed, store: jax.Array | None) -> list[MemberAnswer]:
        """What each of them answers."""
        found = self.step(self.variables, batch, store)
        return found if isinstance(found, list) else [found]


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
    if kept or (platform == "gpu" and mesh.size > 1):
        return 1
    return LARGEST_GROUP if isinstance(network.backbone, FAST.get(platform, ())) else 1


def groups(
    members: Sequence[Member],
    numbers: Sequence[int],
    *,
    asked: MembersAtOnce,
    kept: bool,
    mesh: Mesh,
    **made: Any,
) -> list[MemberGroup]:
    """Chosen members by the programs that ask them: those of one architecture and view together
    where that pays, all others one by one.

    Args:
        members: of a model.
        numbers: of those that are asked, from 0, in the order of their answers.
        asked: see `at_once`.
        kept: see `at_once`.
        mesh: devices.
        made: other arguments of `passes.answer_pass`, but for network and view.
    """
    of_one: dict[tuple[int, View], list[int]] = {}
    for place, number in enumerate(numbers):
        network, _, view = members[number]
        of_one.setdefault((id(network), view), []).append(place)
    found = []
    for places in of_one.values():
        network, _, view = members[numbers[places[0]]]
        made |= {"network": network, "view": view, "mesh": mesh}
        for some in _shares(places, at_once(asked, network, mesh, kept=kept)):
            several = [members[numbers[place]].variables for place in some]
            if len(several) == 1:
                found.append(MemberGroup(some, view, passes.answer_pass(**made), several[0]))
            else:
                step = passes.ensemble_pass(**made)
                found.append(MemberGroup(some, view, step, alike(several)))
    return found


def _shares(places: list[int], most: int) -> Iterator[list[int]]:
    """As few as there can be with at most so many in each, whose lengths, of which each is a
    program to compile, differ by one at the most."""
    count = -(-len(places) // most)
    short, longer = divmod(len(places), count)
    places = list(places)
    for number in range(count):
        length = short + (number < longer)
        yield places[:length]
        places = places[length:]


def in_order(
    asked: Sequence[MemberGroup], found: Sequence[list[MemberAnswer]]
) -> list[MemberAnswer]:
    """What groups of members answer, each member's in its place."""
    placed = {
        place: answer
        for group, answers in zip(asked, found, strict=True)
        for place, answer in zip(group.places, answers, strict=True)
    }
    return [placed[place] for place in range(len(placed))]
