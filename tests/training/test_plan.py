import dataclasses

import jax
import numpy as np
import pytest
from conftest import tiny
from flax import linen as nn

from fgvc_jax.config import Network, Optimizer, Transfer
from fgvc_jax.training import plan
from fgvc_jax.training.run import Run
from fgvc_jax.utils.errors import UserError


def test_backbone_and_heads_learn_at_rates_of_their_own():
    spec = Optimizer(learning_rate=0.1, head_learning_rate=0.5, schedule="constant")
    rates = plan.schedules(spec, steps_per_epoch=4, epochs=2)
    assert float(rates["backbone"](3)) == pytest.approx(0.1)
    assert float(rates["heads"](3)) == pytest.approx(0.5)


def test_a_backbone_without_an_order_of_layers_has_one_rate():
    assert plan.layers_of(Optimizer(), nn.Dense(1)) is None
    with pytest.raises(UserError, match="--optimizer.layer-decay 0.5: .* leave it at 1"):
        plan.layers_of(Optimizer(layer_decay=0.5), nn.Dense(1))


def test_groups_of_a_batch_norm_that_is_not_there_are_refused():
    with pytest.raises(UserError, match="there is no batch norm in vit_micro and its heads"):
        Run(tiny(network=Network(name="vit_micro", head="linear", batch_norm_groups=2)))


@pytest.mark.slow
@pytest.mark.parametrize(("maps", "room"), [("online", 2), ("precomputed", 0)])
def test_a_state_has_room_for_the_teachers_of_the_last_member_where_they_are_asked(maps, room):
    network = Network(name="vit_micro", head="linear")
    run = Run(tiny(members=3, network=network, transfer=Transfer(name="orthogonal", maps=maps)))
    variables = run.start.variables(1)
    states = [run.state(number, [variables] * (number - 1)) for number in (1, 2)]
    for number, state in enumerate(states, start=1):
        assert state.member.dtype == state.step.dtype == np.int32
        assert (int(state.member), int(state.step)) == (number, 0)
        assert int(state.teachers.count) == (number - 1 if room else 0)
        stacked = {leaf.shape[0] for leaf in jax.tree.leaves(state.teachers.variables)}
        assert stacked == ({room} if room else set())
    shapes = [jax.tree.map(np.shape, dataclasses.replace(state)) for state in states]
    assert shapes[0] == shapes[1]
