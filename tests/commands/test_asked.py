"""What commands can be asked: every door has its options, told without JAX and in no time."""

import subprocess
import sys

import pytest
from conftest import ROOT

from fgvc_jax import __main__
from fgvc_jax.commands import asked
from fgvc_jax.config import Experiment
from fgvc_jax.training import experiments
from fgvc_jax.utils import options

DOORS = sorted(__main__.commands())


def test_every_command_that_asks_something_is_here():
    assert sorted([*asked.COMMANDS, "train"]) == DOORS


@pytest.mark.parametrize("command", sorted(asked.COMMANDS))
def test_help_tells_of_every_option(command, capsys):
    with pytest.raises(SystemExit) as stop:
        asked.read(asked.COMMANDS[command], command, ["--help"])
    told = capsys.readouterr().out
    assert not stop.value.code and f"usage: python -m fgvc_jax.{command} [" in told
    for flag, _, _ in options.fields(asked.COMMANDS[command]()):
        assert f" {flag} " in told or (flag, "IMAGES" in told) == ("--images", True), flag
    assert max(map(len, told.splitlines())) <= 100


def test_help_of_train_tells_what_people_change(capsys):
    with pytest.raises(SystemExit):
        experiments.parse(["-h"])
    short = capsys.readouterr().out
    with pytest.raises(SystemExit):
        experiments.parse(["--help-all"])
    whole = capsys.readouterr().out
    flags = [flag for flag, _, _ in options.fields(Experiment())]
    told = [line.split()[0] for line in short.splitlines() if line.startswith("  --")]
    assert set(told) <= set(flags) and 18 <= len(told) <= 22
    assert len(short.splitlines()) < 60 < len(whole.splitlines())
    assert "--help-all tells of" in short
    nobodys = "--networks", "--ce.counts"  # which a config alone, and the data, set
    for flag in flags:
        assert (f"  {flag} " in whole) != (flag in nobodys), flag


def test_help_tells_the_defaults_of_a_config(capsys):
    with pytest.raises(SystemExit):
        experiments.parse(["--config", "tiny", "--help"])
    assert "--epochs N              Epochs per member (default 2)" in capsys.readouterr().out


def test_help_loads_no_jax():
    code = (
        "import sys; from fgvc_jax.commands import start\n"
        f"for command in {[*DOORS]}:\n"
        "    try: start.begin(command, ['--help'])\n"
        "    except SystemExit: print(command, {'jax', 'flax', 'optax'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    loaded = [line for line in done.stdout.splitlines() if line.endswith("set()")]
    assert (done.stderr, loaded) == ("", [f"{command} set()" for command in DOORS])
