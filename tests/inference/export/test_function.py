"""Trained members as one function: the same numbers as the model's own answers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exports import VARIANTS, images, trained

from fgvc_jax.inference.predictor import collect


@pytest.mark.parametrize("variant", ["trunk", pytest.param("hsd", marks=pytest.mark.slow)])
def test_it_answers_as_the_model(variant):
    of = trained(**VARIANTS[variant])
    some = images(of, 2)
    answered = of.inference(some)
    assert answered.shape == (2, 6) and answered.dtype == np.float32
    np.testing.assert_allclose(answered, of.model.predict(some), atol=1e-6)


def asked(of, some, *names):
    return jax.jit(functools.partial(of.inference.answers, names))(of.inference.variables, some)


@pytest.mark.parametrize("variant", ["trunk", pytest.param("vit", marks=pytest.mark.slow)])
def test_it_tells_what_members_see_and_say(variant):
    of = trained(**VARIANTS[variant])
    some = images(of, 2)
    seen, each, fused = asked(of, some, "embedding", "members", "probabilities")
    np.testing.assert_allclose(seen, of.model.embed(list(some)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(each.mean(1), fused, atol=1e-6)
    np.testing.assert_allclose(fused, of.inference(some), atol=1e-6)


def test_it_tells_how_strange_images_are_as_the_members_do():
    of = trained()
    some = images(of, 3)
    (found,) = asked(of, some, "strangeness")
    names = "energy", "max_logit"
    squares = of.model.squares(3)
    squares[:3] = some
    each = collect(of.model.ask(squares, embed=True), 3, names)
    scores = [np.stack([one[name] for one in each]) for name in names]
    np.testing.assert_allclose(found, np.stack(scores, -1).mean(0), rtol=1e-4, atol=1e-5)


def test_it_computes_in_float32_whatever_the_members_were_trained_in():
    half = trained(dtype="bfloat16", members=1)
    exact = trained(dtype="float32", members=1)
    some = images(half, 1)
    np.testing.assert_array_equal(half.inference(some), exact.inference(some))
    assert half.model.members[0].network.backbone.dtype == jnp.bfloat16
