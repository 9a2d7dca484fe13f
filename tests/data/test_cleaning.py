"""Which images a clean list leaves out, and why; tests/commands/test_inspect.py writes some."""

import dataclasses

import numpy as np
import pytest

from fgvc_jax.data import cleaning
from fgvc_jax.data.framing import Box
from fgvc_jax.data.soundness import HASH_SIDE, ImageFacts

BITS = np.arange(HASH_SIDE**2) % 2 == 0


def pictures(*rows):
    """(part, label, content, bits) of each."""
    made = []
    for index, (part, label, content, bits) in enumerate(rows):
        picture = ImageFacts(part, index, f"{part}/{index}.jpg", label, content.encode(), bits=bits)
        made.append(picture)
    return made


def left(*made):
    return {index: reason for (_, index), reason in cleaning.reasons(made).items()}


def test_of_copies_one_stays_and_rather_where_it_is_judged():
    made = pictures(("train", 0, "x", None), ("train", 0, "x", None), ("test", 0, "x", None))
    assert left(*made) == dict.fromkeys((0, 1), "doubled: the same picture is test/2.jpg")
    assert left(*made[:2]) == {1: "doubled: the same picture is train/0.jpg"}


def test_under_several_labels_all_are_left_out():
    made = pictures(("train", 0, "x", None), ("train", 1, "x", None), ("train", 0, "x", None))
    found = left(*made)
    assert found.keys() == {0, 1, 2} and all("under another label" in r for r in found.values())
    assert found[0].endswith("train/1.jpg") and found[1].endswith("train/0.jpg")


def test_what_is_nearly_the_same_stays_within_a_part_alone():
    made = pictures(("train", 0, "x", BITS), ("train", 0, "y", BITS))
    assert left(*made) == {}  # a burst
    made = pictures(("train", 0, "x", BITS), ("train", 0, "y", BITS), ("test", 0, "z", BITS))
    found = left(*made)
    assert found == dict.fromkeys((0, 1), "doubled: nearly the same in the test part is test/2.jpg")
    others = pictures(("train", 0, "x", BITS), ("train", 1, "y", BITS))
    assert all("nearly the same under another" in reason for reason in left(*others).values())


def test_what_cannot_be_read_and_what_shows_nothing():
    broken, dark, fine = pictures(*[("train", 0, c, None) for c in "xyz"])
    broken = dataclasses.replace(broken, problem="image 'x' is empty")
    dark = dataclasses.replace(dark, doubts=("uniform", "tiny"), remarks=("uniform", "tiny"))
    fine = dataclasses.replace(fine, remarks=("700 x 100 pixels, squeezed to a square",))
    assert left(broken, dark, fine) == {
        0: "broken: image 'x' is empty",
        1: "doubtful: uniform; tiny",
    }


@pytest.mark.parametrize(
    ("box", "cells"),
    [
        (None, ["", "", "", ""]),
        (Box(10, 20, 30.5, 40), ["10.0", "20.0", "30.5", "40.0"]),
        (Box(0.1, 0, 0.5, 1, (1, 1)), ["0.1", "0.0", "0.5", "1.0"]),
        (Box(10, 20, 50, 40, (100, 80)), ["0.1", "0.25", "0.5", "0.5"]),
    ],
)
def test_boxes_as_a_list_has_them(box, cells):
    assert cleaning._numbers(box) == cells


def test_no_path_of_a_list_is_a_formula(tmp_path):
    assert cleaning._below(tmp_path, str(tmp_path / "=a.jpg")) == "./=a.jpg"
    assert cleaning._below(tmp_path, str(tmp_path / "a/=b.jpg")) == "a/=b.jpg"
