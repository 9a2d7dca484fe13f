from dataclasses import dataclass, field
from typing import Literal

import pytest

from fgvc_jax.utils import options
from fgvc_jax.utils.command_line import command_line, options_of
from fgvc_jax.utils.errors import UserError


@dataclass(frozen=True)
class Inner:
    rate: float = options.option(0.1, above=0)
    nesterov: bool = False


@dataclass(frozen=True)
class Outer:
    count: int = options.option(2, at_least=1)
    kind: Literal["sgd", "adamw"] = "sgd"
    verbose: bool = True
    optimizer: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("words", "nesterov", "verbose"),
    [
        ([], False, True),
        (["--optimizer.nesterov", "--no-verbose"], True, False),
        (["--optimizer.nesterov", "true", "--verbose=False"], True, False),
        (["--optimizer.nesterov=true", "--verbose", "false"], True, False),
    ],
)
def test_a_boolean_is_written_as_people_write_it(words, nesterov, verbose):
    found = options_of(Outer, "train", words)
    assert (found.optimizer.nesterov, found.verbose) == (nesterov, verbose)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cuont", "3"], "unknown argument '--cuont': did you mean --count"),
        (["--rate", "1"], "did you mean --optimizer.rate"),
        (["--zzz"], "--help lists the fields"),
        (["--count", "many"], "--count"),
        (["--kind", "adam"], "adamw"),
        (["--count", "0"], "--count is 0: it must be at least 1"),
        (["--optimizer.rate", "0"], "--optimizer.rate is 0.0: it must be above 0"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(words, message):
    with pytest.raises(UserError) as error:
        options_of(Outer, "train", words)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_help_is_no_mistake(capsys):
    with pytest.raises(SystemExit) as stop:
        options_of(Outer, "train", ["--help"])
    assert not stop.value.code and "--optimizer.rate" in capsys.readouterr().out


def test_what_the_caller_has_taken_out_is_suggested_too():
    with pytest.raises(UserError, match="did you mean --config"):
        command_line(Outer, ["--confg"], program="p", default=Outer(), also=["--config"])
