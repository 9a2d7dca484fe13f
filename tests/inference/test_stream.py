"""Answers as a stream: in order, ahead, whatever is among the files."""

import threading
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from fgvc_jax.data.inputs import InputFile
from fgvc_jax.inference import stream
from fgvc_jax.utils.errors import UserError


class Stand:
    """Stands for a model: says of each square what its first value is."""

    def __init__(self, finite=True):
        self.sizes, self.asked, self.decoded, self.finite = [], 0, 0, finite
        self._lock = threading.Lock()

    def squares(self, count):
        self.sizes.append(count)
        return np.zeros((count, 2, 2, 3), np.uint8)

    def square(self, path):
        with self._lock:
            self.decoded += 1
        if path == "broken":
            raise UserError("it is broken")
        return np.full((2, 2, 3), int(path), np.uint8)

    def ask(self, squares):
        self.asked += 1
        rows = np.arange(len(squares))[::-1]  # devices may stand in any order
        values = jnp.asarray(squares[rows, 0, 0, 0], jnp.float32)[:, None]
        return [{"log_probabilities": values, "attention": values, "row": jnp.asarray(rows),
                 "finite": jnp.asarray(self.finite)}]  # fmt: skip


def answer(model, files, **options):
    return stream.answer(model, files, **{"batch_size": 4, "threads": 2} | options)


def test_answers_come_in_the_order_of_the_files():
    model = Stand()
    found = list(answer(model, [InputFile(str(i)) for i in range(10)]))
    assert [path for some in found for path in some.paths] == [str(i) for i in range(10)]
    values = np.concatenate([some.answers[0]["log_probabilities"][:, 0] for some in found])
    np.testing.assert_array_equal(values, np.arange(10))
    assert model.sizes == [4, 4, 4]  # the last one too: one program


def test_few_files_are_a_small_batch():
    model = Stand()
    (some,) = answer(model, [InputFile("5"), InputFile("6")])
    assert model.sizes == [2] and some.answers[0]["log_probabilities"].tolist() == [[5], [6]]


def test_what_is_broken_disturbs_nobody():
    files = [
        InputFile("1"),
        InputFile("broken"),
        InputFile("3"),
        InputFile("folder", "cannot list"),
    ]
    (some,) = answer(Stand(), files)
    assert some.problems == ["", "it is broken", "", "cannot list"]
    assert some.answers[0]["log_probabilities"][[0, 2], 0].tolist() == [1, 3]


def test_files_are_read_ahead_but_not_all():
    model, taken = Stand(), []

    def files():
        for i in range(1000):
            taken.append(i)
            yield InputFile(str(i % 256))

    answers = answer(model, files())
    next(answers)
    _, most = stream.AHEAD_BATCHES
    assert model.asked == 2  # the next batch is under way while this one is looked at
    assert 8 < len(taken) <= 4 * (most + 3)
    answers.close()


def test_large_images_are_read_less_far_ahead(monkeypatch):
    monkeypatch.setattr(stream, "AHEAD_BYTES", 0)
    model, taken = Stand(), []
    answers = answer(model, (taken.append(i) or InputFile(str(i)) for i in range(100)))
    next(answers)
    assert len(taken) == 16


def test_nothing_is_answered_for_nothing():
    assert list(answer(Stand(), [])) == []


def test_members_that_diverged_are_told():
    with pytest.raises(UserError, match="not finite"):
        list(answer(Stand(finite=False), [InputFile("1")]))


def test_vectors_come_in_order_and_those_of_broken_files_are_no_numbers():
    class Seeing(Stand):
        widths = begin = None

        def __init__(self):
            super().__init__()
            self.widths = lambda tap: (1,)
            self.begin = lambda squares, tap: (tap, squares[:, 0, 0, :1])

        def vectors(self, begun, names, *, normalize):
            assert begun[0] == "stage3" and normalize
            return begun[1][: len(names)].astype(np.float32)

    files = [
        InputFile("7"),
        InputFile("broken"),
        *(InputFile(str(i)) for i in range(5)),
        InputFile("x", "gone"),
    ]
    found = list(
        stream.embed(Seeing(), files, tap="stage3", normalize=True, batch_size=4, threads=2)
    )
    assert [len(some.paths) for some in found] == [4, 4]
    rows = np.concatenate([some.vectors[:, 0] for some in found])
    np.testing.assert_array_equal(rows, [7, np.nan, 0, 1, 2, 3, 4, np.nan])
    assert [bool(p) for some in found for p in some.problems] == [False, True, *[False] * 5, True]


def test_an_error_of_ours_is_not_hidden():
    model = Stand()
    model.square = lambda path: SimpleNamespace().missing
    with pytest.raises(AttributeError):
        list(answer(model, [InputFile("1")]))
