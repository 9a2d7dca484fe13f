"""Members that answer batch by batch, of whatever size and on however many devices."""

import jax
import numpy as np
import pytest
from patchworks import linear, model_of, patchwork, picture

from fgvc_jax.inference.predictor import collect

KERNEL = np.eye(3) * 8
MEMBERS = [linear(KERNEL), linear(KERNEL[::-1])]


@pytest.fixture
def predictor():
    return model_of(patchwork(), MEMBERS)


def squares_of(predictor, *images):
    squares = predictor.squares(len(images))
    for i, image in enumerate(images):
        squares[i] = predictor.square(image)
    return squares


@pytest.mark.parametrize(("count", "size"), [(2, 2), (3, 4), (5, 8), (64, 64)])
def test_few_sizes_are_compiled(predictor, count, size):
    side = predictor.view.test_side
    assert predictor.squares(count).shape == (size, side, side, 3)


def test_every_member_answers_for_every_image_in_order(predictor):
    images = picture(red=200), picture(blue=200), picture(red=200)
    answers = collect(predictor.ask(squares_of(predictor, *images)), len(images))
    one, other = (answer["log_probabilities"] for answer in answers)
    assert one.argmax(-1).tolist() == [0, 2, 0] and other.argmax(-1).tolist() == [2, 0, 2]
    np.testing.assert_allclose(np.exp(one).sum(-1), 1, rtol=1e-5)
    assert answers[0]["attention"].shape == (3, *predictor.grid(0))


def test_answers_are_placed_by_their_row(predictor):
    answers = [
        {name: jax.numpy.asarray(values) for name, values in answer.items()}
        for answer in [
            {
                "row": np.array([2, 0, 1]),
                "log_probabilities": np.array([[2.0], [0.0], [1.0]]),
                "attention": np.zeros((3, 1, 1)),
            }
        ]
    ]
    (found,) = collect(answers, 2)
    assert found["log_probabilities"].tolist() == [[0.0], [1.0]]


def test_some_members_are_asked_and_steps_are_compiled_once(predictor):
    squares = squares_of(predictor, picture(red=200), picture(blue=200))
    batch = {
        "image": squares, "label": np.zeros(2, np.int32), "row": np.arange(2, dtype=np.int32),
        "mask": np.ones(2, bool),
    }  # fmt: skip
    (both,) = predictor.answers([batch], None)
    ((second,),) = predictor.answers([batch], None, [1])
    np.testing.assert_array_equal(both[1]["log_probabilities"], second["log_probabilities"])
    one, other = (predictor._step(member, False) for member in predictor.members)
    assert one is other  # of one network
    assert one is not predictor._step(predictor.members[0], True)


def test_a_model_in_a_notebook_does_not_print_its_variables(predictor):
    assert len(repr(predictor)) < 100
