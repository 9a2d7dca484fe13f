"""From results to numbers, checked by hand and against scipy."""

import numpy as np
import pytest
from scipy import stats

from fgvc_jax.evaluation import statistics


def test_metrics_of_results():
    results = {
        "members": [
            {"final": 0.5, "best_on_test": 0.9, "test_accuracy_fusion": 0.6},
            {"final": 0.7, "best_on_test": 0.9, "test_accuracy_fusion": 0.8},
        ],
        "ensemble": [0.5, 0.75],
        "attention_overlap": [[0.9, 0.2], [0.4, 0.9]],
        "response_overlap": [[0.5, 0.1], [0.1, 0.5]],
        "published_protocol": {"members": [0.9, 0.9], "ensemble": [0.9, 0.95]},
    }
    assert statistics.measure(results) == pytest.approx(
        {
            "ensemble": 0.75, "single": 0.6, "ensemble_1": 0.5, "ensemble_2": 0.75,
            "single_1": 0.5, "single_2": 0.7, "overlap": 0.3, "overlap_2": 0.3,
            "overlap_high": 0.1,
            "published": 0.95, "published_1": 0.9, "published_2": 0.95,
            "head_logits": 0.6, "head_fusion": 0.7,
        }
    )  # fmt: skip
    alone = {"members": [{"final": 0.5}], "ensemble": [0.5], "attention_overlap": [[0.9]]}
    assert {"overlap", "published"}.isdisjoint(statistics.measure(alone))


def test_a_row_by_hand():
    cell = statistics.describe([1.0, 2.0, 3.0])
    # t(0.975, 2 degrees of freedom) = 4.302652730; sd = 1, so half = 4.302652730 / sqrt(3).
    assert (cell["n"], cell["mean"], cell["sd"]) == (3, 2.0, 1.0)
    assert cell["interval"] == pytest.approx([2 - 2.484137712, 2 + 2.484137712])
    assert statistics.describe([0.5]) == {"n": 1, "mean": 0.5, "sd": None, "interval": None}


def test_a_difference_equals_scipys_paired_test():
    one = {0: 0.71, 1: 0.74, 2: 0.69, 3: 0.75, 4: 0.73}
    other = {0: 0.70, 1: 0.71, 2: 0.70, 3: 0.72, 4: 0.70}
    expected = stats.ttest_rel(list(one.values()), list(other.values()))
    difference = statistics.paired(one, other)
    assert difference["p"] == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    assert difference["interval"] == pytest.approx([low, high])
    assert difference["mean"] == pytest.approx(0.018)


def test_only_seeds_that_both_have_are_paired():
    one, other = {0: 1.0, 1: 2.0, 5: 9.0}, {1: 1.5, 0: 1.0, 7: 0.0}
    difference = statistics.paired(one, other)
    assert (difference["n"], difference["mean"]) == (2, 0.25)
    assert statistics.paired({0: 1.0}, {1: 1.0}) is None
    single = statistics.paired({0: 1.0}, {0: 0.5})
    assert single == {"n": 1, "mean": 0.5, "sd": None, "interval": None, "p": None}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({0: 0.5, 1: 0.6}, {0: 0.5, 1: 0.6}),
        # 0.02 each, but 1e-16 apart as floats: of them p would be 1e-15 and the interval a point.
        ({0: 0.62, 1: 0.53, 2: 0.47}, {0: 0.60, 1: 0.51, 2: 0.45}),
    ],
)
def test_of_equal_differences_neither_p_nor_interval_follows(one, other):
    same = statistics.paired(one, other)
    assert (same["n"], same["sd"], same["interval"], same["p"]) == (len(one), 0.0, None, None)
    assert same["mean"] == pytest.approx(one[0] - other[0])
    assert statistics.describe([0.1 + 0.2, 0.3])["interval"] is None


def test_one_image_is_a_difference():
    """On a million test images, too."""
    assert statistics.paired({0: 0.5, 1: 0.500001}, {0: 0.5, 1: 0.5})["p"] == pytest.approx(0.5)


def test_rows_of_other_numbers_of_members_are_compared_by_the_members_that_both_have():
    def results(accuracies, overlaps):
        return {
            "members": [{"final": accuracy} for accuracy in accuracies],
            "ensemble": accuracies,
            "attention_overlap": overlaps,
        }

    three = results([0.5, 0.6, 0.7], [[1.0, 0.4, 0.2], [0.4, 1.0, 0.2], [0.2, 0.2, 1.0]])
    two = results([0.5, 0.65], [[1.0, 0.3], [0.3, 1.0]])
    values = {
        (row, seed): statistics.measure(found)
        for row, found in (("three", three), ("two", two))
        for seed in range(2)
    }
    summary = statistics.summarize(values, {"three": 3, "two": 2})
    for name in ("ensemble", "single", "overlap", "head_logits"):
        assert summary[name]["two"]["difference"] is None, name
    gains = {
        name: summary[name]["two"]["difference"]["mean"]
        for name in ("ensemble_2", "single_2", "overlap_2")
    }
    assert gains == pytest.approx({"ensemble_2": 0.05, "single_2": 0.05, "overlap_2": -0.1})
    assert summary["overlap"]["three"]["mean"] == pytest.approx(0.8 / 3)
    assert "two" not in summary["ensemble_3"]
    alike = statistics.summarize(values, {"three": 2, "two": 2})
    assert alike["ensemble"]["two"]["difference"]["mean"] == pytest.approx(-0.05)


def test_intervals_of_shares_end_where_shares_do():
    """Two runs with 99 and 99.9 % had an accuracy of up to 105 %."""
    ones, others = (0.99, 0.999), (0.01, 0.03)
    values = {
        (row, seed): {"ensemble": each[seed], "overlap": each[seed], "nll": each[seed]}
        for row, each in (("a", ones), ("b", others))
        for seed in range(2)
    }
    found = statistics.summarize(values, {"a": 2, "b": 2})
    assert found["ensemble"]["a"]["interval"][1] == 1 > found["ensemble"]["a"]["interval"][0]
    assert found["ensemble"]["b"]["interval"][0] == 0
    assert found["ensemble"]["b"]["difference"]["interval"][0] == -1
    assert found["nll"]["a"]["interval"][1] > 1 and found["overlap"]["b"]["interval"][0] < 0
    shares = "ensemble", "ensemble_2", "single_1", "published", "head_logits", "rescued", "any"
    assert all(map(statistics.is_share, shares))
    assert not any(map(statistics.is_share, ("overlap", "overlap_2", "nll", "nll_1")))


def test_the_crossed_interval_against_its_parts():
    """Where all images agree it is the interval over seeds, where all seeds do, over images."""
    seeds = np.random.default_rng(0).normal(0.1, 0.2, 8)
    alike = np.repeat(seeds[:, None], 50, axis=1)
    expected = statistics.describe(seeds.tolist())["interval"]
    assert statistics.crossed(alike) == pytest.approx(expected)
    images = np.random.default_rng(1).normal(0.1, 0.2, 50)
    alike = np.repeat(images[None], 8, axis=0)
    assert statistics.crossed(alike) == pytest.approx(
        statistics.describe(images.tolist())["interval"]
    )
    assert statistics.crossed(np.zeros((8, 50))) is None
    assert statistics.crossed(np.ones((1, 50))) is None


def test_the_crossed_interval_by_hand():
    table = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, -1.0]])
    # Means: 1/3 of both seeds; 1, 1/2, -1/2 of the images; 1/3 of all.
    seeds, images = 0.0, 2 * ((2 / 3) ** 2 + (1 / 6) ** 2 + (5 / 6) ** 2) / 2
    rest = (0.5**2 + 0.5**2) * 2 / 2
    assert images > rest
    total = seeds + images - rest
    freedom = total**2 / (images**2 / 2 + rest**2 / 2)
    half = stats.t.ppf(0.975, freedom) * (total / 6) ** 0.5
    found = statistics.crossed(table / 100)  # of so few, differences of 1 could be anything
    assert found == pytest.approx([(1 / 3 - half) / 100, (1 / 3 + half) / 100])
    assert statistics.crossed(table) == [-1, 1]


@pytest.mark.parametrize("draw", range(6))
def test_the_crossed_interval_is_no_narrower_than_the_one_over_seeds(draw):
    """Satterthwaite's degrees of freedom alone would make it so in four of these."""
    draw = np.random.default_rng(draw)
    parts = (
        draw.normal(0, 0.01, (3, 1)),
        draw.normal(0, 0.2, (1, 900)),
        draw.normal(0, 0.1, (3, 900)),
    )
    table = sum(parts)
    low, high = statistics.describe(table.mean(axis=1).tolist())["interval"]
    new_low, new_high = statistics.crossed(table)
    assert new_low <= low + 1e-12 and high - 1e-12 <= new_high


def test_power_equals_the_noncentral_t():
    for n in (4, 8, 20):
        shift = statistics.detectable(2.0, n) / 2.0 * n**0.5
        limit = stats.t.ppf(0.975, n - 1)
        power = stats.nct.sf(limit, n - 1, shift) + stats.nct.cdf(-limit, n - 1, shift)
        assert power == pytest.approx(0.8, abs=1e-3)
    assert statistics.detectable(1.0, 2) > 10  # two pairs find little


def test_the_number_of_seeds():
    n = statistics.seeds_needed(0.6, 0.5)
    widths = [stats.t.ppf(0.975, k - 1) * 0.6 / k**0.5 for k in (n - 1, n)]
    assert widths[1] <= 0.5 < widths[0]
    assert statistics.seeds_needed(0.0, 0.5) == 2
    assert statistics.seeds_needed(1.0, 1e-5) == pytest.approx(1.96e5**2, rel=1e-3)  # and at once
    # After three pairs the deviation may be twice as large.
    bound = 0.6 * (2 / stats.chi2.ppf(0.2, 2)) ** 0.5
    assert statistics.largest_deviation(0.6, 3) == pytest.approx(bound)


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        (None, "undecided"),
        ([-0.1, 0.9], "undecided"),
        ([0.1, 0.9], "shown"),
        ([-0.3, 0.4], "absent"),
        ([-0.9, -0.4], "absent"),
        ([0.1, 0.4], "smaller"),
    ],
)
def test_verdicts(interval, said):
    assert statistics.verdict(interval, 0.7) == said
