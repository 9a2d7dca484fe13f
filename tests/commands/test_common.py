"""What --help shows is there to be asked."""

import pytest

from fgvc_jax.commands.asked import COMMANDS
from fgvc_jax.commands.common import COMMON
from fgvc_jax.utils import options


def test_every_command_has_its_own():
    assert COMMON.keys() == COMMANDS.keys()


@pytest.mark.parametrize("command", sorted(COMMON))
def test_they_are_options_of_the_command_once_each(command):
    flags = [flag for flag, _, _ in options.fields(COMMANDS[command]())]
    assert set(COMMON[command]) < set(flags) and len(set(COMMON[command])) == len(COMMON[command])
