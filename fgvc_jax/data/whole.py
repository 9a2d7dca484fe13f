"""Are the images of a dataset whole? Before training, a look at header and end of each.

Whole files of some formats end in a mark, others say how long they are. Where it is not so, as in a
healthy file with something behind the image, or where a file does not say, it is decoded.
"""

import io
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

from PIL import Image

from fgvc_jax.data import endless, formats, images
from fgvc_jax.data.files import Files
from fgvc_jax.data.records import Source, origin
from fgvc_jax.data.tfds import PreparedSplit
from fgvc_jax.utils.errors import UserError

# The mark, and how many bytes at the end of a file it is looked for in.
_MARKS = {
    "GIF": (b"\0;", 2),
    "JPEG": (b"\xff\xd9", 4096),
    "JPEG2000": (b"\xff\xd9", 4096),
    "MPO": (b"\xff\xd9", 4096),
    "PNG": (b"IEND", 4096),
}
_BITS = {"1": 1, "L": 8, "RGB": 24}  # of a pixel
_OFFSETS = (273, 279), (324, 325)  # TIFF's tags of where its strips or tiles begin, of their bytes
_COMPRESSION, _JPEG, _JPEG_TABLES = 259, 7, 347  # a tag, its value, and another tag of TIFF
_BOXES = 1000  # of a file that is made of them, at the most


def look(
    parts: Sequence[Source],
    *,
    share: slice,
    threads: int,
    progress: Callable[[Iterable, int], Iterable],
    orientation: images.Orientation = "stored",
    banner: int = images.OWN,
    suspects: Collection[str] = (),
) -> list[tuple[int, int, UserError]]:
    """The images of a dataset that are broken, or lack their box: (part, row, what is wrong).

    Args:
        parts: of the dataset; what is kept in no files of its own is not looked at.
        share: of all images, those that this process looks at.
        threads: that read.
        progress: wraps the results as they come, with their number.
        orientation: as images are shown, in which their boxes are.
        banner: likewise.
        suspects: names or files of images that could not be decoded before: they are now.
    """
    work = [(number, i) for number, part in enumerate(parts) for i in range(len(part))][share]

    def one(item: tuple[int, int]) -> UserError | None:
        number, index = item
        return _problem(parts[number], index, suspects, orientation, banner)

    with ThreadPoolExecutor(threads, thread_name_prefix="look") as pool:
        problems = progress(pool.map(one, work), len(work))
        return [(*item, told) for item, told in zip(work, problems, strict=True) if told]


def file_of(source: Source, index: int) -> str:
    """An image's file as messages name it; its name in the dataset where it has none."""
    source, index = origin(source, index)
    return source.path(index) if isinstance(source, Files) else source.names[index]


def _problem(
    source: Source,
    index: int,
    suspects: Collection[str],
    orientation: images.Orientation,
    banner: int,
) -> UserError | None:
    source, index = origin(source, index)
    try:
        if isinstance(source, Files):
            path = source.path(index)
            known = path in suspects or source.names[index] in suspects
            sure = not known and _file_seems_whole(path)
            boxed = source.boxes[index] is not None
            record = None if sure and not boxed else source[index]
        elif isinstance(source, PreparedSplit):
            record, boxed = source[index], False
            sure = _seems_whole(io.BytesIO(record["image"]))
        else:
            return None
        if record and not sure:  # the whole of it, whatever its box
            whole = {key: value for key, value in record.items() if key != "box"}
            images.read(whole, orientation="stored")
        if record and boxed:
            images.check_box(record, orientation=orientation, banner=banner)
    except UserError as error:
        return error
    return None


def _file_seems_whole(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return _seems_whole(file)
    except OSError:  # reading it says what it is
        return False


def _seems_whole(file: IO[bytes]) -> bool:
    """Whether header and end of a file are as they should be; what is not sure is no."""
    try:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        start = file.read(2)
        if endless.problem(start if start[:1] != b"P" else start + file.read(endless.MAX_HEADER)):
            return False
        file.seek(0)
        with Image.open(file, formats=formats.FORMATS) as image:
            format, (width, height), mode = image.format, image.size, image.mode
            if width * height > images.MAX_PIXELS or max(width, height) > images.MAX_SIDE:
                return False
            if mode in ("I", "F"):
                return False
            if format not in _MARKS:
                return _length(image, file, size) <= size
        mark, within = _MARKS[format]
        file.seek(max(size - within, 0))
        return mark in file.read(within)
    except Exception:  # Pillow raises nearly anything on broken data; decoding says what it is
        return False


def _length(image: Any, file: IO[bytes], size: int) -> int:
    """How many bytes an opened file of `size` bytes has at least when it is whole. Raises nearly
    anything where it does not say."""
    if image.format == "WEBP":
        file.seek(4)
        return 8 + int.from_bytes(file.read(4), "little")
    if image.format == "TIFF":
        tags = image.tag_v2
        if tags[_COMPRESSION] == _JPEG and _JPEG_TABLES not in tags:
            raise ValueError("its tables may be cut off")
        offsets, counts = next(names for names in _OFFSETS if names[0] in tags)
        return max(map(sum, zip(tags[offsets], tags[counts], strict=True)))
    if image.format in ("BMP", "PPM"):
        ((decoder, (_, _, width, height), offset, args),) = image.tile
        if decoder != "raw":
            raise ValueError("it is compressed")
        row = args[1] if image.format == "BMP" else (width * _BITS[image.mode] + 7) // 8
        return offset + row * height
    end = 0
    for _ in range(_BOXES):  # AVIF and HEIF: 4 bytes of length, 4 of a name, content
        if end >= size:
            return end
        file.seek(end)
        head = file.read(16)
        length = int.from_bytes(head[8:] if head[:4] == b"\0\0\0\1" else head[:4], "big")
        if not length:  # to the end of the file
            return size
        end += length
    raise ValueError("it has no end")
