"""The attention of the members before, which the orthogonal loss compares a student with.

The loss is linear in |Z_teacher|. So the sum of |Z| over the frozen members is all that the next
member needs, and its step costs what a step without teachers costs. The sum is rounded to float16
after each member: so it has the same bits wherever it was begun.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from fgvc_jax.data.view import View
from fgvc_jax.inference import passes
from fgvc_jax.inference.architecture import Member
from fgvc_jax.training.precomputed.store import Output
from fgvc_jax.training.state import backbone_only
from fgvc_jax.utils.devices import split


@dataclass(frozen=True)
class SummedAttention:
    """Sum over frozen members of |Z| on the grid of a student's maps.

    Args:
        members: (digest, member) of them, in order; there may be none.
        parts: of `digests.NUMERICS` that the network of each computes with.
        grid: (h, w) of the student's maps.
        grids: those of all students of the run; each has a sum of its own.
        view: what is shown of an image.
        seed: of the views.
        trunk: digest of what all members share, a frozen trunk; None where there is none.
        batch_size: of training.
        mesh: devices.
        behind: whether they go on from what that trunk makes of images.
    """

    members: Sequence[tuple[str, Member]]
    parts: Sequence[Sequence[str]]
    grid: tuple[int, int]
    grids: Sequence[tuple[int, int]]
    view: View
    seed: int
    trunk: str | None
    batch_size: int
    mesh: Mesh
    behind: bool = False

    what = "attention maps"
    broken = "the training of a member before has diverged"
    instead = "the members before are asked in every step"

    def outputs(self, part: str) -> Mapping[str, Output]:
        """The sum for a training image, if there are members."""
        if part != "train" or not self.members:
            return {}
        count = len(self.members)
        earlier = [(self._sum(n), partial(self.sum, begun=n)) for n in range(count - 1, 0, -1)]
        return {"attention": self._sum(count)._replace(earlier=earlier)}

    def _sum(self, count: int) -> Output:
        """The sum over the first `count` members."""
        digests = [digest for digest, _ in self.members[:count]]
        return Output(
            name="attention" + "x".join(map(str, self.grid)),
            compute=self.sum,
            shapes={"sum": self.grid},
            known=[digests, self.view.known, self.seed, self.trunk, self.grid],
            parts=sorted({part for own in self.parts[:count] for part in own}),
            needs=("features",) if self.behind else (),
            as_in_step=self.behind,
            earlier=[],
            room=sum(h * w for h, w in self.grids) / math.prod(self.grid),
        )

    def sum(
        self, batch: Mapping[str, Any], store: jax.Array | None, begun: int = 0
    ) -> dict[str, jax.Array]:
        """{"sum": (B, h, w) float16}; of the first `begun` members the batch has the sum."""
        total: Any = batch["attention"]["sum"] if begun else np.float16(0)
        for (_, member), step in list(zip(self.members, self._steps, strict=True))[begun:]:
            variables = backbone_only(member.variables)
            total = self._add(total, step(variables, batch, store))
        return {"sum": total}

    def mean(self, batch: Mapping[str, Any]) -> jax.Array:
        """Mean over the members of |Z| for a batch that has their sum: (B, h, w) float32. Zero
        while there is no member."""
        if not self.members:
            return self._counts
        return self._mean(batch["attention"]["sum"], self._counts)

    @cached_property
    def _steps(self) -> list[Callable]:
        """The compiled |Z| of each member."""
        return [
            passes.attention_pass(
                network=member.network,
                view=member.view,
                seed=self.seed,
                grid=self.grid,
                mesh=self.mesh,
            )
            for _, member in self.members
        ]

    # Programs of their own: fused into a member's, a sum might be rounded otherwise.

    @cached_property
    def _add(self) -> Callable:
        def add(total, attention):
            return (total.astype(jnp.float32) + attention).astype(jnp.float16)

        return jax.jit(add, out_shardings=split(self.mesh))

    @cached_property
    def _mean(self) -> Callable:
        return jax.jit(
            lambda total, counts: total.astype(jnp.float32) / counts, out_shardings=split(self.mesh)
        )

    @cached_property
    def _counts(self) -> jax.Array:
        """(B, h, w) full of the number of members: by a scalar XLA divides with another rounding,
        it multiplies by the reciprocal."""
        shape, count = (self.batch_size, *self.grid), len(self.members)
        full = jax.jit(lambda: jnp.full(shape, count, jnp.float32), out_shardings=split(self.mesh))
        return full()
