"""From numbers to pages."""

import statistics as plain

from conftest import tiny
from scipy import stats

from fgvc_jax.evaluation import statistics
from fgvc_jax.study import Study, pages

MEMBERS = {"a": 2, "b": 2, "untrained": 2}


def test_the_table():
    values = {
        ("a", 0): {"ensemble": 0.50, "overlap": 0.4},
        ("a", 1): {"ensemble": 0.60, "overlap": 0.4},
        ("b", 0): {"ensemble": 0.51, "head_logits": 0.4, "head_fusion": 0.5},
        ("b", 1): {"ensemble": 0.63, "head_logits": 0.4, "head_fusion": 0.6},
        ("b", 2): {"ensemble": 0.63, "head_logits": 0.4, "head_fusion": 0.6},
    }
    summary = statistics.summarize(values, MEMBERS)
    shown = pages.shown_metrics(summary, ["ensemble"], MEMBERS)
    assert shown == ["ensemble", "overlap", "head_logits", "head_fusion"]
    page = pages.variants_table(summary, shown, first="a")
    lines = [" ".join(line.split()) for line in page.splitlines()]
    assert lines[0].startswith(
        "| metric | row | n | mean | sd | 95 % interval | minus a | pairs | 95 % interval | p |"
    )
    assert lines[2] == "| ensemble | a | 2 | 55.00 | 7.07 | 0.00 to 100.00 | - | - | - | - |"
    p = 2 * stats.t.sf(0.02 / (plain.stdev([0.01, 0.03]) / 2**0.5), 1)
    assert lines[3].startswith("| ensemble | b | 3 | 59.00 | 6.93 | 41.79 to 76.21 | +2.00 | 2 |")
    assert lines[3].endswith(f"| 2 | -10.71 to +14.71 | {p:.3f} |")
    assert lines[4] == "| overlap | a | 2 | 0.400 | 0.000 | - | - | - | - | - |"
    assert lines[6].startswith("| head_fusion | b | 3 | 56.67 |") and lines[6].endswith("| - |")
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 7
    one_head = statistics.summarize({("a", 0): {"ensemble": 0.5, "head_logits": 0.5}}, MEMBERS)
    assert pages.shown_metrics(one_head, ["ensemble"], MEMBERS) == ["ensemble"]


def test_the_overlap_shown_is_of_members_that_all_ensembles_have():
    summary = {"ensemble": {}, "overlap": {}, "overlap_2": {}, "overlap_3": {}}
    assert pages.shown_metrics(summary, [], {"a": 3, "b": 2, "c": 1}) == ["overlap_2"]
    assert pages.shown_metrics(summary, [], {"a": 5, "b": 3}) == ["overlap_3"]
    assert pages.shown_metrics(summary, [], {"a": 3, "b": 3, "c": 1}) == ["overlap"]
    assert pages.shown_metrics(summary, [], {"a": 1}) == []


def test_the_page_tells_what_is_compared_and_what_is_not_in_it():
    study = Study(tiny(), {"a": {}, "b": {"members": 1, "transfer.alpha": 0.1}})
    values = {("a", 0): {"ensemble": 0.5}, ("b", 0): {"ensemble": 0.25}}
    summary = statistics.summarize(values, study.members)
    page = pages.study_page(
        study, summary, name="x", metrics=["ensemble"], notes=["a, seed 1: away"]
    )
    assert "- a, 2 members: the base itself\n- b, 1 member: members = 1, transfer.alpha" in page
    assert "- --members 3 -> 2\n" in page
    assert page.endswith("\nNotes:\n- a, seed 1: away\n")
    assert "Notes" not in pages.study_page(study, summary, name="x", metrics=["ensemble"])


def test_what_is_left():
    runs = [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert pages.left(runs, runs) == "all 4 runs are finished"
    assert pages.left(runs, [("b", 0)]) == "left: 3 of 4 runs (a: seeds 0 1; b: seeds 1)"


def test_runs_on_other_devices_or_in_another_precision_are_told():
    cpu = {"devices": ["cpu: cpu", "cpu: cpu"], "dtype": "float32"}
    gpu = {"devices": ["cuda: NVIDIA H100"], "dtype": "bfloat16"}
    runs = {("a", 0): cpu, ("a", 1): gpu, ("b", 0): {**cpu, "devices": ["cpu: cpu"]}}
    assert pages.environment_warnings(runs) == [
        "warning: the runs differ in dtype: float32 (a: seeds 0; b: seeds 0); "
        "bfloat16 (a: seeds 1)",
        "warning: the runs differ in device: cpu: cpu (a: seeds 0; b: seeds 0); "
        "cuda: NVIDIA H100 (a: seeds 1)",
    ]
    del runs["a", 1]
    assert pages.environment_warnings(runs) == []
    runs["b", 0] = {**cpu, "others": [gpu]}
    assert "bfloat16 (b: seeds 0)" in pages.environment_warnings(runs)[0]


def test_small_p_values_are_not_zero():
    assert [pages.written_p(p) for p in (None, 0.0004, 0.0125)] == ["-", "< 0.001", "0.013"]
