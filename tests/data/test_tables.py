"""Index files: every value is checked, and a message names file and line."""

import pytest

from fgvc_jax.data.tables import line_of, read_lines, read_table, whole_number
from fgvc_jax.utils.errors import UserError


def test_lines_are_numbered_as_in_the_file(tmp_path):
    file = tmp_path / "index.txt"
    file.write_bytes(b"\xef\xbb\xbf a b \r\n\r\n\xc3\xa9\x0bc")
    assert read_lines(file) == [(1, "a b"), (3, "é\x0bc")]


def test_a_table_keeps_the_place_of_each_key(tmp_path):
    file = tmp_path / "index.txt"
    file.write_text("7 two words\n3 x\n")
    table = read_table(file)
    assert {key: row.value for key, row in table.rows.items()} == {7: "two words", 3: "x"}
    assert table.at(3) == line_of(file, 2) == f"'{file}' line 2"


@pytest.mark.parametrize("text", ["", " 1", "-1", "1_000", "٩", "9" * 19, "1.0"])
def test_what_is_no_whole_number(text):
    with pytest.raises(UserError, match="^here: .* is not a whole number$"):
        whole_number(text, "here")
