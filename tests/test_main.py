"""`python -m fgvc_jax`: what commands there are."""

import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT, command, finish
from PIL import Image

import fgvc_jax
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


@pytest.mark.parametrize("name", [["__main__", "predict"], ["predict"], ["train"]])
def test_a_command_tells_the_version_and_no_more(name):
    assert finish(command(*name, "--version")) == (0, f"fgvc_jax {fgvc_jax.__version__}\n", "")


@pytest.mark.slow
def test_a_command_may_follow_a_space(tmp_path):
    for number in range(6):
        file = tmp_path / f"my birds/{'ab'[number % 2]}/{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number * 40,) * 3).save(file)
    code, out, err = finish(command("__main__", "inspect", "my birds", cwd=tmp_path))
    assert (code, err) == (0, "") and "a: 2 to train on" in out
    code, out, err = finish(command("__main__", "train", "--mebers", "3"))
    assert (code, out) == (2, "") and "did you mean --members?" in err


def test_the_console_script_is_the_same():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"fgvc-jax": "fgvc_jax.__main__:command"}
    assert callable(main.command)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("predcit", "unknown command 'predcit': did you mean predict?"),
        ("fgvc_jax.trian", "did you mean train?"),
        ("photo.jpg", "there are demo, embed, evaluate, explain, export, inspect, predict"),
    ],
)
def test_a_misspelt_command_is_told_in_one_line(word, told):
    with pytest.raises(UserError) as error:
        main.main([word])
    assert told in str(error.value) and "\n" not in str(error.value)


def test_the_version_is_told(capsys):
    main.main(["--version"])
    assert capsys.readouterr().out == f"fgvc_jax {fgvc_jax.__version__}\n"
