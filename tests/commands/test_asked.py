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


@pytest.fixture(autouse=True)
def columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")


def help_of(command, word, capsys):
    with pytest.raises(SystemExit) as stop:
        if command == "train":
            experiments.parse([word])
        else:
            asked.read(asked.COMMANDS[command], command, [word])
    told = capsys.readouterr().out
    assert not stop.value.code and f"usage: python -m fgvc_jax.{command} [" in told
    assert max(map(len, told.splitlines())) <= 100
    return told


@pytest.mark.parametrize("command", DOORS)
def test_help_tells_what_people_change_and_help_all_the_rest(command, capsys):
    experiment = Experiment() if command == "train" else asked.COMMANDS[command]()
    flags = {flag for flag, _, _ in options.fields(experiment)} - {"--images"}
    short, whole = (help_of(command, word, capsys) for word in ("-h", "--help-all"))
    told = [line.split()[0] for line in short.splitlines() if line.startswith("  --")]
    assert {*told} < flags and len(told) <= 20
    assert len(short.splitlines()) <= (25 if command != "train" else 45)
    nobodys = {"--networks", "--ce.counts"} & flags  # which a config alone, and the data, set
    hidden = len(flags) - len(told) - len(nobodys)
    assert short.endswith(f"\n\n--help-all tells of {hidden} options more.\n")
    for flag in flags:
        assert (f"  {flag} " in whole) != (flag in nobodys), flag
    assert ("IMAGES" in short) == ("IMAGES" in whole) == hasattr(experiment, "images")


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
