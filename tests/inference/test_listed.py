"""The classes of a list: how they are read, and found among those of the members."""

import logging

import pytest

from fgvc_jax.inference import listed
from fgvc_jax.utils.errors import UserError

CLASSES = "001.Black_footed_Albatross", "caf\u00e9", "017.Cardinal", "Corvus corax"


def written(folder, content):
    file = folder / "here.txt"
    file.write_bytes(content)
    return str(file)


@pytest.mark.parametrize(
    "content",
    [
        b"a b\nc\n", b"\xef\xbb\xbfa b\nc", b"\n\n a b \r\n\r\nc\r\n", b"a b\nc\nc\n",
    ],
)  # fmt: skip
def test_marks_blank_lines_and_spaces_around_names_do_not_matter(tmp_path, content):
    names = listed.read_list(written(tmp_path, content), "--classes")
    assert list(dict.fromkeys(names)) == ["a b", "c"]


def test_only_a_line_feed_or_carriage_return_ends_a_line(tmp_path):
    content = "a\u2028b\u0085c\rd\x0ce\n".encode()
    names = listed.read_list(written(tmp_path, content), "--classes")
    assert names == ["a\u2028b\u0085c", "d\x0ce"]


@pytest.mark.parametrize(
    "content, said",
    [(b"", "is empty: name a class a line"), (b" \n\n", "is empty"), (b"\xe9", "is not UTF-8")],
)
def test_what_is_no_list_is_refused(tmp_path, content, said):
    with pytest.raises(UserError, match=f"--classes '.*here.txt' {said}"):
        listed.read_list(written(tmp_path, content), "--classes")
    with pytest.raises(UserError, match="cannot be read: No such file"):
        listed.read_list(str(tmp_path / "none"), "--classes")


def test_names_are_found_in_any_form_of_accents_and_any_number_of_times():
    assert listed.numbers(CLASSES, ["Corvus corax", "cafe\u0301", "caf\u00e9"]) == (1, 3)
    assert listed.numbers(CLASSES, None, ["cafe\u0301"]) == (0, 2, 3)
    assert listed.numbers(CLASSES, CLASSES, ["caf\u00e9"]) == (0, 2, 3)


def test_names_are_found_however_they_are_spaced_where_that_is_one_class(caplog):
    assert listed.numbers(CLASSES, ["Black-footed albatross", "cardinal", "CAF\u00c9"]) == (0, 1, 2)
    assert caplog.messages == []
    planes = "737-300", "737-400", "737_400", "A 10"
    assert listed.numbers(planes, ["737 300", "737-400", "a-10"]) == (0, 1, 3)
    with pytest.raises(UserError):
        listed.numbers(planes, ["737 400", "A 10"])  # which of two


def test_classes_of_another_dataset_are_known_as_listed_ones_are():
    theirs = ["black footed albatross", "Corvus corone", "cafe\u0301", "Corvus_corax", "Cardinals"]
    assert listed.known(theirs, CLASSES) == [0, 2, 3]
    assert listed.known(["cafe\u0301", "cafe", "tea"], ["tea", "caf\u00e9"]) == [0, 2]
    assert listed.known(["737 400"], ["737-400", "737_400"]) == []  # which of two


def test_names_that_are_no_class_are_told_with_what_is_near(caplog):
    caplog.set_level(logging.WARNING)
    names = ["Corvus corax", "caf\u00e9", "Black-foted albatross", "Kiwi\n", *map(str, range(4))]
    assert listed.numbers(CLASSES, names) == (1, 3)
    assert caplog.messages == [
        "warning: 6 listed names are no class of these members: 'Black-foted albatross' (did you "
        "mean '001.Black_footed_Albatross'?), 'Kiwi\\n', '0', '1', '2' and 1 more"
    ]


@pytest.mark.parametrize(
    "names, without, left",
    [
        (["Corvus corax"], (), "one, 'Corvus corax' is left"),
        (["Kiwi"], (), "none is left"),
        (None, CLASSES, "none is left"),
        (CLASSES[:2], CLASSES[:1], "one, 'caf\u00e9' is left"),
    ],
)
def test_fewer_than_two_classes_are_refused(names, without, left):
    with pytest.raises(UserError, match="nothing to tell apart") as error:
        listed.numbers(CLASSES, names, without)
    assert left in str(error.value)


def test_the_example_is_another_class_than_the_one_that_is_left():
    with pytest.raises(UserError, match="such as 'caf\u00e9'"):
        listed.numbers(CLASSES, CLASSES[:1])


def test_one_name_is_no_list():
    with pytest.raises(UserError, match="'Corvus corax' is one name: give a list"):
        listed.numbers(CLASSES, "Corvus corax")
