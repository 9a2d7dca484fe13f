"""What a row says of an answer: classes, agreement, whether it is unsure, its conformal set."""

import logging
import math

import numpy as np
import pytest

from fgvc_jax.evaluation.calibration import Calibration
from fgvc_jax.inference.rows import AnswerRows, least_instead, sure_from
from fgvc_jax.inference.stream import Answered
from fgvc_jax.utils.errors import UserError

CLASSES = "ant", "bee", "cow"
ONE = np.log([[0.5, 0.3, 0.2], [0.125, 0.125, 0.75]]).astype(np.float32)
OTHER = np.log([[0.25, 0.5, 0.25], [0.125, 0.125, 0.75]]).astype(np.float32)


class Stand:
    """Stands for a model of two members, the first of which is what they say together."""

    classes, listed = CLASSES, ()

    def said(self, answers):
        return np.stack([each["log_probabilities"].argmax(-1) for each in answers])

    def __init__(self, calibration=None, threshold=0.6):
        self._calibration, self._threshold = calibration, threshold

    @property
    def calibration(self):
        if self._calibration is None:
            raise UserError("it is not calibrated")
        return self._calibration

    def accept_from(self, risk):
        _ = self.calibration
        return self._threshold

    def least_risk(self):
        return 0.075

    def fused(self, answers, *, calibrated=False):
        values = answers[0]["log_probabilities"]
        return self.calibration.log_probabilities(values) if calibrated else values


def calibration(**changes):
    known = {
        "temperature": 1.0, "coverage": 0.9, "threshold": 0.6, "images": 500,
        "low": 0.99, "high": 1.01,
    }  # fmt: skip
    return Calibration(**known | changes)


def some(*problems):
    answers = [{"log_probabilities": values} for values in (ONE, OTHER)]
    return Answered(["a.png", "b.png"], problems or ("", ""), answers)


def test_a_row_names_the_likeliest_classes_and_how_many_members_agree():
    rows = AnswerRows(Stand(), top=2, risk=0.05)
    first, second = rows.of(some())
    assert rows.columns == [
        "path", "class1", "probability1", "class2", "probability2", "agreement", "unsure", "error",
    ]  # fmt: skip
    assert (first["class1"], first["probability1"], first["agreement"]) == ("ant", 0.5, 0.5)
    assert (second["class1"], second["class2"], second["agreement"]) == ("cow", "ant", 1.0)
    assert first["unsure"] is None and first["error"] is None


def test_more_classes_than_there_are_are_not_named():
    assert "class4" not in AnswerRows(Stand(), top=9, risk=0.05).columns


def test_a_file_with_a_problem_has_nothing_else_to_tell():
    rows = AnswerRows(Stand(calibration()), top=1, risk=0.05, sets=True)
    broken, second = rows.of(some("it is broken", ""))
    assert broken == dict.fromkeys(rows.columns) | {"path": "a.png", "error": "it is broken"}
    assert second["class1"] == "cow"


def test_unsure_is_below_the_threshold_and_sets_hold_the_likeliest_first():
    first, second = AnswerRows(Stand(calibration()), top=1, risk=0.05, sets=True).of(some())
    assert (first["unsure"], second["unsure"]) == (True, False)
    assert first["set"] == ["ant", "bee"] and second["set"] == ["cow"]


def test_without_a_calibration_nobody_is_called_unsure_and_no_set_is_made(caplog):
    with caplog.at_level(logging.INFO, "fgvc_jax"):
        assert sure_from(Stand(), 0.05) is None
    assert "unsure is left empty: it is not calibrated" in caplog.text
    with pytest.raises(UserError, match="not calibrated"):
        AnswerRows(Stand(), top=1, risk=0.05, sets=True)


def test_a_risk_that_nobody_can_promise_is_told(caplog):
    assert sure_from(Stand(calibration(), math.inf), 0.01) is None
    assert "sure or unsure: 500 validation images are too few to promise that at most 1 % of" in (
        caplog.text
    )
    assert "wrong; 7.5 % they can (--risk 0.075)" in caplog.text
    assert least_instead(Stand(calibration(), math.inf), 0.01) == 0.075
    assert least_instead(Stand(calibration()), 0.01) is None and least_instead(Stand(), 1) is None


def test_numbers_have_as_few_digits_as_tell_them():
    values = np.log([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4]]).astype(np.float32)
    answers = [{"log_probabilities": values}] * 3
    found = Answered(["a", "b"], ("", ""), answers)
    rows = list(AnswerRows(Stand(), top=1, risk=0.05).of(found))
    assert all(len(str(row["probability1"])) <= 10 for row in rows)
    assert rows[0]["agreement"] == 1.0
