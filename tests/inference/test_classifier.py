"""What members say together, among some of their classes."""

from dataclasses import replace

import numpy as np
import pytest

from fgvc_jax.ensemble import log_softmax
from fgvc_jax.evaluation.calibration import Calibration
from fgvc_jax.inference.classifier import Classifier
from fgvc_jax.inference.labelling import ToLabel
from fgvc_jax.inference.stream import Answered
from fgvc_jax.utils.errors import UserError

CLASSES = "ant", "bee", "cow", "dog"


class Still(Classifier):
    """Members who answer what they are told to."""

    calibration = Calibration(2.0, 0.9, 0.5, 100, 1.5, 2.5)


def still(fusion="probabilities"):
    return Still(view=None, members=(), logits_of=None, mesh=None, classes=CLASSES,
                 identities=("a", "b"), fusion=fusion)  # fmt: skip


ANSWERS = [
    {"log_probabilities": log_softmax(np.random.default_rng(n).normal(0, 2, (5, 4)).astype("f4"))}
    for n in range(2)
]


@pytest.mark.parametrize("fusion", ["probabilities", "logits"])
@pytest.mark.parametrize("calibrated", [False, True])
def test_probabilities_among_some_are_those_of_all_shared_out_anew(fusion, calibrated):
    """Also of calibrated ones: their temperature is that of all classes."""
    whole = still(fusion)
    some = whole.among(["dog", "bee"])
    assert some.classes == ("bee", "dog") and some.listed == (1, 3)
    p = np.exp(whole.fused(ANSWERS, calibrated=calibrated))
    anew = np.exp(some.fused(ANSWERS, calibrated=calibrated))
    mass = p[:, [1, 3]].sum(1)
    np.testing.assert_allclose(anew, p[:, [1, 3]] / mass[:, None], rtol=1e-5)
    outside = some.mass_outside(ANSWERS, calibrated=calibrated)
    np.testing.assert_allclose(outside, 1 - mass, rtol=1e-4, atol=1e-6)
    assert not whole.mass_outside(ANSWERS).any()


def test_each_member_names_one_of_the_listed_classes():
    own = [answer["log_probabilities"] for answer in ANSWERS]
    np.testing.assert_array_equal(still().said(ANSWERS), [each.argmax(1) for each in own])
    among = still().among(exclude=["ant", "cow"]).said(ANSWERS)
    np.testing.assert_array_equal(among, [each[:, [1, 3]].argmax(1) for each in own])


def test_what_a_label_would_tell_is_told_among_the_listed_classes():
    """Two classes have an entropy of at most log 2, however unsure a member is of the others."""
    alone = [{**answer, "embedding": np.eye(5, 3)} for answer in ANSWERS[:1]]
    found = ToLabel(replace(still().among(["bee", "dog"]), numbers=(1,)), 5)
    found.add(Answered([f"{n}.png" for n in range(5)], [""] * 5, alone))
    own = log_softmax(ANSWERS[0]["log_probabilities"][:, [1, 3]])
    told = {each.path: each.uncertainty for each in found.chosen()}
    entropy = -(np.exp(own) * own).sum(1)
    assert told == pytest.approx({f"{n}.png": value for n, value in enumerate(entropy)})
    assert max(told.values()) <= np.log(2)


def test_lists_may_be_narrowed_again():
    some = still().among(exclude=["ant"]).among(["dog", "cow"])
    assert some.classes == ("cow", "dog") and some.listed == (2, 3)
    with pytest.raises(UserError, match="of 3 classes one, 'bee' is left"):
        still().among(exclude=["ant"]).among(["bee"])


def test_without_a_workdir_nothing_is_fitted():
    for ask in (still().accept_from, still().coarsening):
        with pytest.raises(UserError, match="are of no workdir"):
            ask(0.05)
