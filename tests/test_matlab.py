"""The reader of MATLAB files: agrees with scipy on what it knows, and survives everything else."""

import contextlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io.matlab
from scipy.io import loadmat, savemat

from fgvc_jax.data.matlab import MAX_BYTES, MAX_DEPTH, read_variables

# Files that MATLAB 5.3 to 7.4 wrote, on machines of both byte orders; scipy's wheels have them.
WRITTEN_BY_MATLAB = Path(scipy.io.matlab.__file__).parent / "tests" / "data"
KINDS = ("cell", "cellnest", "double", "emptycell", "matrix", "minus", "multi", "onechar", "string")
KINDS += ("structarr", "structnest", "unicode")


def same(ours, theirs):
    """Is what we read what scipy reads, up to its shapes?"""
    flat = theirs.ravel(order="F")
    if theirs.dtype.names:
        assert [list(row) for row in ours] == [list(theirs.dtype.names)] * len(flat)
        rows = list(zip(ours, flat, strict=True))
        pairs = [(row[name], other[name]) for row, other in rows for name in row]
    elif theirs.dtype == object:
        pairs = list(zip(ours, flat, strict=True))
    elif theirs.dtype.kind == "U":
        return ours == (flat[0] if len(flat) else "")
    else:
        return np.array_equal(ours, flat)
    return all(same(*pair) for pair in pairs)


@pytest.mark.skipif(not WRITTEN_BY_MATLAB.exists(), reason="scipy came without its test data")
@pytest.mark.parametrize("kind", KINDS)
def test_files_that_matlab_wrote(kind):
    files = [
        file
        for version in ("5", "6", "7")
        for file in WRITTEN_BY_MATLAB.glob(f"test{kind}_{version}.*.mat")
    ]
    assert files
    for file in files:
        theirs = {name: value for name, value in loadmat(file).items() if name[0] != "_"}
        ours = read_variables(file, tuple(theirs))
        assert ours.keys() == theirs.keys() and theirs
        assert all(same(ours[name], theirs[name]) for name in theirs), file


@pytest.mark.parametrize("compressed", [True, False])
def test_files_that_scipy_wrote(tmp_path, compressed):
    rows = np.empty((1, 2), [("name", object), ("label", object)])
    rows[0, 0], rows[0, 1] = ("Käfer 1302", np.uint8(7)), ("", np.array([[1.5, 2.5]]))
    content = {
        "rows": rows,
        "numbers": np.arange(6, dtype=np.int16).reshape(2, 3),
        "other": np.zeros(3, complex),
    }
    file = tmp_path / "file.mat"
    savemat(file, content, do_compression=compressed)
    read = read_variables(file, ("rows", "numbers", "none"))
    assert read.keys() == {"rows", "numbers"}
    assert read["numbers"].tolist() == [0, 3, 1, 4, 2, 5]
    assert [row["name"] for row in read["rows"]] == ["Käfer 1302", ""]
    assert [row["label"].tolist() for row in read["rows"]] == [[7], [1.5, 2.5]]
    with pytest.raises(ValueError, match="array of class"):
        read_variables(file, ("other",))


def refused(file, data, words):
    file.write_bytes(data)
    with pytest.raises(ValueError, match=words):
        read_variables(file, ("x",))


HEADER = b"MATLAB 5.0".ljust(124) + struct.pack("<H", 0x0100) + b"IM"


def element(kind, content):
    return struct.pack("<II", kind, len(content)) + content + b"\0" * (-len(content) % 8)


def matrix(kind, dims, *more):
    head = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack("<2i", *dims))
    return element(14, head + element(1, b"x") + b"".join(more))


def test_what_is_refused(tmp_path):
    file = tmp_path / "file.mat"
    refused(file, b"", "no MATLAB file")
    refused(file, b"MATLAB 7.3".ljust(124) + struct.pack("<H", 0x0200) + b"IM", "no MATLAB file")
    refused(file, HEADER + element(9, b"12345678"), "type 9 between its variables")
    refused(file, HEADER + matrix(6, (1, 1), element(122, b"\0" * 8)), "numbers of type 122")
    refused(file, HEADER + matrix(4, (1, 1), element(9, b"\0" * 8)), "text of type 9")
    refused(file, HEADER + matrix(4, (2, 1), element(16, b"ab")), "text of several rows")
    refused(file, HEADER + matrix(4, (1, 1), element(16, b"\xff")), "utf-8")
    refused(file, HEADER + matrix(6, (1, 1)), "lacks an element")
    refused(file, HEADER + matrix(6, (1, 1))[:-8], "cut off")
    refused(file, HEADER + matrix(1, (2**30, 2**30)), "claims to hold")
    refused(file, HEADER + matrix(1, (-1, 1)), "claims to hold -1 cells")
    names = element(5, struct.pack("<i", 0)) + element(1, b"")
    refused(file, HEADER + matrix(2, (1, 1), names), "field names have no length")
    refused(file, HEADER + matrix(17, (1, 1)), "array of class 17")
    nested = matrix(6, (1, 1), element(9, b"\0" * 8))
    for _ in range(MAX_DEPTH + 1):
        nested = matrix(1, (1, 1), nested)
    refused(file, HEADER + nested, "nested more than")


def test_what_is_too_large(tmp_path):
    file = tmp_path / "file.mat"
    refused(file, HEADER + b"\0" * MAX_BYTES, "larger than 33,554,432 bytes")
    bomb = element(15, zlib.compress(b"\0" * (MAX_BYTES + 1)))
    assert len(bomb) < 100_000
    refused(file, HEADER + bomb, "larger than 33,554,432 bytes")


def test_damaged_files_never_escape(tmp_path):
    rows = np.empty((1, 3), [("name", object), ("label", object)])
    for i in range(3):
        rows[0, i] = (f"{i}.jpg", np.uint8(i))
    file, rng = tmp_path / "file.mat", np.random.default_rng(0)
    savemat(file, {"x": rows, "names": np.array([["a", "bc"]], object)})
    whole = np.frombuffer(file.read_bytes(), np.uint8)
    for _ in range(300):
        data = whole.copy()
        data[rng.integers(128, len(data), 3)] = rng.integers(0, 256)
        end = len(data) if rng.random() < 0.8 else rng.integers(len(data))
        file.write_bytes(data[:end].tobytes())
        with contextlib.suppress(ValueError):
            read_variables(file, ("x", "names"))
