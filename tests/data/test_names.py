"""What people write for a part, and accents in their forms."""

import pytest

from fgvc_jax.data.names import Spellings, alike, near_part, part, words


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
    assert (part(name), near_part(name)) == (exact, near)


def test_names_that_read_the_same():
    one, apart = "caf\u00e9", "cafe\u0301"
    assert Spellings([apart, "cafe"]).find(one) == [apart]
    assert Spellings([apart, one]).find(one) == [one]
    assert Spellings([one, apart]).find("cafe") == []
    assert Spellings([one, apart]).find("cafe\u0301") == [apart]


def test_names_are_alike_however_they_are_spaced():
    assert words("001.Black_footed_Albatross") == words(" Black-footed  albatross") != ""
    assert words("737-300") == "737 300" and words("cafe\u0301") == words("CAF\u00c9")
    assert alike(["a_b", "A b", "c"]) == {"c": "c"}
