"""Are the image files of a dataset whole? Before training, a look at header and end of each.

Whole files of some formats end in a mark. Where it is not, as in a healthy file with something
behind the image, the image is decoded; of other formats the header alone is looked at.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from fgvc_jax.data import images
from fgvc_jax.data.files import Files
from fgvc_jax.data.records import Source, Subset
from fgvc_jax.utils.errors import UserError

# The mark, and how many bytes at the end of a file it is looked for in.
_MARKS = {
    "GIF": (b"\0;", 2),
    "JPEG": (b"\xff\xd9", 4096),
    "MPO": (b"\xff\xd9", 4096),
    "PNG": (b"IEND", 4096),
}
_BY_HEADER = "AVIF", "BMP", "HEIF", "JPEG2000", "PPM", "TIFF"  # which end in no mark


def check(
    parts: Sequence[Source],
    *,
    share: slice,
    threads: int,
    progress: Callable[[Iterable, int], Iterable],
) -> None:
    """Raise a UserError that lists the images of a dataset that are broken.

    Args:
        parts: of the dataset; what is kept in no files of its own is not looked at.
        share: of all images, those that this process looks at.
        threads: that read.
        progress: wraps the results as they come, with their number.
    """
    work = [(part, i) for part in parts for i in range(len(part))][share]
    with ThreadPoolExecutor(threads, thread_name_prefix="look") as pool:
        found = progress(pool.map(lambda item: _problem(*item), work), len(work))
        images.refuse([each for each in found if each is not None], sum(map(len, parts)))


def _problem(source: Source, index: int) -> UserError | None:
    while isinstance(source, Subset):
        index = int(source.indices[index])
        source = source.source
    if not isinstance(source, Files):
        return None
    try:
        if not _seems_whole(source.path(index)):
            images.read(source[index], orientation="stored")
    except UserError as error:
        return error
    return None


def _seems_whole(path: str) -> bool:
    """Whether header and end of a file are as they should be; what is not sure is no."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            with Image.open(file, formats=images.FORMATS) as image:
                format, (width, height), mode = image.format, image.size, image.mode
            if width * height > images.MAX_PIXELS or max(width, height) > images.MAX_SIDE:
                return False
            if mode in ("I", "F"):
                return False
            if format == "WEBP":
                file.seek(4)
                return int.from_bytes(file.read(4), "little") + 8 <= size
            if format in _BY_HEADER:
                return True
            mark, within = _MARKS[str(format)]
            file.seek(max(size - within, 0))
            return mark in file.read(within)
    except Exception:  # Pillow raises nearly anything on broken data; decoding says what it is
        return False
