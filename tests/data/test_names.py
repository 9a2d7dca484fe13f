"""What people write for a part, and accents in their forms."""

import pytest

from fgvc_jax.data.names import (
    Spellings,
    confused,
    in_the_form_of,
    near_part,
    part_named,
    same_words,
    words,
)


@pytest.mark.parametrize(
    ("name", "exact", "near"),
    [
        ("train", "train", "train"),
        ("Test", "test", "test"),
        ("VALID", "validation", "validation"),
        ("training", "", "train"),
        ("test_2", "", "test"),
        ("tests", "", "test"),
        ("vali", "", "validation"),
        ("dev", "", "validation"),
        ("wren", "", ""),
        ("originals", "", ""),
        ("2", "", ""),
    ],
)
def test_parts(name, exact, near):
    assert (part_named(name), near_part(name)) == (exact, near)


def test_names_that_read_the_same():
    one, apart = "caf\u00e9", "cafe\u0301"
    assert Spellings([apart, "cafe"]).find(one) == [apart]
    assert Spellings([apart, one]).find(one) == [one]
    assert Spellings([one, apart]).find("cafe") == []
    assert Spellings([one, apart]).find("cafe\u0301") == [apart]


def test_names_are_alike_however_they_are_spaced():
    assert words("001.Black_footed_Albatross") == words(" Black-footed  albatross") != ""
    assert words("737-300") == "737 300" and words("cafe\u0301") == words("CAF\u00c9")
    assert same_words(["a_b", "A b", "c"]) == {"c": "c"}


def test_names_take_the_form_that_is_known():
    one, apart = "caf\u00e9", "cafe\u0301"
    assert in_the_form_of([apart, "tea"], ["tea", one, "cafe"]) == ["tea", apart, "cafe"]
    assert in_the_form_of([apart], [one, apart]) == [one, apart]  # of two neither is taken for it
    assert in_the_form_of([one, apart], [apart]) == [apart]


def test_names_that_may_be_one():
    names = [
        "Robin",
        "robin ",
        "wren",
        "e\u0301",
        "1",
        "wren\u200b",
        "\u00e9",
        "01.0",
        "10",
        "-",
        "_",
    ]
    assert confused(names) == [
        ["Robin", "robin "], ["wren", "wren\u200b"], ["e\u0301", "\u00e9"], ["1", "01.0"]
    ]  # fmt: skip
    assert confused(["a", "b", "1-10", "11-0", "1.10", "110"]) == []
    assert confused(["1-10", "1 10", "a1_b", "a 1b"]) == [["1-10", "1 10"], ["a1_b", "a 1b"]]
