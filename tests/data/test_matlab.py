"""The reader of MATLAB files: what scipy reads, and no file takes this process down."""

import io
import struct
import zlib

import numpy as np
import pytest
from scipy.io import savemat

from fgvc_jax.data import matlab
from fgvc_jax.data.matlab import MAX_BYTES, read_variables

pytestmark = pytest.mark.slow


def written(**variables) -> bytes:
    file = io.BytesIO()
    savemat(file, variables)
    return file.getvalue()


def cells(*values):
    array = np.empty((1, len(values)), object)
    array[0, :] = values
    return array


@pytest.mark.parametrize("compressed", [True, False])
def test_text_numbers_cells_and_structs(tmp_path, compressed):
    rows = np.empty((1, 2), [("name", object), ("label", object)])
    rows[0, 0], rows[0, 1] = ("Käfer 1302", np.uint8(7)), ("", np.array([[1.5, 2.5]]))
    content = {
        "rows": rows,
        "number": -2.5,
        "nested": cells(cells("a", True), "b"),
        "other": np.arange(6),
    }
    file = tmp_path / "file.mat"
    savemat(file, content, do_compression=compressed)
    assert read_variables(file, ("rows", "number", "nested", "other", "none")) == {
        "rows": [{"name": "Käfer 1302", "label": 7}, {"name": "", "label": None}],
        "number": -2.5,
        "nested": [["a", 1], "b"],
        "other": None,
    }


def refused(file, data, words):
    file.write_bytes(data)
    with pytest.raises(ValueError, match=words) as caught:
        read_variables(file, ("x",))
    assert "\n" not in str(caught.value)


HEADER = b"MATLAB 5.0".ljust(124) + struct.pack("<H", 0x0100) + b"IM"


def element(kind, content):
    return struct.pack("<II", kind, len(content)) + content + b"\0" * (-len(content) % 8)


def matrix(kind, dims, *more):
    head = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack("<2i", *dims))
    return element(14, head + element(1, b"x") + b"".join(more))


def test_what_is_refused(tmp_path):
    file = tmp_path / "file.mat"
    refused(file, b"", "truncated")
    refused(file, b"no MATLAB file" * 100, "Unknown mat file type")
    refused(file, b"MATLAB 7.3".ljust(124) + struct.pack("<H", 0x0200) + b"IM", "HDF")
    refused(file, HEADER + matrix(6, (1, 1))[:-8], "Error")
    # It claims to hold far more than there is memory for.
    refused(file, HEADER + matrix(1, (2**30, 2**30)), "Error")
    with pytest.raises(FileNotFoundError):
        read_variables(tmp_path / "none.mat", ("x",))


def test_what_is_too_large(tmp_path):
    file = tmp_path / "file.mat"
    refused(file, HEADER + b"\0" * MAX_BYTES, "larger than 33,554,432 bytes")
    bomb = element(15, zlib.compress(matrix(6, (1, 2**29), element(9, b"\0" * 2**27))))
    assert len(bomb) < MAX_BYTES
    refused(file, HEADER + bomb, "Error")


def test_a_file_that_takes_scipy_down(tmp_path):
    """The type of a number's data is looked up far beyond scipy's table of types."""
    file = tmp_path / "file.mat"
    for kind in (122, 0x7FFF):
        refused(file, HEADER + matrix(6, (1, 1), element(kind, b"\0" * 8)), "damaged|Error")


def test_a_reader_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(matlab, "MAX_SECONDS", 0.01)
    refused(tmp_path / "file.mat", written(x=1.0), "more than 0.01 s")


def test_no_code_beside_the_reader_is_imported(tmp_path, monkeypatch):
    """Neither the working folder nor the file's own may hand the reader a module."""
    file = tmp_path / "file.mat"
    file.write_bytes(written(x=1.0))
    (tmp_path / "scipy.py").write_text("raise SystemExit(5)")
    monkeypatch.chdir(tmp_path)
    assert read_variables(file, ("x",)) == {"x": 1.0}


def test_damaged_files_never_escape(tmp_path):
    rows = np.empty((1, 3), [("name", object), ("label", object)])
    for i in range(3):
        rows[0, i] = (f"{i}.jpg", np.uint8(i))
    file, rng = tmp_path / "file.mat", np.random.default_rng(0)
    whole = np.frombuffer(written(x=rows, names=cells("a", "bc")), np.uint8)
    for _ in range(8):
        data = whole.copy()
        data[rng.integers(128, len(data), 3)] = rng.integers(0, 256)
        file.write_bytes(data.tobytes())
        try:
            assert read_variables(file, ("x", "names")).keys() <= {"x", "names"}
        except ValueError as error:
            assert "\n" not in str(error)
