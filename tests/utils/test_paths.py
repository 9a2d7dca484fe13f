"""What users type for a path: homes, nothing, names that no file can have."""

import importlib
import os
import pwd
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import command, finish, tiny

from fgvc_jax.data import sources
from fgvc_jax.networks import weights
from fgvc_jax.study import Study, definition, runner
from fgvc_jax.utils import paths
from fgvc_jax.utils.errors import UserError


def test_a_path_is_taken_as_typed():
    for text in ("runs/x", "/data/x", "a~b", "./~", "x/~root", "é" * 100, "a" * 255, "\udcff", "."):
        assert paths.local(text, "--workdir") == Path(text)


def test_homes_are_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert paths.local("~", "--workdir") == Path("/home/me")
    assert paths.local("~/x", "--workdir") == Path("/home/me/x")
    me = pwd.getpwuid(os.getuid())
    assert paths.local(f"~{me.pw_name}/x", "--workdir") == Path(me.pw_dir) / "x"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "--workdir is empty"),
        ("~nobody_like_it/x", "'~nobody_like_it/x': nobody here has the home folder"),
        ("runs/" + "a" * 300 + "/x", "'runs/aaaaaaaaaaaaaaa...' has a name of 300 bytes"),
        ("é" * 200, "has a name of 400 bytes"),
        ("a\0b", "null character"),
        ("a\udcff", "not UTF-8"),
        ("s3://bucket/run", "'s3://bucket/run' is no path of this machine"),
        ("gs://bucket/run", "is no path of this machine"),
        ("gs:/bucket/run", "is no path of this machine"),
        ("GS:///run", "is no path of this machine"),
        ("gs:bucket/run", "is no path of this machine"),
        ("gs//bucket/run", "is no path of this machine"),
    ],
)
def test_a_workdir_that_cannot_be_is_refused_in_one_line(text, words):
    with pytest.raises(UserError) as error:
        paths.workdir(text)
    message = str(error.value)
    assert words in message and message.startswith("--workdir") and "\n" not in message


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["", "~nobody_like_it/x", "a" * 300, "s3://bucket/run"])
@pytest.mark.parametrize("module", ["train", "evaluate"])
def test_the_commands_refuse_them_and_make_no_folder(module, name, tmp_path):
    code, out, err = finish(command(module, "--workdir", name, cwd=tmp_path))
    assert (code, out) == (2, ""), err
    assert err.startswith("error: --workdir") and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


COMMANDS = "train", "evaluate", "predict", "explain", "report", "export", "demo", "embed"
OTHERS = {
    "evaluate": [], "predict": ["a.png"], "explain": ["a.png", "--output", "out"], "report": [],
    "export": ["--output", "out"], "demo": ["--port", "0"], "train": ["--config", "tiny"],
    "embed": ["a.png", "--output", "out.npz"],
}  # fmt: skip


@pytest.mark.parametrize("url", ["s3://bucket/run", "gs:/bucket/run", "gs:bucket/run", "gs://B/r"])
@pytest.mark.parametrize("module", COMMANDS)
def test_every_command_refuses_what_is_no_workdir(module, url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main = importlib.import_module(f"fgvc_jax.commands.{module}").main
    with pytest.raises(UserError, match=f"^--workdir '{url}' is no ") as error:
        main([*OTHERS[module], "--workdir", url])
    assert "\n" not in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} <= {"out"}


@pytest.mark.parametrize(
    ("module", "option", "more"),
    [
        ("train", "--kd.teacher", ["--objective", "kd"]),
        ("explain", "--independent", ["--figure"]),
        ("train", "--data.cache", ["--network.frozen", "stage3"]),
    ],
)
def test_other_options_that_name_one_say_their_name(module, option, more, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main = importlib.import_module(f"fgvc_jax.commands.{module}").main
    with pytest.raises(UserError, match=f"^{option} 's3://bucket/x' is no path of this machine"):
        main([*OTHERS[module], *more, "--workdir", "run", option, "s3://bucket/x"])
    assert {path.name for path in tmp_path.iterdir()} <= {"out"}


def test_an_address_is_never_a_local_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="--output 's3://bucket/a.csv' is no path of this machine"):
        paths.output("s3://bucket/a.csv")
    for places in (
        {"workdir": "s3://bucket/study"},
        {"workdir": "study", "ledger": "s3://bucket/ledger"},
    ):
        options = definition.Options(tiny(), seeds=1, metrics=("ensemble",), **places)
        with pytest.raises(UserError, match="'s3://bucket/.*' is no path of this machine"):
            runner.carry_out(Study(tiny(), {"alone": {}}), options)
    assert not list(tmp_path.iterdir())
    assert paths.local("./s3:/x", "--workdir") == Path("s3:/x")


@pytest.mark.parametrize("name", ["~nobody_like_it/x.safetensors", "a" * 300])
def test_weights_that_cannot_be_are_refused(name):
    with pytest.raises(UserError, match="weights '"):
        weights.resolve(name)


@pytest.mark.parametrize("name", ["~nobody_like_it/x", "a" * 300])
@pytest.mark.parametrize("kind", ["folder:", "cub:", "cars:", "aircraft:", "ultra:", "tfds:mnist@"])
def test_datasets_that_cannot_be_are_refused(kind, name):
    with pytest.raises(UserError, match="nobody here|300 bytes"):
        sources.open_source(kind + name)


def test_weights_in_a_home_folder_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.safetensors").touch()
    assert weights.resolve("~/mine.safetensors") == tmp_path / "mine.safetensors"


def test_an_output_replaces_files_only(tmp_path):
    """A device would be replaced by a file, where the user may do that."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/null")
    (tmp_path / "file").touch()
    for name in ("pipe", "device", "."):
        with pytest.raises(UserError, match="cannot be written there"):
            paths.output(str(tmp_path / name))
    for name in ("file", "new"):
        assert paths.output(str(tmp_path / name)) == tmp_path / name


@pytest.mark.parametrize(
    ("system", "function", "wanted"),
    [
        ("darwin", "renamex_np", (b"one", b"other", 2)),
        ("linux", "renameat2", (-100, b"one", -100, b"other", 2)),
    ],
)
def test_two_folders_change_names_as_each_system_does_it(monkeypatch, system, function, wanted):
    asked = []
    libc = SimpleNamespace(**{function: lambda *arguments: asked.append(arguments) or 0})
    monkeypatch.setattr(paths.sys, "platform", system)
    monkeypatch.setattr(paths.ctypes, "CDLL", lambda _: libc)
    assert paths.exchange(Path("one"), Path("other")) and asked == [wanted]


def test_where_a_system_cannot_exchange_names_it_says_so(monkeypatch):
    monkeypatch.setattr(paths.ctypes, "CDLL", lambda _: SimpleNamespace())
    assert not paths.exchange(Path("one"), Path("other"))
