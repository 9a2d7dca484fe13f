"""What a batch asks of the parameters: which randomness it is given."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
from conftest import tiny

from fgvc_jax.objectives.base import LossOutput, Objective
from fgvc_jax.training.gradients import Gradients
from fgvc_jax.training.state import State, Teachers
from fgvc_jax.training.step import train_step
from fgvc_jax.utils import devices


def test_what_is_left_out_is_new_in_every_step_and_member():
    """The same view of an image lost the same branches in every epoch and in all members. A step
    that is taken again, after a restart, leaves out what it did."""

    def loss(forward, variables, batch, memory):
        taps = {"stage5": jnp.zeros((4, 1, 1, 1))}
        return LossOutput(variables["params"].sum(), {}, taps, {}, jax.random.key_data(batch.key))

    mesh = devices.create_mesh(4, 4)
    gradients = Gradients(
        network=SimpleNamespace(frozen="stage3", adapted=False),
        objective=Objective({}, None, loss, None),
        weigh=None, view=tiny().data.view, seed=0, total_steps=10,
    )  # fmt: skip
    step = train_step(
        gradients,
        optimizer=optax.identity(),
        learning_rate=lambda step: jnp.float32(0),
        mesh=mesh,
    )
    rows = np.arange(4, dtype=np.int32)
    batch = {"view": 0 * rows, "id": rows, "label": rows, "features": rows}

    def keys(member, number):
        numbers = np.int32(member), np.int32(number)
        state = State(*numbers, np.float32([1]), {}, optax.EmptyState(), (), Teachers(0, ()))
        state, _ = step(devices.replicate(mesh, state), devices.shard_batch(mesh, batch), None)
        return np.array(state.memory)

    found = {each: keys(*each) for each in ((1, 0), (1, 4), (2, 0), (2, 4))}
    assert len(np.unique(np.concatenate(list(found.values())), axis=0)) == 4 * len(rows)
    np.testing.assert_array_equal(keys(2, 4), found[2, 4])
