"""Of a stream of answers few are kept, and the same are chosen however it is cut into batches."""

from types import SimpleNamespace

import numpy as np
import pytest

from fgvc_jax.inference.labelling import ToLabel
from fgvc_jax.utils.errors import UserError

RANDOM = np.random.default_rng(0)
LOGS = np.log(RANDOM.dirichlet([0.5] * 3, size=(2, 30)))
VECTORS = RANDOM.standard_normal((30, 4))


class Stand:
    classes = ("a", "b", "c")

    def fused(self, answers):
        return np.mean([each["log_probabilities"] for each in answers], axis=0)

    def each(self, answers):
        return np.stack([each["log_probabilities"] for each in answers])

    def whole(self, answers, names, *, normalize):
        vectors = answers[0]["embedding"]
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    @property
    def remembered(self):
        raise UserError("none are kept")


def answered(rows):
    each = [{"log_probabilities": logs[rows], "embedding": VECTORS[rows]} for logs in LOGS]
    problems = ["cannot be read" if row == 3 else "" for row in rows]
    return SimpleNamespace(paths=[f"{r}.png" for r in rows], problems=problems, answers=each)


@pytest.mark.parametrize("size", [1, 7, 30])
def test_the_same_are_chosen_in_whatever_batches(size):
    found = ToLabel(Stand(), 3)
    for start in range(0, 30, size):
        found.add(answered(np.arange(start, min(start + size, 30))))
        assert len(found._candidates) <= 12
    chosen = [each.path for each in found.chosen()]
    whole = ToLabel(Stand(), 3)
    whole.add(answered(np.arange(30)))
    assert chosen == [each.path for each in whole.chosen()] and len(set(chosen)) == 3
    assert "3.png" not in chosen


def test_nothing_that_could_be_read_is_nothing_to_label():
    found = ToLabel(Stand(), 3)
    found.add(answered(np.array([3])))
    assert found.chosen() == []
