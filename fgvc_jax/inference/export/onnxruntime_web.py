"""onnxruntime-web, with which a site answers: its WASM build, of one version, known by its bytes.

npm fetches it without running anything of it; or it is read where somebody put it.
"""

import base64
import hashlib
import io
import logging
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from fgvc_jax.utils import paths
from fgvc_jax.utils.errors import UserError

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
ARCHIVE = f"onnxruntime-web-{VERSION}.tgz"
INTEGRITY = (  # of the archive, as npm writes it
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02V"
    "b7QmRMDs1SigqR4CXAfKYQ=="
)
# By their names in a site: where they are in the package, and their SHA-256. Servers know .js.
FILES = {
    "ort.js": (
        "dist/ort.wasm.bundle.min.mjs",
        "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    ),
    "ort.wasm": (
        "dist/ort-wasm-simd-threaded.wasm",
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    ),
}
LARGEST = 2**26  # bytes of an archive that is looked at
PATIENCE = 600  # seconds for npm
LICENSE = f"""\
ort.js and ort.wasm are of onnxruntime-web {VERSION}, unchanged but for their names.

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.

What it contains of others is told in ThirdPartyNotices.txt of
https://github.com/microsoft/onnxruntime, tag v{VERSION}.
"""
_BY_HAND = (
    f"where there is npm, `npm pack --ignore-scripts {PACKAGE}` makes {ARCHIVE}, to be named "
    f"here as --runtime {ARCHIVE}"
)
log = logging.getLogger(__name__)


def runtime(place: str) -> dict[str, bytes]:
    """The files by their names in a site.

    Args:
        place: the package as npm packs it, or its folder; empty: npm fetches it.

    Raises:
        UserError: when it is not there, or is another version.
    """
    if not place:
        return _of_archive(_fetched(), "what npm fetched")
    path = paths.local(place, "--runtime")
    try:
        if path.is_dir():
            return {name: _of_folder(path, *known, place) for name, known in FILES.items()}
        with paths.readable(path).open("rb") as file:
            return _of_archive(file.read(LARGEST), f"--runtime {place!r}")
    except OSError as error:
        raise UserError(f"--runtime {place!r} cannot be read ({error}): {_BY_HAND}") from error


def _of_folder(path: Path, within: str, digest: str, place: str) -> bytes:
    """A file of the unpacked package, or of its folder dist."""
    found = next(filter(Path.is_file, (path / within, path / Path(within).name)), None)
    if found is None:
        raise UserError(f"--runtime {place!r} has no {within}: {_BY_HAND}")
    data = paths.readable(found).read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise UserError(f"{str(found)!r} is not that of {PACKAGE}: {_BY_HAND}")
    return data


def _of_archive(data: bytes, what: str) -> dict[str, bytes]:
    found = base64.b64encode(hashlib.sha512(data).digest()).decode()
    if f"sha512-{found}" != INTEGRITY:
        raise UserError(f"{what} is not {PACKAGE}, whose SHA-512 is known: {_BY_HAND}")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {name: _member(tar, within) for name, (within, _) in FILES.items()}


def _member(tar: tarfile.TarFile, within: str) -> bytes:
    file = tar.extractfile(f"package/{within}")
    assert file is not None  # it is known by its digest
    return file.read()


def _fetched() -> bytes:
    """The archive, by npm."""
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(f"--format web needs npm, which is not installed: {_BY_HAND}")
    log.info("fetching %s by npm, 33 MB", PACKAGE)
    with tempfile.TemporaryDirectory() as folder:
        words = [npm, "pack", "--ignore-scripts", "--silent", PACKAGE]
        try:
            done = subprocess.run(
                words, cwd=folder, capture_output=True, text=True, timeout=PATIENCE
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"npm fetched nothing in {PATIENCE} s: {_BY_HAND}") from None
        file = Path(folder) / ARCHIVE
        if done.returncode or not file.is_file():
            said = [line for line in done.stderr.splitlines() if line.strip()]
            reason = said[0].strip() if said else f"exit code {done.returncode}"
            raise UserError(f"npm could not fetch {PACKAGE} ({reason}): {_BY_HAND}")
        return file.read_bytes()
