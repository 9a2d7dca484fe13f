"""Names on a terminal cannot break a line or disguise themselves."""

import csv
import io

import pytest

from fgvc_jax.utils.text import (
    counted,
    csv_table,
    distinct,
    is_utf8,
    markdown_table,
    no_formula_path,
    printable,
    table,
)


def test_printable():
    assert printable('Käfer "a", <b> 鳥') == 'Käfer "a", <b> 鳥'
    assert printable("a\nb\tc\x1b[31m") == "a\\nb\\tc\\x1b[31m"
    assert printable("x\u202egnp.exe\u200f") == "x\\u202egnp.exe\\u200f"
    assert printable("b\udcff") == "b\\udcff"
    assert printable(printable("a\nb")).isprintable()


def test_table():
    text = table(("class", "train"), [("a\nb", 5), ("long name", "1,200")])
    assert text.split("\n") == ["class      train", "a\\nb           5", "long name  1,200"]
    long = table(("class", "train"), [(f"begins {'x' * 300} ends", 5)]).split("\n")[1]
    assert long.startswith("begins x") and long.endswith("x ends      5") and len(long) == 55


def test_markdown_is_aligned_as_text():
    rows = [["a long name", "1"], ["b", "12.25"]]
    assert markdown_table(["row", "%"], rows).splitlines() == [
        "| row         |     % |",
        "| ----------- | ----: |",
        "| a long name |     1 |",
        "| b           | 12.25 |",
    ]
    assert markdown_table(["row", "%"], []).count("\n") == 1
    assert markdown_table("ab", [["x\n", "y"]], labels=2).endswith("| x\\n | y   |")


def test_words_are_said_once():
    assert distinct(["b", "a", "b"]) == "b, a" and distinct([]) == ""


@pytest.mark.parametrize("safe", [False, True])
def test_a_csv_table_may_hold_no_formula(safe):
    names = "=cmd()", "+1", "-1", "@SUM(A1)", "\t=1", "\n=1", "a=1", "'=1", "", "é"
    file = io.StringIO(newline="")
    write = csv_table(file, ("name", "number", "error"), safe=safe)
    write({"name": name, "number": -0.5} for name in names)
    header, *rows = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert header == ["name", "number", "error"]
    guarded = [f"'{name}" if safe and n < 6 else name for n, name in enumerate(names)]
    assert rows == [[name, "-0.5", ""] for name in guarded]


def test_a_path_is_no_formula_and_still_that_of_its_file():
    assert no_formula_path("a/=b.jpg") == "a/=b.jpg" and no_formula_path("=b.jpg") == "./=b.jpg"


def test_a_number_has_its_noun():
    assert counted(1, "test image") == "1 test image" and counted(1, "class") == "1 class"
    assert counted(0, "pair") == "0 pairs" and counted(3000, "class") == "3,000 classes"


def test_what_utf_8_can_hold():
    assert is_utf8("caf\u00e9") and not is_utf8(b"\xff.jpg".decode(errors="surrogateescape"))
