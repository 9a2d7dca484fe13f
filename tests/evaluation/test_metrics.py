import dataclasses
import runpy

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT
from scipy import stats

from fgvc_jax.evaluation import intervals, metrics, tallies
from fgvc_jax.evaluation.metrics import Tally
from fgvc_jax.objectives import accuracy

inputs = runpy.run_path(str(ROOT / "scripts/golden_metrics.py"))["inputs"]


def test_correct_counts_what_is_not_padding():
    logits = jnp.asarray([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.0, 1.0]])
    labels = jnp.asarray([1, 0, 0, 1])
    mask = jnp.asarray([True, True, True, False])
    assert accuracy.correct(logits, labels, mask) == 2
    assert accuracy.correct(logits, labels, mask).dtype == jnp.int32


def test_correct_keeps_leading_axes():
    logits = jnp.stack([jnp.eye(3), jnp.roll(jnp.eye(3), 1, axis=1)])
    counts = accuracy.correct(logits, jnp.arange(3), jnp.ones(3, bool))
    np.testing.assert_array_equal(counts, [3, 0])


def test_accuracy_is_a_fraction():
    assert accuracy.accuracy(jnp.eye(4), jnp.asarray([0, 1, 2, 0])) == 0.75


# -- of a whole set --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden():
    """{prediction: {name: value}}, as scikit-learn computes them."""
    found = {}
    for line in (ROOT / "tests/golden/metrics.txt").read_text().splitlines():
        prediction, name, value = line.split()
        found.setdefault(prediction, {})[name] = float(value)
    return found


@pytest.fixture(scope="module")
def judged():
    """Members and the ensemble on the golden file's inputs."""
    log_probabilities, labels = inputs()
    found = tallies.judge_ensembles(labels, log_probabilities, [], how="probabilities")["metrics"]
    members = {f"member{n}": each for n, each in enumerate(found["members"], start=1)}
    return members | {"ensemble": found["ensemble"][-1]}


def test_every_metric_is_what_scikit_learn_says(golden, judged):
    del golden["ensemble"]["temperature"]  # see test_calibration.py
    assert {p: set(names) for p, names in golden.items()} == {
        p: set(names) for p, names in judged.items()
    }
    for prediction, values in golden.items():
        for name, value in values.items():
            assert judged[prediction][name]["value"] == pytest.approx(value, abs=2e-6), name


def test_every_metric_has_a_name_for_people(judged):
    sets = {"set_coverage", "set_size"}  # see calibration.judge
    assert set(judged["ensemble"]) | sets == set(metrics.NAMES)
    assert {name.unit for name in metrics.NAMES.values()} == {"%", "nats", ""}


def test_the_first_member_alone_is_the_ensemble_of_one():
    log_probabilities, labels = inputs()
    found = tallies.judge_ensembles(labels, log_probabilities[:1], [], how="logits")["metrics"]
    one, alone = found["members"][0], found["ensemble"][0]
    assert one.keys() == alone.keys()
    for name in one:
        assert alone[name]["value"] == pytest.approx(one[name]["value"], abs=1e-6)


def tally(labels, confidence, right):
    found = Tally.of(np.asarray(labels))
    found.confidence[:], found.right[:] = confidence, right
    return found


@pytest.fixture
def tied():
    """Images of which many are equally confident, in no order."""
    random = np.random.default_rng(3)
    confidence = random.integers(1, 8, 200) / 8
    return tally(random.integers(0, 5, 200), confidence, random.random(200) < confidence)


ONES = np.ones((1, 200))


def test_selective_risks_with_ties_are_those_of_thresholds(tied):
    risks = [(~tied.right)[tied.confidence >= c].mean() for c in tied.confidence]
    shares = [(tied.confidence >= c).mean() for c in tied.confidence]
    assert metrics.of_tally(tied)(ONES)["aurc"] == pytest.approx(np.mean(risks))
    sums = metrics.Runs(-tied.confidence, ~tied.right).sums(ONES)
    for risk in (0.0, 0.1, 0.2, 0.3, 1.0):
        fitting = [share for share, found in zip(shares, risks, strict=True) if found <= risk]
        found = metrics.coverage_at_risk(*sums, risk)[0]
        assert found == pytest.approx(max(fitting, default=0)), risk


def test_calibration_error_with_ties_keeps_equals_together(tied):
    above = np.array([(tied.confidence > c).mean() for c in tied.confidence])
    bins = np.floor(metrics.BINS * above + 1e-9)
    gaps = [abs((tied.right - tied.confidence)[bins == b].sum()) for b in np.unique(bins)]
    assert metrics.of_tally(tied)(ONES)["ece"] == pytest.approx(sum(gaps) / 200)


def test_weights_are_repeated_images(tied):
    """The metric of drawn images is that of the weights: what the bootstrap stands on."""
    random = np.random.default_rng(5)
    tied.nll[:], tied.brier[:] = random.random((2, 200))
    weights = np.bincount(random.integers(200, size=200), minlength=200)
    again = np.repeat(np.arange(200), weights)
    drawn = Tally(*(getattr(tied, field.name)[again] for field in dataclasses.fields(Tally)))
    expected = metrics.of_tally(drawn)(ONES)
    for name, value in metrics.of_tally(tied)(weights[None].astype(float)).items():
        np.testing.assert_allclose(value, expected[name], err_msg=name)


def test_the_order_of_images_does_not_matter(tied):
    order = np.random.default_rng(6).permutation(200)
    turned = Tally(*(getattr(tied, field.name)[order] for field in dataclasses.fields(Tally)))
    expected = metrics.of_tally(turned)(ONES)
    for name, value in metrics.of_tally(tied)(ONES).items():
        np.testing.assert_allclose(value, expected[name], err_msg=name)


def test_intervals_are_scipys(tied):
    found = metrics.intervals([metrics.of_tally(tied)], 200)[0]["accuracy"]
    expected = stats.bootstrap(
        [tied.right.astype(float)], np.mean, method="percentile", n_resamples=2000, rng=1
    ).confidence_interval
    assert found["value"] == tied.right.mean()
    assert found["low"] == pytest.approx(expected.low, abs=0.01)
    assert found["high"] == pytest.approx(expected.high, abs=0.01)


def test_intervals_do_not_depend_on_how_much_is_drawn_at_a_time(tied, monkeypatch):
    once = metrics.intervals([metrics.of_tally(tied)], 200)
    assert metrics.intervals([metrics.of_tally(tied)], 200) == once
    monkeypatch.setattr(metrics, "AT_ONCE", 1700)
    for name, value in metrics.intervals([metrics.of_tally(tied)], 200)[0].items():
        assert value == pytest.approx(once[0][name], abs=0.02)


def test_certain_and_impossible_answers_are_finite():
    """What float16 holds at its ends: a probability of 1, and one too small for any number."""
    lowest = float(np.finfo(np.float16).min)
    answers = np.array([[0, lowest], [0, lowest], [lowest, 0]], np.float16)
    found = tallies.judge_ensembles(
        np.array([0, 1, 1]), [answers, answers[::-1]], [], how="probabilities"
    )
    values = [v for each in found["metrics"]["ensemble"] for m in each.values() for v in m.values()]
    assert np.all(np.isfinite([value for value in values if value is not None]))
    assert found["metrics"]["members"][0]["nll"]["value"] == pytest.approx(-lowest / 3)
    # Two of three images answered as another class each: a bit of information in each.
    assert found["metrics"]["ensemble"][1]["mutual_information"]["value"] == pytest.approx(
        np.log(2) * 2 / 3, rel=1e-5
    )


def test_one_image_has_metrics():
    found = tallies.judge_ensembles(np.array([1]), [np.log([[0.3, 0.7]])], [], how="logits")[
        "metrics"
    ]
    assert found["members"][0]["accuracy"] == pytest.approx(
        {"value": 1.0, "low": 0.025, "high": 1.0}
    )
    assert found["members"][0]["ece"]["value"] == pytest.approx(0.3)


@pytest.mark.parametrize("right", [True, False])
def test_where_all_images_are_alike_an_interval_does_not_vanish(right):
    """30 of 30 is no promise: drawing the same images again would say 100 to 100 %."""
    labels = np.arange(30) % 3
    tally = Tally.of(labels)
    tally.fill(slice(0, 30), np.log(np.eye(3)[labels if right else labels - 1] * 0.7 + 0.1))
    own, alike = metrics.of_tally(tally), np.full(30, float(right))
    others = "disagreement", "set_coverage"
    (found,) = metrics.intervals(
        [lambda weights: own(weights) | {name: metrics.mean(alike, weights) for name in others}], 30
    )
    exact = stats.binomtest(30 * right, 30).proportion_ci(0.95)
    for name in ("accuracy", "mean_class_accuracy", *others):
        assert found[name] == pytest.approx(
            {"value": float(right), "low": exact.low, "high": exact.high}
        )
    assert found["nll"]["low"] == pytest.approx(found["nll"]["high"])


# -- intervals that hold what they say -------------------------------------------------------------

SHARES = ("accuracy", "mean_class_accuracy", "aurc", "coverage_at_5_risk", "disagreement")


@pytest.mark.parametrize("images", [1, 2, 7, 40])
def test_shares_and_their_intervals_are_shares(images):
    """An accuracy of up to 100.6 %, an answered share of 27 to 127 %; none without its value."""
    for seed in range(20):
        random = np.random.default_rng(seed)
        labels = random.integers(0, 4, images)
        sure = random.uniform(0, 9)
        members = random.normal(0, 1, (3, images, 4)) + sure * np.eye(4)[labels]
        for each in tallies.judge_ensembles(labels, members, [], how="logits")["metrics"][
            "ensemble"
        ]:
            for name in SHARES:
                if name in each:
                    value, low, high = (each[name][end] for end in ("value", "low", "high"))
                    if name == "aurc" and low is high is None:  # of few errors
                        continue
                    assert 0 <= low <= value <= high <= 1, (name, seed)
            for name in ("nll", "brier") if images > 1 else ():
                assert each[name]["low"] <= each[name]["value"] <= each[name]["high"]


@pytest.mark.parametrize(("right", "count"), [(0, 9), (1, 9), (5, 9), (9, 9), (97, 100)])
def test_the_interval_of_a_count_is_exact(right, count):
    expected = stats.binomtest(right, count).proportion_ci(0.95)
    assert intervals.proportion(right, count) == pytest.approx((expected.low, expected.high))
    found = metrics.exact(tally(np.zeros(count, int), 0.5, np.arange(count) < right))
    assert found["accuracy"] == found["mean_class_accuracy"] == pytest.approx(tuple(expected))
    each_its_own = metrics.exact(tally(np.arange(count), 0.5, np.arange(count) < right))
    assert each_its_own["mean_class_accuracy"] == pytest.approx(tuple(expected))


def test_two_members_disagree_on_a_count_of_images():
    members = np.zeros((3, 40, 2))
    members[:, :, 0], members[1, 7, 1], members[2, 8, 1] = 1, 2, 2
    found = tallies.judge_ensembles(np.zeros(40, int), members, [], how="logits")["metrics"][
        "ensemble"
    ]
    assert (found[1]["disagreement"]["low"], found[1]["disagreement"]["high"]) == pytest.approx(
        intervals.proportion(1, 40)
    )
    assert intervals.of_count("disagreement", np.array([0, 1 / 3])) == {}
    assert 0 <= found[2]["disagreement"]["low"] < found[2]["disagreement"]["value"] == 1 / 30


def test_the_mean_over_classes_is_of_all_classes_in_every_drawing():
    """Who always names the class of 57 of 60 images has 50 %, not 44 to 94: drawn from all images
    alike, the class of three was often not among them."""
    labels = np.repeat([0, 1], [57, 3])
    majority = tally(labels, 0.9, labels == 0)
    assert metrics.exact(majority)["mean_class_accuracy"] == (0.5, 0.5)
    one_wrong = majority.right.copy()
    one_wrong[0] = False
    low, high = metrics.exact(tally(labels, 0.9, one_wrong))["mean_class_accuracy"]
    assert 0.45 < low < 0.5 * 56 / 57 < high < 0.8  # of three images none says less


def test_a_calibration_error_has_no_interval(tied):
    """Of calibrated models the bootstrap's held the truth, 0, in at most 2 of 100."""
    (found,) = metrics.intervals([metrics.of_tally(tied)], 200, [metrics.exact(tied)])
    assert found["ece"]["value"] > 0
    assert (found["ece"]["low"], found["ece"]["high"]) == (None, None)
