from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest

from fgvc_jax.utils import help, options


@dataclass(frozen=True)
class Inner:
    """What is inside."""

    areas: tuple[float, float] = (0.5, 1.0)
    """Two numbers."""


@dataclass(frozen=True)
class Base:
    count: int = options.option(2, at_least=1)
    """How many; of
    whatever."""


@dataclass(frozen=True)
class Outer(Base):
    """Do it.

    With several
    words.
    """

    images: Annotated[tuple[str, ...], "positional", "IMAGES"] = ()
    """What to read."""
    hidden: Annotated[int, "not on a command line"] = 1
    kind: Literal["sgd", "adamw"] = "sgd"
    loud: bool = False
    """Say it. And more, with very many words that need a line of their own at any width."""
    both: int | str = 0
    inner: Inner = field(default_factory=Inner)


@pytest.fixture(autouse=True)
def columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")


def test_everything_is_told_in_full():
    assert help.text(Outer(), "python x") == (
        "usage: python x [OPTIONS]\n\nDo it.\n\nWith several words.\n\n"
        "  IMAGES                  What to read.\n"
        "  --count N               How many; of whatever. (default 2)\n"
        "  --kind sgd|adamw        (default sgd)\n"
        "  --loud True|False       Say it. And more, with very many words that need a line of "
        "their own at\n                          any width. (default False)\n"
        "  --both N|TEXT           (default 0)\n\n"
        "--inner.*: What is inside.\n"
        "  --inner.areas X X       Two numbers. (default 0.5 1.0)"
    )


def test_what_is_common_is_told_in_a_sentence():
    told = help.text(Outer(count=3), "x", ["--count", "--inner.areas", "--loud"])
    assert told.partition("With several words.\n\n")[2] == (
        "  IMAGES                  What to read.\n"
        "  --count N               How many (default 3)\n"
        "  --loud True|False       Say it (default False)\n"
        "  --inner.areas X X       Two numbers (default 0.5 1.0)\n\n"
        "--help-all tells of 2 options more."
    )


def test_what_has_few_options_is_told_of_all_of_them_in_a_sentence():
    told = help.text(Outer(), "x", brief=True)
    assert (
        told.count("\n  --") == 5
        and "IMAGES                  What to read." in told
        and "How many (default 2)" in told
    )
    assert "And more" not in told and told.endswith("\n\n--help-all tells more of each.")


@pytest.mark.parametrize("width", [60, 100, 173])
def test_the_text_fills_the_terminal(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    from fgvc_jax.commands.asked import Prediction

    lines = help.text(Prediction(), "x").splitlines()
    assert width - 12 < max(map(len, lines)) <= width
