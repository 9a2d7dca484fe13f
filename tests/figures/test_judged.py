"""Parts of the report's page."""

import numpy as np
import pytest
from report_numbers import example

from fgvc_jax.evaluation import results_table
from fgvc_jax.figures import judged


@pytest.mark.parametrize(
    ("found", "percent", "words"),
    [
        ((0.12345, 0.1, 0.15), True, "12.3% (10.0 – 15.0)"),
        ((1.23456, 1, 1.5), False, "1.235 (1.000 – 1.500)"),
        ((0, 0, -1e-9), True, "0.0% (0.0 – 0.0)"),
        ((0.0312, None, None), True, "3.1%"),  # of the calibration error
    ],
)
def test_an_interval_in_words(found, percent, words):
    value, ends = judged.interval(dict(zip(("value", "low", "high"), found, strict=True)), percent)
    assert (f"{value} ({ends})" if ends else value) == words


def test_an_interval_on_a_terminal():
    assert results_table._interval({"value": 0.5, "low": 0.25, "high": 0.75}, percent=False) == (
        "0.500 (0.250-0.750)"
    )
    assert (
        results_table._interval({"value": 0.0312, "low": None, "high": None}, percent=True)
        == "3.12"
    )


def test_nothing_recorded_draws_no_curves():
    nothing = {"numbers": [1, 2], "learning": [[], []], "learning_curve": None}
    assert judged.curves(nothing) == ""
    one = {
        "numbers": [1],
        "learning": [[{"epoch": 1, "test_accuracy": 0.5}]],
        "learning_curve": None,
    }
    assert judged.curves(one) == ""  # a single point is no curve
    one["learning"][0].append({"epoch": 2, "test_accuracy": 0.6})
    assert judged.curves(one).count("<svg") == 1 and "member 1 60%" in judged.curves(one)


def test_overlap_is_told_of_three_members_or_more():
    nothing = {"looks": [], "class_names": []}
    two = {"numbers": [1, 2], "attention_overlap": [[0.5, 0.1], [0.1, 0.5]]}
    assert judged.looks({**two, **nothing}, None) == ""
    overlap = [[0.5, 0.125, 0.2], [0.25, 0.5, 0.3], [0.2, 0.3, 0.5]]
    text = judged.looks({"numbers": [2, 3, 4], "attention_overlap": overlap, **nothing}, None)
    assert "<td>0.125</td>" in text and "<td>0.250</td>" in text
    flat = judged.looks({"numbers": [1, 2, 3], "attention_overlap": [[0] * 3] * 3, **nothing}, None)
    assert flat == ""
    for scope in ("col", "row"):  # members by their numbers in the run
        assert all(f'<th scope="{scope}">{number}</th>' in text for number in (2, 3, 4))
        assert f'<th scope="{scope}">1</th>' not in text


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"about": ["calibrated on <2>", "so few"]}, "Calibrated on &lt;2&gt;. So few."),
        (  # of an earlier version
            {"temperature": 0.05, "coverage": 0.9},
            "Calibrated on 2 validation images: temperature 0.050, sets to cover 90%.",
        ),
        (None, "Not calibrated, which needs a validation part"),
    ],
)
def test_the_calibration_is_told(told, words):
    found = {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}}
    fitted = None if told is None else {"images": 2, "metrics": found} | told
    numbers = {"metrics": {"ensemble": [found]}, "images": {"validation": 0}}
    assert words in judged._metrics(numbers | {"calibration": fitted})


def test_chosen_members_of_a_run_with_a_validation_part_are_told_why_they_are_not_calibrated():
    found = {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}}
    text = judged._metrics(
        {"metrics": {"ensemble": [found]}, "calibration": None, "images": {"validation": 8}}
    )
    assert "of all members of a run together (--members 0)" in text
    assert "--data.validation" not in text


def test_families_without_errors_have_no_tree():
    metric = {"value": 1.0, "low": 0.5, "high": 1.0}
    found = {
        "levels": ["class", "<b>group"], "groups": [2, 1], "accuracy": [metric] * 2,
        "height": None, "errors": [0, 0], "coarsened": None, "tree": [],
    }  # fmt: skip
    page = judged.families({"families": found})
    assert "There is no error." in page and "Where errors" not in page and "<b>group" not in page
    assert judged.families({"families": None}) == ""


def test_wrong_answers_are_told_of_all_images_and_of_those_that_are_not_left_open():
    metric = {"value": 0.05, "low": 0.0, "high": 0.1}
    coarsened = {"risk": 0.05, "error": metric, "error_answered": metric | {"value": 0.08}}
    found = {
        "levels": ["class", "group"], "groups": [2, 1], "accuracy": [metric] * 2, "height": None,
        "errors": [0, 0], "coarsened": coarsened | {"answered": [0.5, 0, 0.5]}, "tree": [],
    }  # fmt: skip
    page = " ".join(judged.families({"families": found}).split())
    assert "5% of all images get a wrong answer" in page
    assert "of those that are not left open 8.0% <" in page
    coarsened["error_answered"] = None
    found["coarsened"] = coarsened | {"answered": [0, 0, 1.0]}
    assert "not left open" not in judged.families({"families": found})


def bins(sure, right, images):
    return [{"confidence": sure, "accuracy": right, "images": images}]


@pytest.mark.parametrize(
    ("sure", "right", "images", "words"),
    [
        (0.93, 0.9, 100, "Good: on average it says 93% and is right for 90%."),
        (0.93, 0.9, 60, "As far as 60 test images can tell, good: on average it says 93%"),
        (
            0.84,
            0.69,
            29,
            "29 test images are too few to tell whether it is surer than it should be: ",
        ),
        (0.77, 0.83, 120, "120 test images are too few to tell whether it is right more often"),
        (0.65, 1.0, 24, "As far as 24 test images can tell, right more often than it says: "),
        (0.93, 0.9, 6000, "Surer than it should be: on average it says 93%"),
        (0.5, 0.8, 600, "Right more often than it says: "),
        (0.905, 0.9, 10**7, "Good"),  # a point matters to nobody
    ],
)
def test_confidence_in_a_sentence(sure, right, images, words):
    assert judged.calibration_reading(bins(sure, right, images)).startswith(words)


@pytest.mark.parametrize(("at_80", "words"), [(0.0, "Good: "), (0.16, "Fair: "), (0.19, "Poor: ")])
def test_whether_errors_are_among_the_least_sure(at_80, words):
    """20 of 100 are wrong: of the 80 that are surest 0, 13, 15."""
    assert judged.risk_reading([(0.4, 0.0), (0.8, at_80), (1.0, 0.2)], 100).startswith(words)
    assert judged.risk_reading([(1.0, 0.0)], 100) == "Nothing is named wrongly."
    few = judged.risk_reading([(0.5, 0.0), (1.0, 1 / 24)], 24)
    assert few.startswith("Only 1 of 24 test images is named wrongly: too few")


def test_overlap_in_words_from_three_members_on():
    overlap = [[1, 0.1, 0.5], [0.1, 1, 0.3], [0.5, 0.3, 1]]
    words = judged.overlap_reading([1, 2, 4], overlap)
    assert words == "Members 1 and 4 look most at the same places, 1 and 2 least."
    assert judged.overlap_reading([1, 2], [[0, 1], [1, 0]]) == ""
    assert judged.overlap_reading([1, 2, 3], np.zeros((3, 3)).tolist()) == ""


@pytest.mark.parametrize(("count", "who"), [(1, "The network"), (2, "The ensemble")])
def test_one_network_is_no_ensemble(count, who):
    numbers = example("x")
    numbers |= {"members": count, "numbers": [1, 2][:count], "single": numbers["single"][:count]}
    numbers["metrics"] = {key: each[:count] for key, each in numbers["metrics"].items()}
    page = judged.members(numbers)
    assert f"<h3>{who}, with" in page and ("ensemble of 1" in page) == (count > 1)


def test_a_statisticians_word_is_where_the_pointer_rests():
    page = judged.headline(example("x"))
    term = '<abbr title="95% interval over images">likely range, with other photographs</abbr>'
    assert term in page and page.count("95%") == 1
