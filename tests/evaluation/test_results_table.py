"""The table that training and evaluation end with."""

import pytest

from fgvc_jax.evaluation import metrics
from fgvc_jax.evaluation.results_table import (
    families_table,
    metrics_table,
    places_table,
    records,
    results_table,
)

ENDS = {"value": 0.5, "low": 0.25, "high": 0.75}
RESULTS = {
    "images": {"test": 100},
    "members": [{"final": 0.5, "selected": None, "best_on_test": 0.6}, {"final": 0.55}],
    "ensemble": [0.5, 0.625],
    "attention_overlap": [[1, 0.5], [0.25, 1]],
}


def judged(**found):
    return RESULTS | {"metrics": {"ensemble": [{}, found]}, "calibration": None}


def test_members_and_ensembles_in_percent():
    title, header, first, second, overlap = results_table(RESULTS).strip().splitlines()
    assert title == "test accuracy (%) on 100 images"
    assert header.split("  ")[0] == "member" and header.endswith("ensemble of 1..n")
    assert first.split() == ["1", "50.00", "-", "60.00", "50.00"]
    assert second.split() == ["2", "55.00", "-", "-", "62.50"]
    assert overlap == "mean attention overlap between members: 0.375"
    assert len(header) == len(first) == len(second)


def test_answers_for_several_views_are_a_line_and_a_column():
    seen = judged(accuracy=ENDS, nll=ENDS)
    lines = results_table(judged(accuracy=ENDS, nll=ENDS) | {"tta": {"flip": seen}}).splitlines()
    assert "--tta flip: 50.00 (25.00-75.00) together; the members 50.00, 55.00" in lines
    (header,) = (line for line in lines if "raw" in line)
    assert header.split("  ")[-1].strip() == "flip, raw"


def test_chosen_members_keep_their_numbers():
    _, _, header, first, second, *_ = results_table(RESULTS | {"numbers": [2, 4]}).splitlines()
    assert header.endswith("ensemble up to it") and [first[5], second[5]] == ["2", "4"]


def test_a_single_member_has_no_overlap_and_is_no_ensemble():
    alone = judged(accuracy=ENDS, nll=ENDS) | {"attention_overlap": [[1]]}
    alone |= {"members": RESULTS["members"][:1], "ensemble": [0.5]}
    alone["metrics"] = {"ensemble": alone["metrics"]["ensemble"][1:]}
    told = results_table(alone)
    assert "overlap" not in told and "ensemble" not in told
    assert "the network, with 95 % intervals over images" in told
    assert told.splitlines()[2].split() == ["member", "final", "selected", "best", "on", "test"]


def test_flat_maps_have_no_overlap():
    (line,) = results_table(RESULTS | {"attention_overlap": [[0, 0], [0, 0]]}).splitlines()[-1:]
    assert "the members' maps are flat" in line and "0.000" not in line


def test_the_seen_risk_is_told_from_the_promised_one():
    lines = metrics_table(judged(accuracy=ENDS, coverage_at_5_risk=ENDS))
    assert "answered at 5% seen risk (%)" in lines[2] and lines[3] == metrics.SEEN
    assert "promised risk, --risk of predict" in metrics.SEEN
    assert metrics.SEEN not in metrics_table(judged(accuracy=ENDS, nll=ENDS))


def test_other_metrics_are_told_once_with_their_units():
    lines = metrics_table(judged(accuracy=ENDS, nll=ENDS, ece=ENDS | {"low": None, "high": None}))
    assert lines[:2] == ["", "the ensemble of 2, with 95 % intervals over images"]
    header, *rows = lines[2].splitlines()
    assert header.split() == ["raw"]
    assert [row.split("  ")[0] for row in rows] == [
        "negative log-likelihood (nats)", "calibration error (%)",
    ]  # fmt: skip
    assert rows[0].endswith("0.500 (0.250-0.750)") and rows[1].endswith(" 50.00")


def test_a_calibration_is_a_column_and_what_is_told_of_it():
    fitted = {"metrics": {"set_size": ENDS}, "about": ["calibrated on 9 images"]}
    lines = metrics_table(judged(nll=ENDS) | {"calibration": fitted})
    assert lines[-1] == "calibrated on 9 images"
    _, nll, sets = lines[2].splitlines()
    assert nll.split()[-1] == "-" and sets.split()[-3:] == ["-", "0.500", "(0.250-0.750)"]


def test_results_of_earlier_versions_have_no_other_metrics():
    assert metrics_table(RESULTS) == []


@pytest.mark.parametrize("count", [1, 2])
def test_metrics_come_in_the_order_of_their_names(count):
    found = [{name: ENDS for name in reversed(metrics.NAMES)}, {"nll": ENDS}][:count]
    named = list(metrics.named(found))
    assert [key for key, _, _ in named] == list(metrics.NAMES)
    values = {key: cells for key, _, cells in named}
    assert values["nll"] == [ENDS] * count and values["ece"] == [ENDS, None][:count]


def test_records_have_one_number_each():
    best = {"value": 0.9, "low": None, "high": None}
    results = RESULTS | {
        "metrics": {"members": [{"nll": ENDS}, {"nll": ENDS}], "ensemble": [{"nll": ENDS}] * 2},
        "calibration": {"metrics": {"ece": best}},
    }
    found = [tuple(each.values()) for each in records(results)]
    assert found == [
        ("member", 1, "final", False, "nll", 0.5, 0.25, 0.75),
        ("member", 2, "final", False, "nll", 0.5, 0.25, 0.75),
        ("ensemble", 1, "final", False, "nll", 0.5, 0.25, 0.75),
        ("ensemble", 2, "final", False, "nll", 0.5, 0.25, 0.75),
        ("ensemble", 2, "final", True, "ece", 0.9, None, None),
        ("member", 1, "best_on_test", False, "accuracy", 0.6, None, None),
    ]
    assert list(records(results)[0]) == [
        "of", "number", "which", "calibrated", "metric", "value", "low", "high"
    ]  # fmt: skip


FAMILIES = {
    "levels": ["species", "genus"],
    "groups": [4, 2],
    "accuracy": [ENDS, {"value": 0.75, "low": 0.5, "high": 0.875}],
    "height": {"value": 1.5, "low": None, "high": None},
    "errors": [25, 25],
    "coarsened": {
        "risk": 0.05,
        "error": ENDS,
        "error_answered": {"value": 0.625, "low": 0.5, "high": 0.75},
        "answered": [0.5, 0.25, 0.25],
    },
}


def test_levels_of_a_taxonomy_and_what_is_answered_at_each():
    lines = families_table(RESULTS | {"families": FAMILIES})
    text = "\n".join(lines).splitlines()
    assert text[2].split()[-4:] == ["at", "5%", "promised", "risk"]
    assert text[2].split()[:5] == ["groups", "accuracy", "(%)", "answered", "(%)"]
    assert text[3].split() == ["species", "4", "50.00", "(25.00-75.00)", "50.00"]
    assert text[4].split() == ["genus", "2", "75.00", "(50.00-87.50)", "25.00"]
    assert text[5].split() == ["left", "open", "25.00"]
    assert text[6].endswith("of errors: 1.500")
    assert "wrong: 50.00 (25.00-75.00) % of the images" in text[7]
    assert text[8].endswith("not left open: 62.50 (50.00-75.00) %")
    of_old = {key: v for key, v in FAMILIES["coarsened"].items() if key != "error_answered"}
    of_old = families_table(RESULTS | {"families": FAMILIES | {"coarsened": of_old}})
    assert "\n".join(of_old).splitlines() == text[:8]
    text = "\n".join(families_table(RESULTS | {"families": FAMILIES | {"coarsened": None}}))
    assert "left open" not in text and "risk" not in text
    for found in ({}, {"families": None}):  # of earlier versions, and without a taxonomy
        assert families_table(found) == []


def test_the_interval_of_places_is_for_their_mean_and_images_without_one_are_counted():
    place = {"name": "north", "images": 80, "groups": 4, "accuracy": ENDS}
    by = [{"column": "site", "places": [place], "accuracy": ENDS}]
    *_, together, told = places_table(RESULTS | {"by": by})
    assert together.startswith("together, with an interval for the mean of many like these: 50.00")
    assert told == "of 80 of 100 images: of the others no site is told"
    by[0]["places"].append(place | {"name": "south", "images": 20})
    assert places_table(RESULTS | {"by": by})[-1] == together


def test_levels_are_records_of_the_ensemble():
    found = records(
        RESULTS
        | {"metrics": {"members": [{}], "ensemble": [{}]}, "calibration": None}
        | {"families": FAMILIES}
    )
    named = {each["metric"]: each["value"] for each in found if each["of"] == "ensemble"}
    assert named == {"accuracy at species": 0.5, "accuracy at genus": 0.75, "height of errors": 1.5}
