"""Trained members on their devices: what each of them answers, batch by batch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.typing import VariableDict
from jax.sharding import Mesh

from fgvc_jax.config import MembersAtOnce
from fgvc_jax.data.view import View
from fgvc_jax.inference import passes, together
from fgvc_jax.inference.architecture import Member
from fgvc_jax.inference.passes import Predict
from fgvc_jax.inference.together import MemberAnswer, MemberGroup, in_order
from fgvc_jax.utils import devices
from fgvc_jax.utils.errors import UserError


@dataclass(kw_only=True, eq=False, repr=False)
class Predictor:
    """Networks with what they learned.

    Args:
        view: how an image is cut at test; how it is normalised, each member says.
        members: at least one, in the order of training.
        logits_of: outputs of a network -> (B, K) logits.
        mesh: devices.
        trunk: variables of the frozen trunk that the members share; empty or None without one.
        tta: what views of an image are answered and averaged, see `augment.test_views`; empty: the
            one view at test. Vectors are those of the one view.
        members_at_once: see `together.at_once`; it changes answers by their rounding alone.
    """

    view: View
    members: Sequence[Member]
    logits_of: Predict
    mesh: Mesh
    trunk: VariableDict | None = None
    tta: str = ""
    members_at_once: MembersAtOnce = "auto"

    def __post_init__(self) -> None:
        together.check(self.members_at_once)
        self.members = tuple(self.members)
        self.trunk = self.trunk or {}

    def answers(
        self,
        batches: Iterable[devices.Packed],
        store: jax.Array | None,
        members: Iterable[int] | None = None,
        *,
        exact: bool = False,
        embed: bool = False,
    ) -> Iterator[list[dict[str, jax.Array]]]:
        """What every member answers, batch by batch (`inference.passes.answer_pass`).

        Args:
            batches: evaluation batches on the devices.
            store: the images on the devices, where the batches have none.
            members: numbers of the members to ask, from 0; None asks all.
            exact: log-probabilities that nobody keeps, hence not rounded.
            embed: whether `exact` ones have what the members see, too; others always have it.
        """
        groups = self.groups(members, exact=exact, embed=embed)
        for batch in batches:
            if self.tta:
                yield self._mean_answers(batch, store, groups, exact)
                continue
            batch = self.seen(batch, store)
            yield in_order(groups, [group.ask(batch, store) for group in groups])

    def groups(
        self, members: Iterable[int] | None = None, *, exact: bool, embed: bool
    ) -> list[MemberGroup]:
        """The programs that ask members; arguments as for `answers`."""
        return together.groups(
            self.members,
            list(range(len(self.members)) if members is None else members),
            asked=self.members_at_once,
            kept=not exact,
            predict=self.logits_of,
            mesh=self.mesh,
            exact=exact or bool(self.tta),  # of several views the mean alone is rounded
            embed=embed or not (exact or self.tta),
        )

    def _mean_answers(
        self,
        batch: devices.Packed,
        store: jax.Array | None,
        groups: Sequence[MemberGroup],
        exact: bool,
    ) -> list[MemberAnswer]:
        """What members answer for a batch of images on average over the views."""
        shown: dict[View, list[Any]] = {}
        for view in {group.view for group in groups}:
            views = passes.views_pass(view=view, tta=self.tta, mesh=self.mesh)(batch, store)
            shown[view] = [self.seen(batch | {"shown": each}, store) for each in views]
        mean = passes.mean_pass(mesh=self.mesh, exact=exact)

        def ask(group):
            in_views = [group.ask(each, store) for each in shown[group.view]]
            return [mean(list(answers), batch) for answers in zip(*in_views, strict=True)]

        return in_order(groups, [ask(group) for group in groups])

    def seen(self, batch: devices.Packed, store: jax.Array | None) -> devices.Packed:
        """A batch with what the frozen trunk makes of it, where there is one."""
        if self.trunk and "features" not in batch:
            features = self._trunk_pass(self.trunk, batch, store)
            # As where they are looked up, so that members have one program for both.
            return batch.without("image") | {"features": features}
        return batch

    @cached_property
    def _trunk_pass(self) -> Callable:
        network, _, view = self.members[0]
        return passes.trunk_pass(network=network, show=passes.TestView(view), mesh=self.mesh)

    def grid(self, number: int) -> tuple[int, int]:
        """(h, w) of the attention map of a member, counted from 0."""
        return self.taps[number]["stage5"].shape[1:3]

    @cached_property
    def taps(self) -> list[dict[str, jax.ShapeDtypeStruct]]:
        """Shapes and dtypes of the taps of one image in each member."""
        image = jax.ShapeDtypeStruct((1, self.view.crop, self.view.crop, 3), jnp.float32)

        def shapes(member):
            def taps(trunk, variables, images):
                inputs = member.network.apply(trunk, images, method="features")
                return member.network.apply(variables, inputs, False, method="taps")

            return jax.eval_shape(taps, self.trunk, member.variables, image)

        # Tracing a network takes as long as asking it about an image.
        of_network = {id(member.network): member for member in self.members}
        known = {key: shapes(member) for key, member in of_network.items()}
        return [known[id(member.network)] for member in self.members]

    def squares(self, count: int) -> np.ndarray:
        """(B, R, R, 3) uint8 for `count` images, B of few sizes, so that few programs are compiled:
        a power of two, or the next multiple of the devices."""
        size = max(self.mesh.size, 1 << (count - 1).bit_length())
        size = -(-size // self.mesh.size) * self.mesh.size
        return np.zeros((size, self.view.test_side, self.view.test_side, 3), np.uint8)

    def ask(self, squares: np.ndarray, *, embed: bool = False) -> list[dict[str, jax.Array]]:
        """Begin to answer for (B, R, R, 3) uint8, and with `embed` to say what is seen; `collect`
        waits for what every member says."""
        (answers,) = self.answers([self.batch(squares)], None, exact=True, embed=embed)
        return answers

    def batch(self, squares: np.ndarray) -> devices.Packed:
        """(B, R, R, 3) uint8 without labels as an evaluation batch on the devices."""
        rows = np.arange(len(squares), dtype=np.int32)
        batch = {"image": squares, "label": 0 * rows, "row": rows, "mask": rows >= 0}
        return devices.shard_batch(self.mesh, batch)


def collect(
    answers: Sequence[dict[str, jax.Array]],
    count: int,
    names: Sequence[str] = ("log_probabilities", "attention"),
) -> list[dict[str, np.ndarray]]:
    """What every member answers for the first `count` images that it was asked for, in order: the
    arrays called `names`.

    Raises:
        UserError: where answers are not finite.
    """
    found = []
    for answer in jax.device_get(answers):
        if not answer.get("finite", True):
            raise UserError(
                "the members' answers are not finite numbers: their training has diverged; train "
                "again with a lower --optimizer.learning-rate"
            )
        order = np.argsort(answer["row"])[:count]
        found.append({name: answer[name][order] for name in names})
    return found
