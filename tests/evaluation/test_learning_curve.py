"""What more images bring, where the truth is known."""

import numpy as np
import pytest

from fgvc_jax.evaluation import learning_curve
from fgvc_jax.objectives.linear import Linear


def said(*true):
    """(n, 3) log-probabilities that give each label, see `LABELS`, so much."""
    given = np.array(true)
    found = np.repeat((1 - given)[:, None] / 2, 3, axis=1)
    found[np.arange(len(given)), LABELS[: len(given)]] = given
    return np.log(found)


# Ten images of class 0, of which eight are known once all others are learned from; ten of class 1,
# which are always known; four of class 2, too few to be judged.
LABELS = np.repeat([0, 1, 2], [10, 10, 4])
ALONE, HEADS = np.arange(24), np.arange(24) % 5
BEFORE = said(*10 * [0.2], *10 * [0.9], *4 * [0.1])
AFTER = said(*8 * [0.8], *2 * [0.2], *10 * [0.9], *4 * [0.9])


def test_a_curve_by_hand():
    found = learning_curve.curve_of(
        LABELS, ALONE, ALONE, HEADS, {0.25: BEFORE, 0.5: BEFORE, 1.0: AFTER}
    )
    assert tuple(found) == learning_curve.FIELDS
    assert found["images"] == 20 and found["photographs"] == pytest.approx([2, 4, 8])
    assert found["accuracy"] == [0.5, 0.5, 0.9]
    # Mean 8 / 20, standard error sqrt(20 / 19 * 4.8) / 20, Student's quantile of 19 2.093.
    assert found["gain"] == pytest.approx({"value": 0.4, "low": 0.1648, "high": 0.6352}, abs=1e-4)
    # Errors of 0.1, a fifth of those before: those of all images, 1.25 times as many, and twice.
    assert found["next"] == pytest.approx(0.1 * 0.2 ** np.log2(1.25) * 0.8)
    (gaining,) = found["classes"]
    assert gaining["label"] == 0 and gaining["accuracy"] == [0, 0, 0.8]
    assert gaining["photographs"] == pytest.approx([2, 4, 8])


def test_images_of_one_group_are_as_one():
    both = {0.5: BEFORE, 1.0: AFTER}
    alone = learning_curve.curve_of(LABELS, ALONE, ALONE, HEADS, both)
    pairs = learning_curve.curve_of(LABELS, ALONE // 2, ALONE, HEADS, both)
    assert pairs["gain"]["value"] == alone["gain"]["value"]
    assert pairs["gain"]["low"] < alone["gain"]["low"]
    assert [each["label"] for each in alone["classes"]] == [0]


def test_a_class_that_one_head_alone_found_better_is_not_named():
    """By its images it gains for certain; by the heads, of which one said it all, it may not."""
    given = [0.8 if head in (0, 1) else 0.2 for head in HEADS[:10]]
    after = said(*given, *10 * [0.9], *4 * [0.9])
    two = np.where(HEADS < 2, 0, 1)
    both = {0.5: BEFORE, 1.0: after}
    named = [
        learning_curve.curve_of(LABELS, ALONE, ALONE, by, both)["classes"] for by in (ALONE, two)
    ]
    assert named[1] == []


def test_too_few_images_say_nothing():
    few = np.flatnonzero(LABELS == 2)
    both = {0.5: BEFORE[few], 1.0: AFTER[few]}
    assert learning_curve.curve_of(LABELS, ALONE, few, HEADS[few], both) is None
    assert learning_curve.curve_of(LABELS, ALONE, ALONE, HEADS, {1.0: AFTER}) is None
    same = learning_curve.curve_of(LABELS, ALONE, ALONE, HEADS, {0.5: AFTER, 1.0: AFTER})
    assert same["gain"]["low"] < 0 < same["gain"]["high"] and same["next"] == 0.0


EASY = 2  # classes that lie far from all others


def drawn(each, seed, classes=8):
    """(x, labels): of classes, all but the first two are told apart by many numbers together."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    centres = 0.35 * np.random.default_rng(7).standard_normal((classes, 60))
    centres[:EASY] += 12 * np.eye(EASY, 60)
    return (centres[labels] + random.standard_normal((len(labels), 60))), labels


def curve(x, labels, new):
    """The curve of a head that is solved for images, and its accuracy on new ones."""
    alone, classes = np.arange(len(x)), labels.max() + 1
    solved = Linear().solve(x, labels, alone, classes=classes, seed=0, watch=lambda said: None)
    known = {share: each.log_probabilities for share, each in solved.fewer.items()}
    known[1.0] = solved.held_out.log_probabilities
    layer, (others, truth) = solved.params["fc"], new
    right = ((others @ layer["kernel"] + layer["bias"]).argmax(-1) == truth).mean()
    of = learning_curve.curve_of(labels, alone, solved.held_out.rows, solved.held_out.heads, known)
    return of, right


def test_a_made_up_problem_is_told_as_it_is():
    """Twice the images of a problem that takes many bring what was guessed; the classes that are
    named are among those that take them."""
    new = drawn(300, seed=99)
    found, right = curve(*drawn(40, seed=0), new)
    _, of_twice = curve(*drawn(80, seed=50), new)
    assert found["photographs"] == pytest.approx([8, 16, 32]) and found["images"] == 320
    assert found["accuracy"] == sorted(found["accuracy"])
    assert found["accuracy"][-1] == pytest.approx(right, abs=0.03)
    assert found["gain"]["low"] > 0
    assert of_twice - right > 0.02 and found["next"] == pytest.approx(of_twice - right, abs=0.02)
    named = [each["label"] for each in found["classes"]]
    assert named and min(named) >= EASY


def test_where_all_is_known_more_bring_nothing():
    """Classes that all lie far apart: whatever is left out is named rightly."""
    labels = np.arange(200) % 4
    x = 12 * np.eye(4, 10)[labels] + np.random.default_rng(0).standard_normal((200, 10))
    found, _ = curve(x, labels, (x, labels))
    assert found["accuracy"] == [1, 1, 1] and found["next"] == 0 and found["classes"] == []
    assert found["gain"]["value"] == 0 and found["gain"]["high"] < 0.02
