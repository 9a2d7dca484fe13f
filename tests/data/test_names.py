"""What people write for a part, and accents in their forms."""

import pytest

from fgvc_jax.data.names import alike, near_part, part


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
    assert alike(one, [apart, "cafe"]) == [apart]
    assert alike(one, [apart, one]) == [one]
    assert alike("cafe", [one, apart]) == []
