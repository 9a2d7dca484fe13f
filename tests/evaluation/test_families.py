"""Answers at the levels of a taxonomy: heights, trees, and how far answers climb."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fgvc_jax.data.taxonomy import Taxonomy
from fgvc_jax.ensemble import log_softmax
from fgvc_jax.evaluation import families, intervals

LINEAGES = (
    ("a1", "A", "one"), ("a2", "A", "one"), ("b1", "B", "one"), ("c1", "C", "two"),
    ("c2", "C", "two"),
)  # fmt: skip
BIRDS = Taxonomy(("species", "genus", "family"), LINEAGES)


def test_the_height_of_an_error_is_the_level_where_it_is_none():
    pairs = np.array([(0, 0), (0, 1), (0, 2), (0, 3), (4, 3)]).T
    np.testing.assert_array_equal(families.heights(BIRDS, *pairs), [0, 1, 2, 3, 1])


def test_accuracy_at_every_level_and_the_mean_height_of_errors():
    labels, said = np.array([0, 0, 0, 3, 4]), np.array([0, 1, 2, 0, 3])
    found = families.accuracy_by_level(BIRDS, labels, said)
    assert [each["value"] for each in found["accuracy"]] == [0.2, 0.6, 0.8]
    assert all(each["low"] < each["value"] < each["high"] for each in found["accuracy"])
    assert found["height"]["value"] == (1 + 2 + 3 + 1) / 4 and found["errors"] == [2, 1, 1]
    assert found["levels"] == ["species", "genus", "family"] and found["groups"] == [5, 3, 2]
    assert families.accuracy_by_level(BIRDS, labels, labels)["height"] is None
    assert families.accuracy_by_level(BIRDS, labels[:2], said[:2])["height"] == {
        "value": 1.0, "low": None, "high": None,
    }  # fmt: skip


def test_a_few_errors_at_one_level_do_not_promise_that_all_are():
    labels, said = np.array([0, 1, 3]), np.array([1, 0, 4])
    found = families.accuracy_by_level(BIRDS, labels, said)["height"]
    _, most = intervals.proportion(0, 3)  # are elsewhere, at the farthest at the root
    assert found["value"] == found["low"] == 1 and found["high"] == pytest.approx(1 + 2 * most)


def test_a_tree_tells_which_errors_stay_inside():
    labels, said = np.array([0, 0, 1, 2, 3, 3]), np.array([1, 0, 2, 2, 3, 0])
    one, two = families.tree(BIRDS, labels, said)
    keys = "name", "images", "right", "inside", "out"
    assert [one[k] for k in keys] == ["one", 4, 2, 2, 0] and one["level"] == "family"
    assert [two[k] for k in keys] == ["two", 2, 1, 0, 1]
    genus, other = one["below"]
    assert [genus[k] for k in keys] == ["A", 3, 1, 1, 1] and other["name"] == "B"
    assert [each["name"] for each in genus["below"]] == ["a1", "a2"]
    assert genus["below"][0]["below"] == [] and two["below"][0]["below"][0]["name"] == "c1"


def drawn(random, count, sure=2.0):
    """(log-probabilities, labels drawn from them at another temperature)."""
    values = log_softmax(random.normal(0, sure, (count, 5)).astype(np.float32))
    p = np.exp(log_softmax(values / 2))
    return values, (p.cumsum(1) > random.random((count, 1))).argmax(1)


def test_probabilities_grow_with_the_level_and_are_those_of_all_classes_below():
    values, _ = drawn(np.random.default_rng(0), 50)
    leaf, masses = families.climb(BIRDS, values, 1.5)
    p = np.exp(log_softmax(values / np.float32(1.5)))
    rows = np.arange(50)
    np.testing.assert_array_equal(leaf, values.argmax(1))
    np.testing.assert_allclose(masses[:, 0], p[rows, leaf], rtol=1e-5)
    genus = np.stack([p[:, :2].sum(1), p[:, :2].sum(1), p[:, 2], *[p[:, 3:].sum(1)] * 2], 1)
    np.testing.assert_allclose(masses[:, 1], genus[rows, leaf], rtol=1e-5)
    assert (np.diff(masses, axis=1) >= 0).all() and masses.max() <= 1 + 1e-6


def losses(masses, heights, threshold):
    return heights > families.levels_above(masses, threshold)


def test_an_answer_is_wrong_just_below_its_threshold_and_never_again():
    values, labels = drawn(np.random.default_rng(1), 300)
    leaf, masses = families.climb(BIRDS, values, 1.0)
    heights = families.heights(BIRDS, labels, leaf)
    until = families.wrong_until(masses, heights)
    for threshold in np.linspace(0, 1, 41):
        np.testing.assert_array_equal(losses(masses, heights, threshold), until > threshold)
    for i in np.flatnonzero(until > 0)[:30]:  # and so it is from the threshold itself on
        one = masses[i : i + 1], heights[i : i + 1]
        assert not losses(*one, until[i]).any() and losses(*one, np.nextafter(until[i], 0)).all()


def test_the_threshold_is_the_lowest_that_controls_the_risk():
    """Against equation 4 of the paper, tried at every threshold."""
    random = np.random.default_rng(2)
    for count, risk in itertools.product((19, 20, 57), (0.05, 0.1, 0.3)):
        until = np.where(random.random(count) < 0.5, 0, random.random(count))
        tried = [t for t in (0.0, *until) if ((until > t).sum() + 1) / (count + 1) <= risk + 1e-12]
        assert families.risk_threshold(until, risk) == min(tried)


def test_too_few_images_are_refused_with_the_least_risk():
    for count in (0, 1, 18):
        with pytest.raises(ValueError, match=f"{count} images allow no risk below"):
            families.risk_threshold(np.zeros(count), 0.05)
    assert families.risk_threshold(np.zeros(19), 0.05) == 0
    assert families.risk_threshold(np.ones(1), 0.99) == 1.0  # all is left open
    assert families.promised_risk(19) == 0.05


@pytest.mark.parametrize("risk", [0.05, 0.2])
def test_the_risk_is_held_on_average_over_calibrations(risk):
    """Simulated: as often wrong as promised, and not much less: between risk - 1/(n+1) and risk."""
    random, count, new = np.random.default_rng(3), 60, 2000
    values, labels = drawn(random, 400 * count + new)
    leaf, masses = families.climb(BIRDS, values, 0.7)  # whatever the temperature
    heights = families.heights(BIRDS, labels, leaf)
    until = families.wrong_until(masses, heights)
    ours, theirs = until[new:].reshape(400, count), until[:new]
    errors = [(theirs > families.risk_threshold(each, risk)).mean() for each in ours]
    noise = 4 * (np.std(errors) / 20 + np.sqrt(risk / new))
    assert risk - 1 / (count + 1) - noise < np.mean(errors) < risk + noise


def test_a_coarsening_tells_answers_by_names():
    found = families.Coarsening(BIRDS, 0.05, 1.0, 0.6, 40, "held_out", (0.5, 0.25, 0.125, 0.125))
    p = np.array(
        [
            [0.9, 0.1, 0, 0, 0],
            [0.5, 0.4, 0.1, 0, 0],
            [0.3, 0.25, 0.2, 0.25, 0],
            [0.3, 0, 0.2, 0.25, 0.25],
        ]
    )
    told = found.told(np.log(p.astype(np.float32) + 1e-12))
    assert [each[:2] for each in told] == [
        ("a1", "species"), ("A", "genus"), ("one", "family"), ("", ""),
    ]  # fmt: skip
    np.testing.assert_allclose([each[2] for each in told], [0.9, 0.9, 0.75, 1], rtol=1e-5)
    assert "40 held-out images" in found.about and "12.5% left open" in found.about
    assert "at most 5 % of photographs get a wrong answer" in found.about


class Said:
    """Answers (N, K) of one batch, as `tallies.Fused` has them."""

    def __init__(self, values, labels):
        self.part, self._values = SimpleNamespace(labels=labels), values

    def __iter__(self):
        yield np.arange(len(self._values)), self._values


def test_what_is_left_open_is_no_answer_that_was_given():
    """The risk is promised of all images; of the answers that are given more may be wrong."""
    p = np.array([[0.9, 0.1, 0, 0, 0], [0.9, 0.1, 0, 0, 0], [0.3, 0, 0.2, 0.25, 0.25]])
    said = Said(np.log(p.astype(np.float32) + 1e-12), np.array([0, 3, 0]))
    climbs = families.Coarsening(BIRDS, 0.05, 1.0, 0.6, 40, "held_out", (0.5, 0.25, 0.25, 0.0))
    found = families.judge_coarsening(climbs, said)
    assert found["error"]["value"] == 1 / 3 and found["error_answered"]["value"] == 1 / 2
    silent = replace(climbs, threshold=1.0)
    assert families.judge_coarsening(silent, said)["error_answered"] is None


def test_the_images_for_the_temperature_are_a_fifth_and_always_the_same():
    marked = families.apart(100)
    assert marked.sum() == 20 and (marked == families.apart(100)).all()
    assert families.apart(4).sum() == 0
