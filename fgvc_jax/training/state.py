"""The training state of one member: a dataclass of arrays, nothing else survives a step."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.typing import Collection, VariableDict


class State(struct.PyTreeNode):
    """member, step: int32 scalars, the former's number from 1. memory: the objective's. teachers:
    frozen members, stacked. average: moving one of the variables; {} where none is kept."""

    member: jax.Array
    step: jax.Array
    params: Collection
    batch_stats: Collection
    opt_state: optax.OptState
    memory: Any  # whatever pytree the objective keeps
    teachers: "Teachers"
    average: VariableDict = struct.field(default_factory=dict)

    @property
    def variables(self) -> VariableDict:
        """What is judged and kept of the member."""
        return self.average or {"params": self.params, "batch_stats": self.batch_stats}

    def saved(self) -> dict[str, Any]:
        """What a checkpoint holds: all but the member's number, which its place tells, and the
        teachers, who have checkpoints of their own."""
        saved = {
            "step": self.step,
            "params": self.params,
            "batch_stats": self.batch_stats,
            "opt_state": self.opt_state,
            "memory": self.memory,
        }
        return saved | ({"average": self.average} if self.average else {})


class Teachers(struct.PyTreeNode):
    """The frozen members' backbones, stacked along a leading axis; the first `count` are there.

    The axis has room for all teachers of the last member, so that one compiled step serves every
    member of a run.
    """

    count: jax.Array
    variables: VariableDict | tuple[()]  # of `backbone_only`; () where there is no room for any


def backbone_only(variables: VariableDict) -> VariableDict:
    """The part of a network's variables that its taps need."""
    return {
        collection: {"backbone": tree["backbone"]}
        for collection, tree in variables.items()
        if "backbone" in tree
    }


def stack_teachers(members: Sequence[VariableDict], room: int, like: VariableDict) -> Teachers:
    """Stack the frozen members' backbones, filling up with zeros to `room` teachers.

    Args:
        members: variables of each frozen member.
        room: length of the stacked axis, at least len(members).
        like: variables of a network, for the shapes.
    """
    backbones = [backbone_only(member) for member in members]
    empty = jax.tree.map(jnp.zeros_like, backbone_only(like))
    rows = backbones + [empty] * (room - len(backbones))
    if not rows:
        return Teachers(jnp.int32(0), ())
    return Teachers(jnp.int32(len(members)), jax.tree.map(lambda *x: jnp.stack(x), *rows))
