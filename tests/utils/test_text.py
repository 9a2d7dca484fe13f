"""Names on a terminal cannot break a line or disguise themselves."""

from fgvc_jax.utils.text import printable, table


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
