"""The confusion matrix as a drawing."""

import re

import pytest
from pages import HOSTILE

from fgvc_jax.figures import matrix


def classes_of(*right, images=10):
    return [
        {"class": f"class {n}", "label": n, "images": images, "right": count}
        for n, count in enumerate(right)
    ]


def pair(one, other, counts):
    return {"classes": (one, other), "counts": counts, "images": [10, 10], "examples": [[], []]}


PAIRS = [pair(0, 3, (5, 2)), pair(1, 4, (3, 0)), pair(2, 0, (1, 0))]


def test_every_answer_has_its_cell():
    drawn = matrix.confusion(classes_of(5, 7, 9, 8, 10), PAIRS)
    titles = re.findall(r"<title>(.*?)</title>", drawn)
    assert "class 0 named class 3: 5 of 10" in titles and "class 3 named class 0: 2 of 10" in titles
    assert "class 1 named class 4: 3 of 10" in titles and len(titles) == 5 + 4
    assert drawn.count("<text") == 2 * 5 and "checkbox" not in drawn
    assert "rarer" not in drawn
    drawn = matrix.confusion(classes_of(5, 7, 9, 8, 10), PAIRS[:2])  # as many as a report keeps
    assert "which are not drawn: 1." in drawn


def test_classes_that_are_taken_for_each_other_are_side_by_side():
    order = matrix.ordered(5, PAIRS, range(5))
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert abs(order.index(0) - order.index(3)) == 1 == abs(order.index(1) - order.index(4))
    assert matrix.ordered(2, [pair(1, 0, (5, 0))], [0, 1]) == [0, 1]


def test_many_classes_can_be_enlarged_and_too_many_are_not_drawn():
    assert "checkbox" in matrix.confusion(classes_of(*[9] * 41), [pair(0, 40, (1, 0))])
    assert matrix.confusion(classes_of(*[9] * 501), [pair(0, 40, (1, 0))]) == ""
    assert matrix.confusion(classes_of(10, 10), []) == ""


def test_names_are_text():
    one, other = classes_of(5, 5)
    drawn = matrix.confusion([one | {"class": HOSTILE}, other], [pair(0, 1, (5, 5))])
    assert "<script" not in drawn and "<b>" not in drawn


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("Sooty Albatross", "Sooty Albatross"),
        ("smooth-crowned spectacled snipe", "smooth-crowned spectacl…"),
        ("010.Red_winged_Blackbird", "010.Red_winged_Blackbird"),
        ("W" * 30, "W" * 13 + "…"),
        ("il" * 19, "il" * 19),
        ("鳥" * 30, "鳥" * 13 + "…"),
    ],
)
def test_a_name_is_cut_where_its_room_ends(name, drawn):
    assert matrix.cut(name, 159) == drawn
    one, other = classes_of(5, 5)
    page = matrix.confusion([one | {"class": name}, other], [pair(0, 1, (5, 5))])
    assert page.count(f">{drawn}</text>") == 2
