"""What people may do next, in words."""

import pytest

from fgvc_jax.figures import advice


def accuracy(value):
    return {"accuracy": {"value": value}}


def entry(name, right, images=40):
    return {"class": name, "label": 0, "images": images, "right": right, "accuracy": right / images}


def numbers(together=0.6, members=1, **more):
    """Of a run on two classes, of which nothing is to be said."""
    return {
        "members": members,
        "class_names": ["bad", "usual"],
        "metrics": {
            "members": [accuracy(0.6), accuracy(0.5)][:members],
            "ensemble": [accuracy(0.6), accuracy(together)][:members],
        },
        "left_out": [],
        "doubted_training_labels": [],
        "doubted_labels": [],
        "classes": [entry("bad", 60, 100), entry("usual", 60, 100)],
        "learning_curve": None,
        **more,
    }


def curve(value, low, high, classes=()):
    gain = {"value": value, "low": low, "high": high}
    return {
        "images": 240,
        "photographs": [5.0, 10.0, 20.0],
        "accuracy": [0.6, 0.7, 0.7 + value],
        "gain": gain,
        "next": 0.031,
        "classes": list(classes),
    }


@pytest.mark.parametrize(
    ("together", "enough"), [(0.7, "10.0 points better"), (0.6, "One network")]
)
def test_labels_classes_and_whether_one_is_enough(together, enough):
    told = advice.advice(
        numbers(
            together,
            members=2,
            doubted_training_labels=[{"name": "train/<b>.jpg"}],
            classes=[entry("bad", 4), entry("usual", 26)],
        )
    )
    assert "train/<wbr>&lt;b&gt;.jpg" in told and "<b>.jpg" not in told
    assert "Look at one class" in told and "bad" in told and "usual" not in told
    assert "whether more photographs would help is not known" in told
    assert enough in told and "80 test images, about 40 a\nclass" in told


@pytest.mark.parametrize(("together", "told"), [(0.5, True), (0.4, False)])
def test_a_network_that_is_mostly_wrong_doubts_no_label(together, told):
    page = advice.advice(numbers(together, members=2, doubted_labels=[{"name": "test/a.jpg"}]))
    assert ("Look at one photograph" in page) == told
    assert ("It is wrong more often than right" in page) == (not told)
    assert "Nothing stands out" not in page


def test_photographs_that_were_left_out_are_named():
    out = [f"a/{n}.jpg" for n in range(13)]
    assert "left out" not in advice.advice(numbers())
    one = advice.advice(numbers(left_out=out[:1]))
    assert "One photograph\ncould not be read and was left out:" in one and "0.jpg" in one
    many = advice.advice(numbers(left_out=out))
    assert "13 photographs\ncould not be read and were" in many and ", and 1 more.</li>" in many


def test_it_is_told_which_doubted_label_was_learned_from():
    told = advice.advice(
        numbers(doubted_training_labels=[{"name": "a/1.jpg"}], doubted_labels=[{"name": "b/2.jpg"}])
    )
    learned, tested = told.index(">training</span>"), told.index(">test</span>")
    assert told.index("1.jpg</bdi>") < learned < told.index("2.jpg</bdi>") < tested


def test_a_test_set_that_says_much_is_not_called_a_hint():
    told = advice.advice(numbers())
    assert "hint" not in told and "Nothing stands out." in told and "photographs of" not in told


def test_more_photographs_that_helped_are_asked_for_of_the_classes_that_gained():
    gained = {"label": 0, "photographs": [6.0, 12.0, 24.0], "accuracy": [0.3, 0.4, 0.55]}
    told = advice.advice(numbers(learning_curve=curve(0.042, 0.01, 0.074, [gained])))
    assert "More photographs help." in told and "Nothing stands out" not in told
    assert "From 10 to 20 a class brought +4.2 points here (+1.0 to +7.4): 70.0% of" in told
    assert "then 74.2%" in told and "about 3.1 points or somewhat less" in told
    first = told.partition("Take them first of")[2]
    assert "bad" in first and "(40% right from\n12, 55% from 24)." in first
    assert "usual" not in first


def test_more_photographs_that_hardly_helped_are_not_asked_for():
    told = advice.advice(numbers(learning_curve=curve(0.002, -0.01, 0.014)))
    assert "More photographs of the same kind will hardly help." in told
    assert "brought +0.2 points here (-1.0 to +1.4)" in told and "Take them" not in told
    assert "Twice as many" not in told


def test_where_it_cannot_be_known_nothing_is_said():
    """The doubling may have brought much, or nothing."""
    told = advice.advice(numbers(learning_curve=curve(0.03, -0.01, 0.07)))
    assert "photographs help" not in told and "hardly" not in told and "From 10" not in told


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ((0.01, 0.05), "Still rising: more"),
        ((-0.01, 0.01), "Flat: more"),
        ((-0.01, 0.05), "Too few to tell whether more would help: the last doubling brought +3.0"),
    ],
)
def test_the_curve_has_a_sentence(ends, told):
    assert told in advice.learning_curve(curve(0.03, *ends))


def test_the_curve_is_drawn_with_its_numbers_in_words():
    drawn = advice.learning_curve(curve(0.042, 0.01, 0.074))
    assert drawn.count("<circle") == 3
    assert "60.0% from 5, 70.0% from 10, 74.2% from 20 of each class." in drawn
    assert "photographs learned from" in drawn
