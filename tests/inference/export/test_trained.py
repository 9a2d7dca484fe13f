"""What is exported of a workdir."""

import numpy as np
import pytest
from exports import trained

from fgvc_jax.inference.export.trained import Drift, _judged
from fgvc_jax.utils.errors import UserError


def test_results_are_those_of_these_very_members():
    opened = trained().model
    results = {
        "digests": {"members": ["member 0", "member 1", "member 2"]},
        "members": [1, 2, 3],
        "ensemble": [1, 2, 3],
        "metrics": {"members": [1, 2, 3], "ensemble": [1, 2, 3]},
        "calibration": {"temperature": 1},
    }
    found = _judged(results, opened)
    assert found["ensemble"] == [1, 2] and found["metrics"]["members"] == [1, 2]
    assert found["calibration"] is None  # it is of three
    assert _judged(results | {"digests": {"members": ["other", "member 1"]}}, opened) == {}
    for nothing in (None, {}, {"digests": None}):
        assert _judged(nothing, opened) == {}


def test_the_image_is_drawn_and_has_the_side_of_the_view():
    of = trained(members=1)
    assert of.image.shape == (1, 36, 36, 3) and of.image.dtype == np.uint8
    assert of.image.std() > 10
    np.testing.assert_allclose(of.probabilities.sum(), 1, rtol=1e-5)


def test_members_that_diverged_are_refused():
    of = trained(members=1)
    params = of.model.members[0].variables["params"]
    params["heads"]["logits"]["fc2"]["bias"] *= np.nan
    with pytest.raises(UserError, match="diverged"):
        _ = of.probabilities


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_difference_from_the_members_own_answers_is_told(dtype):
    """The self-test compares the export with itself: 1.5e-8, where predict's answers, in bfloat16,
    differ by 0.005."""
    of = trained(dtype=dtype)
    own = of.model.predict(list(of.drawn))
    expected = np.abs(of.inference(of.drawn) - own).max()
    assert of.drift.largest == pytest.approx(expected, abs=1e-6)
    assert (of.drift.largest < 1e-5) == (dtype == "float32")
    of.drift.check()
    assert f"({dtype}), on 8 drawn images: " in str(of.drift)


def test_an_export_that_would_answer_otherwise_is_not_written():
    Drift(4e-2, 1, "bfloat16").check()
    for drift in (Drift(6e-2, 1, "bfloat16"), Drift(2e-4, 0, "float32"), Drift(np.nan, 0, "x")):
        with pytest.raises(UserError, match="would answer otherwise than the workdir's members"):
            drift.check()
