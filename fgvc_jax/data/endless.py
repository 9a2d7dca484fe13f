"""Image files that are small and whole, and take minutes to decode: what decoders do not bound."""

import re
from collections.abc import Iterator
from itertools import islice

MAX_SCANS = 100  # of a JPEG; progressive ones have about ten, and each takes as long as the image
MAX_HEADER = 2**16  # bytes of a PPM before its pixels; Pillow reads them one by one
_SCAN, _END = 0xDA, 0xD9
_PROGRESSIVE = 0xC2, 0xC6, 0xCA, 0xCE
_FRAMES = 0xC0, 0xC1, 0xC3, 0xC5, 0xC7, 0xC9, 0xCB, 0xCD, 0xCF, *_PROGRESSIVE
# In a scan a byte 255 is followed by 0, or by what is no marker of a segment.
_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])")
_PPM = re.compile(rb"P[0-9A-Za-z]{1,6}[\s#]")
_COMMENT = re.compile(rb"#[^\r\n]*")


def problem(data: bytes) -> str:
    """Why a file would take far longer than its size and pixels say, as it goes on after its name;
    "" where it would not."""
    if data.startswith(b"\xff\xd8"):
        if sum(1 for _ in islice(_scans(data), MAX_SCANS + 1)) > MAX_SCANS:
            return f"has more than {MAX_SCANS} scans"
    elif _PPM.match(data) and len(data) > MAX_HEADER:
        words = _COMMENT.sub(b"", data[:MAX_HEADER]).split(maxsplit=3)
        if len(words) < (3 if data[1:2] in b"14" else 4):  # the magic, the sides, the largest value
            return f"has a header of more than {MAX_HEADER:,} bytes"
    return ""


def _scans(data: bytes) -> Iterator[int]:
    """Where the scans of the first image in a JPEG begin, one by one. What is no progressive one
    and has all parts in its first scan, as most photographs, has no other: it is not searched."""
    place, parts, several = 2, b"", False
    while (marker := _MARKER.search(data, place)) and marker[1][0] != _END:
        place, kind = marker.end(), marker[1][0]
        if kind in _FRAMES:
            parts, several = data[place + 7 : place + 8], kind in _PROGRESSIVE
        elif kind == _SCAN:
            yield place
            several = several or data[place + 2 : place + 3] != parts
            if not several:
                return
        place += int.from_bytes(data[place : place + 2])
