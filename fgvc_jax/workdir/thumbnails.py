"""Small pictures of a part's images, kept beside what members answered for them.

    predictions/test-0123456789abcdef/thumbnails.npy    (bytes,) uint8

The file begins with N + 1 int64 offsets; picture i is what lies between the i-th and the next. It
is a WebP (a JPEG where Pillow knows no WebP) of the square that members see before it is cropped.
All pictures of a part together stay within `BUDGET`, or what is said instead.
"""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, TypeVar

import jax
import numpy as np
from PIL import Image

from fgvc_jax.data.formats import FORMATS
from fgvc_jax.workdir import storage

Batch = TypeVar("Batch", bound=Mapping[str, Any])  # of images on the devices

BUDGET = 64 * 2**20  # bytes of a file
SIDES = 16, 160  # pixels, the smallest and the largest
BYTES_PER_PIXEL = 0.25  # of most photographs at the first quality
QUALITIES = 75, 40, 15
SMALLEST = 4  # pixels of a side; below, there is no picture
WAITING = 8  # batches that may wait to be encoded
HEADER = 4096  # bytes, more than that of any .npy file


def path(folder: Path) -> Path:
    """Where a part's thumbnails are, or would be."""
    return folder / "thumbnails.npy"


def bytes_each(count: int, budget: int = BUDGET) -> int:
    """Bytes that each of so many pictures may take of a file's."""
    return max(budget - HEADER - 8 * (count + 1), 0) // count


def side(count: int, most: int, budget: int = BUDGET) -> int:
    """Pixels of the side of so many pictures, made from squares of `most` pixels."""
    smallest, largest = SIDES
    fitting = int((bytes_each(count, budget) / BYTES_PER_PIXEL) ** 0.5)
    return min(max(fitting, smallest), largest, most)


def encode(image: np.ndarray, most: int) -> bytes:
    """A picture in at most so many bytes: of less quality, then smaller, then none (empty)."""
    picture = Image.fromarray(image)
    while min(picture.size) >= SMALLEST:
        for quality in QUALITIES:
            file = io.BytesIO()
            picture.save(file, "WEBP" if "WEBP" in FORMATS else "JPEG", quality=quality)
            if file.tell() <= most:
                return file.getvalue()
        picture = picture.reduce(2)
    return b""


class Collector(Generic[Batch]):
    """Makes thumbnails of the images of a pass over a part, beside it.

    Args:
        count: number of images.
        shrink: batch -> {"image": (B, s, s, 3) uint8, "row", "mask"} (`passes.shrink_pass`).
        threads: that encode.
        budget: bytes of the file.
    """

    def __init__(
        self, count: int, shrink: Callable[[Batch], dict], threads: int, budget: int = BUDGET
    ):
        self._pictures = [b""] * count
        self._share = bytes_each(count, budget)
        self._shrink = shrink
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="thumbnails")
        self._waiting: deque[list[Future]] = deque()

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches, as they are; every process must take them, the first one keeps."""
        small = None
        for batch in batches:
            earlier, small = small, self._shrink(batch)
            self._add(earlier)
            yield batch
        self._add(small)

    def _add(self, small: dict[str, jax.Array] | None) -> None:
        if small is None or jax.process_index() > 0:
            return
        small = jax.device_get(small)
        rows = zip(small["row"], small["image"], small["mask"], strict=True)
        self._waiting.append(
            [self._pool.submit(self._keep, row, image) for row, image, real in rows if real]
        )
        while len(self._waiting) > WAITING:
            self._finish_one()

    def _keep(self, row: int, image: np.ndarray) -> None:
        self._pictures[row] = encode(image, self._share)

    def _finish_one(self) -> None:
        for future in self._waiting.popleft():
            future.result()

    def write(self, path: Path) -> None:
        """Keep them in a file."""
        while self._waiting:
            self._finish_one()
        self._pool.shutdown()
        offsets = np.zeros(len(self._pictures) + 1, np.int64)
        np.cumsum([len(picture) for picture in self._pictures], out=offsets[1:])
        offsets += offsets.nbytes
        together = offsets.tobytes() + b"".join(self._pictures)
        storage.write_array(path, np.frombuffer(together, np.uint8))


class Thumbnails:
    """The kept pictures of a part of so many images: `thumbnails[i]` is an encoded one, empty where
    there was no space for it.

    Raises FileNotFoundError where none are kept, ValueError where the file is damaged.
    """

    def __init__(self, folder: Path, count: int):
        self._bytes = storage.map_array(path(folder))
        self._offsets = np.frombuffer(self._bytes[: 8 * (count + 1)].tobytes(), np.int64)
        if len(self._offsets) != count + 1 or self._offsets[-1] != len(self._bytes):
            raise ValueError("it is of other images")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        return self._bytes[self._offsets[index] : self._offsets[index + 1]].tobytes()
