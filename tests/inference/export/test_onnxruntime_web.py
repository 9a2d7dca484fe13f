"""onnxruntime-web is taken as npm packs it, and of no other bytes than those that are known."""

import base64
import hashlib
import io
import os
import tarfile

import pytest

from fgvc_jax.inference.export import onnxruntime_web as web
from fgvc_jax.utils.errors import UserError

CONTENT = {"ort.js": b"script", "ort.wasm": b"\0asm"}


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """The file of a small package, which is the known one."""
    places = {name: within for name, (within, _) in web.FILES.items()}
    file = tmp_path / web.ARCHIVE
    with tarfile.open(file, "w:gz") as tar:
        for name, data in CONTENT.items():
            member = tarfile.TarInfo(f"package/{places[name]}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    known = base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode()
    monkeypatch.setattr(web, "INTEGRITY", f"sha512-{known}")
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in CONTENT.items()}
    files = {name: (within, digests[name]) for name, within in places.items()}
    monkeypatch.setattr(web, "FILES", files)
    return file


def npm(folder, monkeypatch, script):
    """An npm that does this."""
    folder.mkdir()
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_a_packed_or_an_unpacked_package_is_taken(archive, tmp_path):
    assert web.runtime(str(archive)) == CONTENT
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    assert web.runtime(str(tmp_path / "package")) == CONTENT
    assert web.runtime(str(tmp_path / "package" / "dist")) == CONTENT


def test_npm_fetches_it_and_runs_nothing_of_it(archive, tmp_path, monkeypatch):
    script = f'echo "$@" > {tmp_path}/words; cp {archive} .'
    npm(tmp_path / "bin", monkeypatch, script)
    assert web.runtime("") == CONTENT
    words = (tmp_path / "words").read_text().split()
    assert words[0] == "pack" and "--ignore-scripts" in words and words[-1] == web.PACKAGE


def test_other_bytes_are_refused_unopened(archive, tmp_path, monkeypatch):
    with archive.open("ab") as file:
        file.write(b"more")
    with pytest.raises(UserError, match="is not onnxruntime-web@"):
        web.runtime(str(archive))
    npm(tmp_path / "bin", monkeypatch, f"cp {archive} .")
    with pytest.raises(UserError, match="what npm fetched is not onnxruntime-web@"):
        web.runtime("")
    (tmp_path / "dist").mkdir()
    for place, _ in web.FILES.values():
        (tmp_path / place).write_text("another version")
    with pytest.raises(UserError, match="is not that of onnxruntime-web@"):
        web.runtime(str(tmp_path))


def test_swapped_files_are_refused(archive, tmp_path):
    (tmp_path / "dist").mkdir()
    places = [within for within, _ in web.FILES.values()]
    for place, data in zip(reversed(places), CONTENT.values(), strict=True):
        (tmp_path / place).write_bytes(data)
    with pytest.raises(UserError, match="is not that of"):
        web.runtime(str(tmp_path))


def test_a_line_says_how_without_npm(tmp_path, monkeypatch):
    monkeypatch.setattr(web.shutil, "which", lambda _: None)
    with pytest.raises(UserError, match="npm, which is not installed.*npm pack.*--runtime") as told:
        web.runtime("")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("script", "words"),
    [("echo 'npm error code E404' >&2; exit 1", "E404"), ("exit 3", "exit code 3"), ("", "code 0")],
)
def test_a_failing_npm_is_told_in_a_line(tmp_path, monkeypatch, script, words):
    npm(tmp_path / "bin", monkeypatch, script)
    with pytest.raises(UserError, match=f"could not fetch.*{words}.*--runtime") as told:
        web.runtime("")
    assert "\n" not in str(told.value)


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match="cannot be read.*--runtime"):
        web.runtime(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="has no dist/.*--runtime"):
        web.runtime(str(tmp_path))
