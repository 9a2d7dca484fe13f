"""Compiled programs are kept privately, and a damaged entry does not cost the others."""

import pwd

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

import fgvc_jax
from fgvc_jax.utils import compilation
from fgvc_jax.utils.errors import UserError


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """The folder of compiled programs of a user without any."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = (
        "jax_compilation_cache_dir",
        "jax_compilation_cache_max_size",
        "jax_persistent_cache_min_compile_time_secs",
    )
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path / "fgvc_jax/programs"
    for name, value in before.items():
        jax.config.update(name, value)
    reset_cache()


def compiled(number):
    """Start as a new process does, and compile a program that only this number has."""
    compilation.use_compilation_cache()
    reset_cache()
    jax.clear_caches()
    return float(jax.jit(lambda x: x * number + 1)(jnp.float32(2)))


def entries(folder, end):
    return sorted(folder.glob(f"*{end}"))


def test_the_compilation_cache_is_private(programs):
    compilation.use_compilation_cache()
    assert jax.config.jax_compilation_cache_dir == str(programs)
    assert programs.stat().st_mode & 0o777 == 0o700
    assert jax.config.jax_compilation_cache_max_size == compilation.CACHE_BYTES
    programs.chmod(0o777)
    jax.config.update("jax_compilation_cache_dir", None)
    compilation.use_compilation_cache()
    assert jax.config.jax_compilation_cache_dir is None


def without_time(entry):
    entry.with_name(entry.name.replace("-cache", "-atime")).unlink()


def half_a_time(entry):
    entry.with_name(entry.name.replace("-cache", "-atime")).write_bytes(b"123")


def empty(entry):
    entry.write_bytes(b"")


def cut(entry):
    entry.write_bytes(entry.read_bytes()[:-9])


@pytest.mark.parametrize("damage", [without_time, half_a_time, empty, cut])
@pytest.mark.filterwarnings("error")  # JAX's, which come at every start
def test_a_damaged_entry_is_written_again_and_others_are_kept(programs, damage):
    assert compiled(3) == 7
    for entry in entries(programs, "-cache"):
        damage(entry)
    assert compiled(5) == 11 and compiled(3) == 7
    whole = entries(programs, "-cache")
    assert len(whole) == len(entries(programs, "-atime")) > 1
    assert all(entry.stat().st_size > 100 for entry in whole)
    assert all(entry.stat().st_size == 8 for entry in entries(programs, "-atime"))
    before = [entry.read_bytes() for entry in whole]
    assert compiled(3) == 7 and [entry.read_bytes() for entry in whole] == before


@pytest.mark.parametrize("damage", [without_time, half_a_time, empty, cut])
@pytest.mark.filterwarnings("error")
def test_a_folder_that_the_environment_names_is_mended_too(programs, tmp_path, monkeypatch, damage):
    """Others write there as well, without times of use where they know no limit: these stay."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "named"))
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "named"))
    jax.config.update("jax_compilation_cache_max_size", 2**30)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    assert compiled(3) == 7
    whole = entries(tmp_path / "named", "-cache")
    before = {entry: entry.read_bytes() for entry in whole}
    for entry in whole:
        damage(entry)
    assert compiled(5) == 11 and compiled(3) == 7
    now = entries(tmp_path / "named", "-cache")
    assert len(now) == len(entries(tmp_path / "named", "-atime")) > len(whole)
    if damage in (without_time, half_a_time):
        assert {entry: entry.read_bytes() for entry in whole} == before


def test_a_user_without_a_home_or_a_name_does_without(programs, monkeypatch):
    def nobody(_):
        raise KeyError("no such user")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    compilation.use_compilation_cache()
    assert jax.config.jax_compilation_cache_dir is None


def test_a_model_that_is_loaded_in_python_keeps_its_programs_too(programs, tmp_path):
    with pytest.raises(UserError):
        fgvc_jax.load(tmp_path / "none")
    assert compilation.folder() == str(programs)
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))  # what its user has chosen
    with pytest.raises(UserError):
        fgvc_jax.load(tmp_path / "none")
    assert compilation.folder() == str(tmp_path)
