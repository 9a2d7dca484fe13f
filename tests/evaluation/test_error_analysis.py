"""What a report tells, checked against counting by hand."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from fgvc_jax import ensemble
from fgvc_jax.data.view import View
from fgvc_jax.evaluation import error_analysis, metrics, statistics, tallies
from fgvc_jax.evaluation.error_analysis import Predictions
from fgvc_jax.workdir import predictions

CLASSES = 5


class Source:
    def __init__(self, labels):
        self.labels = np.asarray(labels, np.int32)
        self.ids = np.arange(len(labels), dtype=np.int32)
        self.names = tuple(f"{i}.jpg" for i in range(len(labels)))

    def __len__(self):
        return len(self.labels)


def answers(folder, labels, logits):
    """`Predictions` of one member that is kept, and its probabilities (N, K)."""
    source = Source(labels)
    names = tuple(map(str, range(logits.shape[1])))
    part = predictions.part_of(folder, "test", source, classes=names, view=View(), images="x")
    with predictions.keep(part, ["m" * 16], [(1, 1)]) as ((kept, attention),):
        kept[:], attention[:] = ensemble.log_softmax(logits), 0
    values = np.asarray(part.log_probabilities("m" * 16), np.float32)
    fused = tallies.Fused(part, ["m" * 16], "probabilities")
    return Predictions.of(fused), np.exp(ensemble.log_softmax(values))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=300)
    logits = rng.normal(size=(300, CLASSES)) + 1.5 * np.eye(CLASSES)[labels]
    return (*answers(tmp_path_factory.mktemp("answers"), labels, np.float32(logits)), labels)


def test_the_confusion_matrix_counts_every_image(drawn):
    found, probabilities, labels = drawn
    matrix = np.zeros((CLASSES, CLASSES), int)
    for truth, row in zip(labels, probabilities, strict=True):
        matrix[truth, row.argmax()] += 1
    np.testing.assert_array_equal(np.stack(list(error_analysis.confusion(found, CLASSES))), matrix)
    images, right = error_analysis.of_classes(found, CLASSES)
    np.testing.assert_array_equal(images, matrix.sum(1))
    np.testing.assert_array_equal(right, np.diag(matrix))
    pairs = error_analysis.confused_pairs(found)
    assert len({frozenset(pair["classes"]) for pair in pairs}) == len(pairs)
    off = matrix.sum() - np.trace(matrix)
    assert sum(sum(pair["counts"]) for pair in pairs) == off
    for pair in pairs:
        a, b = pair["classes"]
        assert pair["counts"] == (matrix[a, b], matrix[b, a]) and matrix[a, b] >= matrix[b, a]
    totals = [sum(pair["counts"]) for pair in pairs]
    assert totals == sorted(totals, reverse=True)


def test_errors_come_with_the_most_confident_first(drawn):
    found, probabilities, labels = drawn
    wrong = [i for i in range(300) if probabilities[i].argmax() != labels[i]]
    assert found.errors().tolist() == sorted(wrong, key=lambda i: -probabilities[i].max())


def test_doubted_labels_are_those_of_the_confident_joint(drawn):
    """Northcutt et al., eq. 1-2, image by image."""
    found, probabilities, labels = drawn
    thresholds = [probabilities[labels == j, j].mean() for j in range(CLASSES)]
    doubted = {}
    for i, row in enumerate(probabilities):
        reached = [j for j in range(CLASSES) if row[j] >= thresholds[j]]
        if reached:
            best = max(reached, key=lambda j: row[j])
            if best != labels[i]:
                doubted[i] = best
    assert doubted
    assert {int(i): int(found.suggested[i]) for i in found.doubted()} == doubted
    margins = [probabilities[i, labels[i]] - probabilities[i].max() for i in found.doubted()]
    np.testing.assert_allclose(margins, sorted(margins), atol=1e-6)


def test_swapped_labels_are_doubted_and_an_unsure_answer_is_not(tmp_path):
    labels = np.repeat([0, 1, 2], 10)
    logits = np.float32(6 * np.eye(4)[labels])
    logits[5] = 0  # a guess: wrong label or not, nobody can say
    swapped = labels.copy()
    swapped[[3, 17]] = [1, 2]
    found, _ = answers(tmp_path, swapped, logits)  # class 3 has no images
    assert sorted(found.doubted().tolist()) == [3, 17]
    assert found.suggested[[3, 17]].tolist() == [0, 1]


def test_an_implausible_label_is_improbable_and_not_what_is_said(tmp_path):
    labels = np.array([0, 1, 2, 3, 1])
    logits = np.full((5, 4), -30, np.float32)
    logits[np.arange(5), [1, 1, 3, 3, 2]] = 0
    logits[0, 0], logits[2, 2], logits[4, 1] = -5, -9, -3  # 0.7 %, 0.01 %, 5 %
    found, _ = answers(tmp_path, labels, logits)
    assert found.implausible().tolist() == [2, 0]
    images, said = found.doubts(meant=True)
    assert images.tolist() == [2, 0] and said[images].tolist() == [3, 1]
    images, said = found.doubts(meant=False)
    assert images.tolist() == found.doubted().tolist() and said is found.suggested


def test_an_answer_that_knows_nothing_doubts_no_label(tmp_path):
    """As of a neighbours' head where nobody may vote: of 200 classes each has half a percent."""
    found, _ = answers(tmp_path, np.array([7, 0, 199]), np.zeros((3, 200), np.float32))
    assert found.implausible().tolist() == []


def test_a_weak_class_is_one_that_chance_does_not_explain():
    images, right = np.array([40, 40, 4, 0]), np.array([4, 26, 1, 0])
    assert error_analysis.weak(images, right, 0.6).tolist() == [True, False, False, False]


def test_curves_are_what_the_metrics_sum_up(drawn):
    found, probabilities, labels = drawn
    of_all = metrics.of_tally(found.tally)(np.ones((1, 300)))
    bins = error_analysis.reliability(found.tally)
    assert sum(each["images"] for each in bins) == 300 and len(bins) == metrics.BINS
    gaps = [each["images"] * abs(each["accuracy"] - each["confidence"]) for each in bins]
    assert sum(gaps) / 300 == pytest.approx(of_all["ece"][0], abs=1e-6)
    confidences = [each["confidence"] for each in bins]
    assert confidences == sorted(confidences)
    curve = error_analysis.risk_coverage(found.tally)
    order = np.argsort(-probabilities.max(-1), kind="stable")
    wrong = probabilities.argmax(-1)[order] != labels[order]
    for coverage, risk in curve:
        count = round(300 * coverage)
        assert risk == pytest.approx(wrong[:count].mean())
    assert curve[-1] == (1, pytest.approx(1 - of_all["accuracy"][0])) and len(curve) <= 200


def test_two_runs_are_compared_image_by_image():
    rng = np.random.default_rng(1)
    ours, theirs = rng.random(400) < 0.8, rng.random(400) < 0.72
    found = statistics.compare_runs(ours, theirs)
    pairs = list(zip(ours.tolist(), theirs.tolist(), strict=True))
    b = sum(o and not t for o, t in pairs)
    c = sum(t and not o for o, t in pairs)
    assert (found["gained"], found["lost"]) == (b, c)
    assert found["difference"] == pytest.approx(ours.mean() - theirs.mean())
    # McNemar: the chance, were both alike, of a split at least as uneven.
    n = b + c
    chances = [math.comb(n, k) / 2**n for k in range(n + 1)]
    p = sum(chance for chance in chances if chance <= chances[b] * (1 + 1e-9))
    assert found["p"] == pytest.approx(p)
    again = [
        np.mean(ours[i].astype(float) - theirs[i])
        for i in (rng.integers(400, size=400) for _ in range(4000))
    ]
    low, high = np.quantile(again, [0.025, 0.975])
    assert low - 0.03 < found["low"] < low and high < found["high"] < high + 0.03
    other = statistics.compare_runs(theirs, ours)
    assert other["difference"] == -found["difference"] and other["p"] == pytest.approx(p)


def test_equal_runs_do_not_differ():
    same = np.arange(30) % 3 > 0
    most = binomtest(0, 30).proportion_ci(0.95).high  # 30 pairs that are alike are no promise
    assert statistics.compare_runs(same, same) == pytest.approx(
        {"difference": 0, "low": -most, "high": most, "p": 1, "gained": 0, "lost": 0}
    )
    found = statistics.compare_runs(same | True, same & False)
    assert found["low"] == pytest.approx((1 - 2 * most) * (1 - most)) and found["high"] == 1
    found = statistics.compare_runs(same & False, same | True)
    assert found["high"] == pytest.approx(-(1 - 2 * most) * (1 - most)) and found["low"] == -1


def runs(gained, lost, count=100):
    ours, theirs = np.zeros((2, count), bool)
    ours[:gained], theirs[gained : gained + lost] = True, True
    return statistics.compare_runs(ours, theirs)


def test_interval_and_p_are_of_one_test():
    """Four images more of a hundred: p = 0.125, and the bootstrap's interval said "better"."""
    four = runs(4, 0)
    assert four["p"] == 0.125 and four["low"] < 0 < four["high"]
    for gained in range(0, 30, 2):
        for lost in range(0, 30, 2):
            found = runs(gained, lost)
            assert (found["low"] > 0 or found["high"] < 0) == (found["p"] < 0.05), (gained, lost)
            assert -1 <= found["low"] <= found["difference"] <= found["high"] <= 1
            assert found["low"] == pytest.approx(-runs(lost, gained)["high"])


@pytest.mark.parametrize(("gain", "loss"), [(0.1, 0.1), (0.2, 0.05), (0.05, 0.0), (0.6, 0.1)])
def test_the_interval_of_a_difference_holds_the_truth(gain, loss):
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(100, [gain, loss, 1 - gain - loss], size=1000)
    pairs, times = np.unique(drawn[:, :2], axis=0, return_counts=True)
    ends = [runs(*pair) for pair in pairs.tolist()]
    held = [each["low"] <= gain - loss <= each["high"] for each in ends]
    assert np.average(held, weights=times) >= 0.95
