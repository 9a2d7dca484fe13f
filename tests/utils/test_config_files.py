"""Any dataclass can be made by a config file; experiments are in test_config."""

from dataclasses import dataclass

import pytest

from fgvc_jax.utils.config_files import made
from fgvc_jax.utils.errors import UserError


@dataclass(frozen=True)
class Trip:
    to: str = ""
    by: str = "train"
    stops: tuple[str, ...] = ()


@pytest.fixture
def file(tmp_path):
    """A config file, whose path has a colon, that gives what `found` is in it."""

    def write(body):
        path = tmp_path / "a:b.py"
        path.write_text(f"from test_config_files import Trip\n{body}\n")
        return path

    return write


def test_arguments_and_the_keywords_that_it_takes(file):
    path = file("def get_config(to='', *, by='bus'): return Trip(to, by, [to])")
    assert made(f"{path}:Ulm", Trip, beside={}) == Trip("Ulm", "bus", ("Ulm",))
    assert made(str(path), Trip, beside={"by": "foot", "to": "Bonn"}) == Trip("", "foot", ("",))
    assert made(str(path), Trip, beside={"by": None}).by == "bus"
    assert made(str(path), Trip, beside={"by": ""}).by == ""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("get_config = 3", "has no function get_config"),
        ("def get_config(): return 3", "returned no test_config_files.Trip"),
        ("def get_config(): return Trip(to=3)", "to"),
        ("def get_config(): return 1 / 0", "failed: ZeroDivisionError"),
        ("def get_config(a): return Trip()", "does not fit"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(file, body, words):
    with pytest.raises(UserError, match=words) as error:
        made(str(file(body)), Trip, beside={})
    assert "\n" not in str(error.value)


def test_a_name_that_is_none_lists_the_projects_own():
    with pytest.raises(UserError, match="name a file, or one of the project's own, .*tiny"):
        made("tinny:x", Trip, beside={})
