import jax
import jax.numpy as jnp
import numpy as np

from fgvc_jax.training.state import State, Teachers, backbone_only, stack_teachers


def variables(value):
    leaf = jnp.full(2, value, jnp.float32)
    return {
        "params": {"backbone": {"w": leaf}, "heads": {"b": leaf}},
        "batch_stats": {"backbone": {"mean": leaf}},
    }


def test_teachers_are_backbones_filled_up_to_those_of_the_last_member():
    teachers = stack_teachers([variables(1), variables(2)], 3, variables(9))
    assert teachers.count == 2
    assert teachers.variables.keys() == {"params", "batch_stats"}
    stacked = teachers.variables["params"]
    assert stacked.keys() == {"backbone"}
    np.testing.assert_array_equal(stacked["backbone"]["w"], [[1, 1], [2, 2], [0, 0]])


def test_every_number_of_teachers_has_one_shape_so_that_one_program_serves_all():
    stacks = [stack_teachers([variables(1)] * n, 3, variables(0)) for n in range(4)]
    shapes = [jax.tree.map(jnp.shape, stack) for stack in stacks]
    assert all(shape == shapes[0] for shape in shapes)


def test_a_run_without_teachers_keeps_nothing_of_them():
    assert jax.tree.leaves(stack_teachers([], 0, variables(0)).variables) == []


def test_a_collection_without_a_backbone_has_no_part_in_its_taps():
    assert backbone_only({"params": {"heads": 1}, "batch_stats": {}}) == {}


def test_what_is_saved_is_all_that_a_member_cannot_have_from_elsewhere():
    state = State(jnp.int32(2), jnp.int32(5), {"p": 1}, {"s": 2}, ("o",), {"m": 3}, None)
    saved = state.saved()
    assert saved.keys() == {"step", "params", "batch_stats", "opt_state", "memory"}
    other = State(jnp.int32(2), jnp.int32(0), {}, {}, (), {}, Teachers(jnp.int32(1), ()))
    again = other.replace(**saved)
    assert again.saved() == saved and again.teachers is other.teachers
