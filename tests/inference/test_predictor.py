"""Members that answer batch by batch, of whatever size and on however many devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from patchworks import VIEW, Patches, linear, model_of, patchwork, picture

from fgvc_jax.data import augment
from fgvc_jax.inference.predictor import collect
from fgvc_jax.utils.errors import UserError

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


def test_answers_that_are_not_finite_are_refused_also_in_python():
    """`predict` and `coarsen` of a model that has diverged: none was sure of anything."""
    row = np.arange(2)
    answer = {"row": row, "log_probabilities": row * np.nan, "finite": np.False_}
    with pytest.raises(UserError, match="answers are not finite numbers: their training has"):
        collect([answer | {"finite": np.True_}, answer], 2, ["log_probabilities"])


def test_some_members_are_asked_and_steps_are_compiled_once(predictor):
    squares = squares_of(predictor, picture(red=200), picture(blue=200))
    batch = {
        "image": squares, "label": np.zeros(2, np.int32), "row": np.arange(2, dtype=np.int32),
        "mask": np.ones(2, bool),
    }  # fmt: skip
    (both,) = predictor.answers([batch], None)
    ((second,),) = predictor.answers([batch], None, [1])
    np.testing.assert_array_equal(both[1]["log_probabilities"], second["log_probabilities"])
    one, other = (group.step for group in predictor.groups(exact=False, embed=False))
    assert one is other  # of one network
    assert one is not predictor.groups([0], exact=True, embed=False)[0].step


PICTURES = picture(red=200, green=90), picture(blue=200), picture(red=120, blue=50)


def told(model, *images):
    """(N, B, K) float32 probabilities."""
    answers = collect(model.ask(squares_of(model, *images)), len(images))
    return np.exp([answer["log_probabilities"] for answer in answers])


class LeftHalf(Patches):
    """Sees the left half of an image alone, so that its mirror image is another."""

    def __call__(self, x, *words, **named):
        left = jnp.arange(x.shape[2]) < x.shape[2] // 2
        return super().__call__(x * left[:, None], *words, **named)


LEFT = patchwork().clone(backbone=LeftHalf())


@pytest.mark.parametrize("count", [1, 3])
def test_every_member_averages_its_probabilities_over_an_image_and_its_mirror_image(count):
    predictor = model_of(LEFT, MEMBERS)
    images = PICTURES[:count]
    mirrored = [image[:, ::-1] for image in images]
    found, plain = told(predictor.with_tta("flip"), *images), told(predictor, *images)
    np.testing.assert_allclose(found, (plain + told(predictor, *mirrored)) / 2, atol=1e-6)
    np.testing.assert_allclose(found, told(predictor.with_tta("flip"), *mirrored), atol=1e-6)
    assert np.abs(found - plain).max() > 0.01
    together = predictor.with_tta("flip").predict(list(images))
    np.testing.assert_allclose(together, found.mean(0), atol=1e-6)


@pytest.mark.parametrize("tta", ["flip", "five", "scales"])
def test_a_frozen_trunk_sees_every_view(predictor, tta):
    trunk = {"params": {"unused": 0.0}}
    behind = model_of(patchwork(frozen="stage3"), MEMBERS, trunk=trunk).with_tta(tta)
    expected = told(predictor.with_tta(tta), *PICTURES)
    np.testing.assert_allclose(told(behind, *PICTURES), expected, atol=1e-3)  # it keeps float16


def test_at_one_scale_answers_are_the_plain_ones(predictor, monkeypatch):
    monkeypatch.setattr(augment, "SCALES", (1.0,))
    view = dataclasses.replace(VIEW, pad=1)  # of which no compiled views are kept yet
    members = [member._replace(view=view) for member in predictor.members]
    one = dataclasses.replace(predictor, members=members).with_tta("scales")
    np.testing.assert_allclose(told(one, *PICTURES), told(predictor, *PICTURES), rtol=1e-6)


def test_answers_for_several_views_are_kept_and_counted_like_others(predictor):
    squares = squares_of(predictor, *PICTURES)[:2]
    batch = {
        "label": np.array([0, 1], np.int32), "row": np.arange(2, dtype=np.int32),
        "mask": np.ones(2, bool),
    }  # fmt: skip
    several = predictor.with_tta("flip")
    ((kept, _),) = several.answers([batch], squares)  # images that live on the devices
    ((exact, _),) = several.answers([batch | {"image": squares}], None, exact=True)
    assert (kept["log_probabilities"].dtype, exact["log_probabilities"].dtype) == ("f2", "f4")
    np.testing.assert_allclose(kept["log_probabilities"], exact["log_probabilities"], rtol=2e-3)
    assert kept["correct"] == {"prediction": 1} and bool(kept["finite"])
    ((plain, _),) = predictor.answers([batch | {"image": squares}], None)
    np.testing.assert_array_equal(kept["attention"], plain["attention"])


def test_views_that_are_none_are_refused_in_one_line(predictor):
    with pytest.raises(UserError, match="--tta is 'ten': choose flip, five, scales"):
        predictor.with_tta("ten")
    whole = dataclasses.replace(predictor, view=dataclasses.replace(VIEW, test_view="whole"))
    with pytest.raises(UserError, match="whole, so that .* take --tta flip or scales"):
        whole.with_tta("five")
    assert whole.with_tta("flip").with_tta("").tta == ""
    handed = dataclasses.replace(predictor, view=dataclasses.replace(VIEW, flip=False))
    with pytest.raises(UserError, match="never saw a mirror image .* take --tta five or scales"):
        handed.with_tta("flip")
    assert handed.with_tta("scales").tta == "scales"


def test_a_model_in_a_notebook_does_not_print_its_variables(predictor):
    assert len(repr(predictor)) < 100
