"""Counts and accuracies of a batch, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgvc_jax.objectives.accuracy import accuracy, correct

LABELS = np.array([0, 1, 2, 2])
LOGITS = np.float32([[3, 1, 2], [0, 0, 1], [-1, -2, -0.5], [9, 9, 9]])  # right: 0 and 2


def test_padding_is_not_counted():
    for mask, count in (([1, 1, 1, 1], 2), ([0, 1, 1, 1], 1), ([0, 1, 0, 1], 0)):
        found = jax.jit(correct)(LOGITS, LABELS, np.array(mask, bool))
        assert found.dtype == jnp.int32 and found == count


def test_each_of_several_heads_is_counted():
    several = np.stack([LOGITS, -LOGITS, np.eye(3)[LABELS]])
    np.testing.assert_array_equal(correct(several, LABELS, np.ones(4, bool)), [2, 0, 4])
    np.testing.assert_array_equal(accuracy(several, LABELS), [0.5, 0, 1])


def test_of_equal_logits_the_first_class_is_the_answer():
    """As NumPy's argmax has it, which judges the stored predictions."""
    tied = np.zeros((3, 3), np.float32)
    assert correct(tied, np.array([0, 1, 2]), np.ones(3, bool)) == 1
    np.testing.assert_array_equal(np.argmax(tied, -1), 0)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_fraction_is_float32(dtype):
    found = accuracy(jnp.asarray(LOGITS, dtype), LABELS)
    assert found.dtype == jnp.float32 and found == 0.5
