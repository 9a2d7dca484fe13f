"""Parts of the report's page."""

import pytest

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
    assert judged.curves({"numbers": [1, 2], "learning": [[], []]}) == ""
    one = {"numbers": [1], "learning": [[{"epoch": 1, "test_accuracy": 0.5}]]}
    assert judged.curves(one) == ""  # a single point is no curve
    one["learning"][0].append({"epoch": 2, "test_accuracy": 0.6})
    assert judged.curves(one).count("<svg") == 1 and "member 1 60%" in judged.curves(one)


@pytest.mark.parametrize(
    ("together", "enough"), [(0.7, "10.0 points better"), (0.6, "One network")]
)
def test_advice_names_labels_classes_and_whether_one_is_enough(together, enough):
    def accuracy(value):
        return {"accuracy": {"value": value}}

    def entry(name, right):
        return {"class": name, "label": 0, "images": 40, "right": right, "accuracy": right / 40}

    told = judged.advice(
        {
            "members": 2,
            "metrics": {
                "members": [accuracy(0.6), accuracy(0.5)],
                "ensemble": [accuracy(0.6), accuracy(together)],
            },
            "doubted_training_labels": [{"name": "train/<b>.jpg"}],
            "doubted_labels": [],
            "classes": [entry("bad", 4), entry("usual", 26)],
        }
    )
    assert "train/<wbr>&lt;b&gt;.jpg" in told and "<b>.jpg" not in told
    assert "one class" in told and "bad" in told and "usual" not in told
    assert enough in told


def test_a_single_member_has_no_overlap():
    nothing = {"looks": [], "class_names": []}
    assert judged.looks({"numbers": [1], "attention_overlap": [[0.5]], **nothing}, None) == ""
    overlap = [[0.5, 0.125], [0.25, 0.5]]
    text = judged.looks({"numbers": [2, 3], "attention_overlap": overlap, **nothing}, None)
    assert "<td>0.125</td>" in text and "<td>0.250</td>" in text
    for scope in ("col", "row"):  # members by their numbers in the run
        assert all(f'<th scope="{scope}">{number}</th>' in text for number in (2, 3))
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
