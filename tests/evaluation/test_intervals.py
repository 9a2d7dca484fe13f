"""Intervals hold the truth as often as they say, in simulations with a fixed seed."""

import numpy as np
import pytest
from conftest import first_quick
from scipy import stats

from fgvc_jax.evaluation import intervals, metrics


@pytest.mark.parametrize(
    ("counts", "shares"),
    [
        ([20] * 5, [0.6, 0.7, 0.8, 0.9, 0.95]),
        ([3] * 100, np.linspace(0.4, 1, 100)),
        ([1] * 100, np.linspace(0.4, 1, 100)),
        ([300, 60, 20, 6, 3, 1, 1, 2], [0.95, 0.9, 0.8, 0.6, 0.5, 0.4, 0.7, 0.5]),
        ([6, 94], [0.9, 0.9]),  # was held in 63 of 100
        ([6, 94], [0.7, 0.9]),  # 87
        ([3, 40, 40], [0.8, 0.8, 0.8]),  # 75
        ([6] * 10, np.linspace(0.5, 0.95, 10)),
    ],
)
def test_the_interval_of_a_mean_over_classes_holds_the_truth(counts, shares):
    right = np.random.default_rng(0).binomial(counts, shares, (600, len(counts)))
    ends = np.array([intervals.class_mean_interval(np.array(counts), each) for each in right])
    held = (ends[:, 0] <= np.mean(shares)) & (np.mean(shares) <= ends[:, 1])
    least, most = 0.9 if 1 in counts else 0.93, 0.98 if min(counts) > 6 else 0.999
    assert least <= held.mean() <= most


def test_classes_that_are_all_right_or_all_wrong_by_chance_have_an_interval():
    """Of six images: it was 66.67 (66.67-66.67), and of three such classes of two held the truth in
    88 of 100. It is so where everything was taken for one class alone."""
    pairs = np.array([2, 2, 2])
    low, high = intervals.class_mean_interval(pairs, np.array([2, 2, 0]))
    assert 0.3 < low < 0.4 and 0.85 < high < 0.95
    assert intervals.class_mean_interval(pairs, np.array([0, 2, 0])) == (1 / 3, 1 / 3)


BETAS = (5, 1.5), (8, 1), (3, 1), (12, 1), (30, 1)  # of confidences: 3 to 25 % errors


def simulated(shape, images, repetitions=600):
    """Confidences that are true: (confidence from the highest, right, nll), each (R, images)."""
    random = np.random.default_rng(3)
    confidence = -np.sort(-random.beta(*shape, (repetitions, images)), axis=-1)
    right = random.random(confidence.shape) < confidence
    other = random.beta(0.5, 5, confidence.shape)  # the label's share of what is left
    label = np.where(right, confidence, (1 - confidence) * other)
    return confidence, right, -np.log(np.maximum(label, 1e-6))


@pytest.mark.sampled(1)
@pytest.mark.parametrize("images", [100, 600])
@pytest.mark.parametrize("shape", first_quick([(shape,) for shape in BETAS], 2))
def test_the_interval_of_a_mean_of_skewed_values_holds_the_truth(shape, images):
    """The bootstrap's of (30, 1) held it in 86 and 91 of 100."""
    values = simulated(shape, images)[2]
    truth = simulated(shape, 1000, 1000)[2].mean()
    ends = np.array([intervals.mean_interval(each) for each in values])
    held = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    assert 0.93 <= held.mean() <= 0.985


@pytest.mark.parametrize("images", [100, 600])
@pytest.mark.parametrize("shape", BETAS)
def test_the_interval_of_the_area_under_risk_holds_the_truth_or_is_none(shape, images):
    """The bootstrap's held it in 76 (30, 1), 88 (12, 1) and 91 of 100 (8, 1)."""
    confidence, right, _ = simulated(shape, images)
    sure = -np.sort(-np.random.default_rng(2).beta(*shape, 200_000))
    truth = np.mean(np.cumsum(1 - sure) / np.arange(1, len(sure) + 1))
    found = [intervals.area_interval(np.ones(images), 1.0 - each) for each in right]
    assert all(
        (each is None) == (wrong < 10) for each, wrong in zip(found, (~right).sum(-1), strict=True)
    )
    ends = np.array([each for each in found if each])
    if len(ends) > 300:  # fewer are an exception, and so is their truth
        held = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
        assert 0.91 <= held.mean() <= 0.975


def test_equal_confidences_move_the_area_together():
    """By its definition: the derivative of the value by each image's weight."""
    counts, wrong = np.array([40.0, 25, 35]), np.array([2.0, 3, 12])

    def area(counts, wrong):
        return metrics.area_under_risk(counts[None], wrong[None])[0]

    value, step, squares = area(counts, wrong), 1e-6, 0.0
    for group in np.eye(3):
        right = (area(counts + step * group, wrong) - value) / step * 100
        false = (area(counts + step * group, wrong + step * group) - value) / step * 100
        squares += group @ ((counts - wrong) * right**2 + wrong * false**2)
    low, high = intervals.area_interval(counts, wrong)
    half = stats.t.ppf(0.975, 99) * np.sqrt(squares / 100 / 99) / value
    assert np.log([value / low, high / value]) == pytest.approx(half, rel=1e-4)


def test_a_mean_of_what_has_a_most_does_not_lie_above_it():
    """Two Brier scores, one of them nearly 2: Student's interval reaches 13.7."""
    assert intervals.mean_interval(np.array([0.0, 1.99]), most=2.0) == (0.0, 2.0)
    low, high = intervals.mean_interval(np.array([0.0, 1.99]))
    assert low == 0 and high > 10


def test_values_that_do_not_vary_and_one_alone():
    assert intervals.mean_interval(np.full(5, 0.25)) == (0.25, 0.25)
    assert intervals.mean_interval(np.zeros(5)) == (0, 0)
    assert intervals.mean_interval(np.ones(1)) is None
    even = np.array([1.0, 2, 3, 4, 5])
    assert intervals.mean_interval(even) == pytest.approx(
        stats.t.interval(0.95, 4, 3, even.std() / 2)
    )


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("images", "shape", "most"),
    first_quick(
        [
            (images, shape, most)
            for shape in ((5, 1.5), (8, 1), (3, 1), (12, 1))
            for images, most in ((600, 0.97), (100, 1.0))
        ],
        4,
    ),
)
def test_the_interval_of_the_coverage_at_a_risk_holds_the_truth(images, shape, most):
    """Confidences that are true, of beta distributions: 19 to 82 % can be answered at 5 % risk."""
    random = np.random.default_rng(2)
    sure = -np.sort(-random.beta(*shape, 200_000))
    risks = np.cumsum(1 - sure) / np.arange(1, len(sure) + 1)
    truth = np.mean(risks <= metrics.RISK)
    confidence = -np.sort(-random.beta(*shape, (1000, images)), axis=-1)
    wrong = random.random(confidence.shape) >= confidence
    ones = np.ones(images)
    ends = np.array([intervals.coverage_interval(ones, each, metrics.RISK) for each in wrong])
    held = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    assert 0.93 <= held.mean() <= most
