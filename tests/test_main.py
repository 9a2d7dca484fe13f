"""`python -m fgvc_jax`: what commands there are."""

import subprocess
import sys

import pytest
from conftest import ROOT, command, finish

from fgvc_jax import __main__ as main
from fgvc_jax.utils.errors import UserError

COMMANDS = [
    f"python -m fgvc_jax.{file.stem}"
    for file in sorted((ROOT / "fgvc_jax").glob("[!_]*.py"))
    if "start.begin(" in file.read_text()
]


def test_every_command_is_listed_in_one_line(capsys):
    main.main([])
    heading, *lines = capsys.readouterr().out.splitlines()
    assert "python -m fgvc_jax.train" in COMMANDS and "--help" in heading
    assert [" ".join(line.split()[:3]) for line in lines] == COMMANDS
    for line in lines:
        assert line.endswith(".") and len(line.split()) > 4 and len(line) <= 100


def test_listing_imports_no_jax():
    code = "import sys, fgvc_jax.__main__ as m; m.main([]); assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_started_as_a_command(arguments):
    code, out, err = finish(command("__main__", *arguments))
    assert (code, err) == (0, "") and "python -m fgvc_jax.evaluate" in out


def test_a_command_after_a_space_is_told_in_one_line():
    with pytest.raises(UserError, match="'train'.* python -m fgvc_jax.train") as error:
        main.main(["train"])
    assert "\n" not in str(error.value)
