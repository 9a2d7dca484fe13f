"""A small reader of MATLAB 5 files, for annotations whose origin nobody vouches for.

scipy.io.loadmat follows type codes out of its tables and takes the process down on some damaged
files. This one reads slices of bytes only, knows numbers, text, cells and structs, and bounds what
it unpacks. Format: "MAT-File Format", The MathWorks, chapter 1 (level 5).
"""

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

MAX_BYTES = 32 * 2**20  # of a file, and of what one of its variables unpacks to
MAX_DEPTH = 8  # of cells in structs in cells ...

MATRIX, COMPRESSED = 14, 15
NUMBERS = dict(zip((1, 2, 3, 4, 5, 6, 7, 9, 12, 13), map(np.dtype, "bBhHiIfdqQ"), strict=True))
# Text is stored as bytes, as 16-bit units, or as what it says.
TEXTS = {1: "utf-8", 2: "utf-8", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
CELL, STRUCT, CHAR = 1, 2, 4
ARRAYS = range(6, 16)  # double, single, and the integers
COMPLEX = 0x0800

EMPTY = np.empty(0)  # what MATLAB writes as []

Element = tuple[int, memoryview]


def read_variables(file: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """The variables of `file` that are among `names`.

    Text becomes str, an array of numbers a flat numpy array, a cell array a list, a struct array a
    list of dicts; all in the order of the file. Raises OSError, or ValueError if the file is none
    of this format, damaged, too large or holds anything else under these names.
    """
    with open(file, "rb") as stream:
        data = memoryview(stream.read(MAX_BYTES + 1))
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES:,} bytes")
    try:
        return dict(_variables(data, names))
    except (struct.error, zlib.error, OverflowError) as error:
        raise ValueError(str(error)) from error


def _variables(data: memoryview, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    order = {b"IM": "<", b"MI": ">"}.get(bytes(data[126:128]))
    if order is None or struct.unpack(f"{order}H", data[124:126])[0] != 0x0100:
        raise ValueError("it is no MATLAB file of version 5 to 7")
    for kind, payload in _elements(data[128:], order):
        if kind == COMPRESSED:
            kind, payload = _next(_elements(_unpacked(payload), order))
        if kind != MATRIX:
            raise ValueError(f"it holds an element of type {kind} between its variables")
        elements = _elements(payload, order)
        header = [_next(elements) for _ in range(3)]
        name = bytes(header[2][1]).decode()
        if name in names:
            yield name, _matrix(payload, order, depth=0)


def _unpacked(payload: memoryview) -> memoryview:
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(payload, MAX_BYTES)
    if not unpacker.eof:
        raise ValueError(f"it is cut off, or a variable is larger than {MAX_BYTES:,} bytes")
    return memoryview(data)


def _elements(data: memoryview, order: str) -> Iterator[Element]:
    """The tagged elements (type, content) that follow each other in `data`."""
    start = 0
    while start < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, start)
        if kind >> 16:  # the short form: both in one word, the content in the other
            kind, size = kind & 0xFFFF, kind >> 16
            content = data[start + 4 : start + 4 + min(size, 4)]
            start += 8
        else:
            content = data[start + 8 : start + 8 + size]
            start += 8 + size + (0 if kind == COMPRESSED else -size % 8)
        if len(content) != size:
            raise ValueError("it is cut off")
        yield kind, content


def _next(elements: Iterator[Element]) -> Element:
    element = next(elements, None)
    if element is None:
        raise ValueError("it lacks an element")
    return element


def _numbers(element: Element, order: str) -> np.ndarray:
    kind, content = element
    if kind not in NUMBERS:
        raise ValueError(f"it holds numbers of type {kind}")
    return np.frombuffer(content, NUMBERS[kind].newbyteorder(order))


def _integers(element: Element, order: str) -> tuple[int, ...]:
    """The 32-bit integers of a header, of which there must be one."""
    _, content = element
    if not len(content):
        raise ValueError("it has an empty header")
    return struct.unpack(f"{order}{len(content) // 4}i", content)


def _text(element: Element, order: str) -> str:
    kind, content = element
    if kind not in TEXTS:
        raise ValueError(f"it holds text of type {kind}")
    suffix = {"<": "-le", ">": "-be"}[order] if kind in (4, 17, 18) else ""
    return str(content, TEXTS[kind] + suffix)


def _matrix(payload: memoryview, order: str, *, depth: int) -> Any:
    if not len(payload):
        return EMPTY
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    elements = _elements(payload, order)
    flags, *_ = _integers(_next(elements), order)
    dims = _integers(_next(elements), order)
    _next(elements)  # the name
    kind, count = flags & 0xFF, math.prod(dims)

    def inner() -> Any:
        kind, content = _next(elements)
        if kind != MATRIX:
            raise ValueError(f"it holds an element of type {kind} among its cells")
        return _matrix(content, order, depth=depth + 1)

    if kind in (CELL, STRUCT) and not 0 <= 8 * count <= len(payload):
        raise ValueError(f"it claims to hold {count} cells")
    if kind == CELL:
        return [inner() for _ in range(count)]
    if kind == STRUCT:
        fields = _field_names(elements, order)
        return [{field: inner() for field in fields} for _ in range(count)]
    if kind == CHAR:
        if count and dims[0] != 1:
            raise ValueError("it holds text of several rows")
        return _text(_next(elements), order) if count else ""
    if kind in ARRAYS and not flags & COMPLEX:
        return _numbers(_next(elements), order)
    raise ValueError(f"it holds an array of class {kind}")


def _field_names(elements: Iterator[Element], order: str) -> list[str]:
    width, *_ = _integers(_next(elements), order)
    names = bytes(_next(elements)[1])
    if width < 1:
        raise ValueError("its field names have no length")
    starts = range(0, len(names), width)
    return [names[start : start + width].split(b"\0")[0].decode() for start in starts]
