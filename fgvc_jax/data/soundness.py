"""Is a dataset fit to train on? What every image says of itself, and what that says of the set."""

import io
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image
from scipy.fft import dct
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fgvc_jax.data.files import Files
from fgvc_jax.data.images import (
    FORMATS,
    TURNS,
    Orientation,
    content_digest,
    exif_orientation,
    is_deep,
    read,
)
from fgvc_jax.data.names import confused
from fgvc_jax.data.records import Source, Splits
from fgvc_jax.data.whole import origin
from fgvc_jax.utils.errors import UserError

TINY = 64  # pixels of the shorter side
ASPECT = 3.0  # of the sides: images are resized to a square
FLAT = 4.0  # standard deviation of the brightness, of 255
DARK = 32  # brightness that 98 % of the pixels stay below
HASH_SIDE = 16  # so that a perceptual hash has 256 bits
# Of 4.5 million pairs of different photographs of birds none is nearer than 40 bits; 97 % of those
# resized, compressed again or made brighter are within 16, those cropped by 3 % half within 38.
NEAR = 40
BLOCK_BYTES = 2**26  # of distances computed at a time

NOTHING = "nan", "none", "null", "na", "n/a"  # as names of classes, in small letters

Level = Literal["stops", "look", "note"]

LONG_TAIL = 10  # the largest class has so many times the images of the smallest


@dataclass(frozen=True)
class ImageFacts:
    """What one image says of itself; `problem` tells why it cannot be read, "" if it can."""

    part: str
    index: int  # in its part
    name: str
    label: int
    content: bytes = b""  # SHA-256, and the box that is meant
    problem: str = ""
    size: tuple[int, int] = (0, 0)  # width, height
    remarks: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()  # those of the remarks by which it shows nothing
    turned: bool = False  # by its EXIF tag
    bits: np.ndarray | None = None  # (HASH_SIDE**2,) bool; None for what shows nothing


@dataclass(frozen=True)
class Finding:
    """Something about the dataset that its owner should know.

    level: "stops" training; worth a "look"; a "note".
    groups: the images concerned, those that belong together side by side.
    lines: what concerns no image.
    """

    level: Level
    title: str
    advice: str
    groups: Sequence[Sequence[ImageFacts]] = ()
    lines: Sequence[str] = ()

    @property
    def count(self) -> int:
        return len(self.groups) + len(self.lines)


def own_size(record: dict[str, Any], *, orientation: Orientation) -> Image.Image:
    """A record's image in its own size, whether it comes encoded or as an array."""
    if isinstance(record["image"], np.ndarray):
        return Image.fromarray(record["image"])
    return read(record, orientation=orientation)


def examine(source: Source, index: int, *, part: str, orientation: Orientation) -> ImageFacts:
    """Read one image to its last pixel."""
    who = ImageFacts(part, index, source.names[index], int(source.labels[index]))
    try:
        record = source[index]
        box = str(record.get("box", "")).encode()
        content = content_digest(record["image"]) + box
        picture = own_size(record, orientation=orientation)
        remarks: tuple[str, ...] = ()
        turned = False
        if isinstance(record["image"], bytes):
            with Image.open(io.BytesIO(record["image"]), formats=FORMATS) as image:
                remarks = ("16 bits a pixel, of which 8 are kept",) if is_deep(image) else ()
                turned = exif_orientation(image) in TURNS
    except UserError as error:
        return replace(who, problem=str(error))
    gray = picture.convert("L").resize((128, 128), Image.Resampling.BILINEAR)
    brightness = np.asarray(gray)
    flat = brightness.std() < FLAT
    doubts = tuple(_doubts(picture.size, brightness))
    return replace(
        who,
        content=content,
        size=picture.size,
        remarks=(*doubts, *_shape(picture.size), *remarks),
        doubts=doubts,
        turned=turned,
        bits=None if flat else perceptual_hash(gray),
    )


def perceptual_hash(gray: Image.Image) -> np.ndarray:
    """What a picture looks like from afar, in bits that resizing, compression and light hardly
    change: which of the lowest frequencies of its cosine transform are above their median.

    Krawetz, "Looks like it", 2011; the bits are those of ImageHash 4.3's `phash`.

    Args:
        gray: of mode L.

    Returns:
        (HASH_SIDE**2,) bool.
    """
    side = 4 * HASH_SIDE
    small = np.asarray(gray.resize((side, side), Image.Resampling.LANCZOS))
    lowest = dct(dct(small, axis=0), axis=1)[:HASH_SIDE, :HASH_SIDE]
    return (lowest > np.median(lowest)).ravel()


def _doubts(size: tuple[int, int], brightness: np.ndarray) -> Iterator[str]:
    if min(size) < TINY:
        yield f"tiny: {size[0]} x {size[1]} pixels"
    if brightness.std() < FLAT:
        yield "uniform"
    elif np.percentile(brightness, 98) < DARK:
        yield "almost black"


def _shape(size: tuple[int, int]) -> Iterator[str]:
    if max(size) > ASPECT * min(size):
        yield f"{size[0]} x {size[1]} pixels, squeezed to a square"


def examine_all(
    splits: Splits, *, threads: int, progress: Callable[[Iterable], Iterable]
) -> list[ImageFacts]:
    """Every image of every part, in order; `progress` wraps the results as they come."""
    work = [(part, i) for part, source in splits.parts.items() for i in range(len(source))]

    def one(item: tuple[str, int]) -> ImageFacts:
        part, index = item
        source = splits.parts[part]
        return examine(source, index, part=part, orientation=splits.orientation)

    with ThreadPoolExecutor(threads, thread_name_prefix="examine") as pool:
        return list(progress(pool.map(one, work)))


def counts(splits: Splits) -> dict[str, np.ndarray]:
    """Images of each class, (K,) by part."""
    return {
        part: np.bincount(source.labels, minlength=len(splits.classes))
        for part, source in splits.parts.items()
    }


def findings(
    splits: Splits, pictures: Sequence[ImageFacts], *, few: int, stops: str = ""
) -> list[Finding]:
    """All that is to be said of the images, the worst first; classes of fewer than `few` training
    images are named. `stops` is why training refuses those that cannot be read; empty where it
    does without them."""
    found = [
        *_of_files(pictures, splits.orientation, stops),
        *_of_copies(same_bytes(pictures), exact=True),
        *_of_copies(near(pictures), exact=False),
        *_of_classes(splits, few),
        *_of_names(splits, pictures),
    ]
    return ranked(found)


def ranked(found: Iterable[Finding]) -> list[Finding]:
    """The findings that there are, the worst first."""
    order = ("stops", "look", "note")
    return sorted((one for one in found if one.count), key=lambda one: order.index(one.level))


def _of_files(pictures: Sequence[ImageFacts], orientation: str, stops: str) -> Iterator[Finding]:
    yield Finding(
        "stops" if stops else "look",
        "Files that cannot be read",
        f"Training would stop: {stops}."
        if stops
        else "Training leaves these few out and says so: fetch them again, or remove them.",
        lines=[picture.problem for picture in pictures if picture.problem],
    )
    yield Finding(
        "look",
        "Files that may not be what they should",
        "They train, but there may be little to learn from them.",
        [[picture] for picture in pictures if picture.remarks],
    )
    applied = orientation == "exif"
    yield Finding(
        "note",
        "Photographs turned by EXIF" if applied else "Photographs whose EXIF tag turns them",
        "They are turned upright as the tag says."
        if applied
        else "This dataset is read as published, so that they are shown as stored.",
        [[picture] for picture in pictures if picture.turned],
    )


def same_bytes(pictures: Sequence[ImageFacts]) -> list[list[ImageFacts]]:
    """Readable images grouped by their bytes; two at least."""
    groups: dict[bytes, list[ImageFacts]] = {}
    for picture in pictures:
        if not picture.problem:
            groups.setdefault(picture.content, []).append(picture)
    return [group for group in groups.values() if len(group) > 1]


def near(pictures: Sequence[ImageFacts]) -> list[list[ImageFacts]]:
    """Images that look alike though their bytes differ: connected within `NEAR` bits."""
    known = [(picture, picture.bits) for picture in pictures if picture.bits is not None]
    if not known:
        return []
    signs = np.where(np.stack([bits for _, bits in known]), 1, -1).astype(np.float32)
    count, width = signs.shape
    rows, columns = [], []
    block = max(BLOCK_BYTES // (4 * count), 1)
    for start in range(0, count, block):
        # Of two rows of signs, the product is width - 2 * (bits that differ).
        agreement = signs[start : start + block] @ signs[start:].T
        row, column = np.nonzero(agreement >= width - 2 * NEAR)
        later = column > row
        rows.append(row[later] + start)
        columns.append(column[later] + start)
    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(len(row), bool), (row, column)), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    groups: dict[int, list[ImageFacts]] = {}
    for (picture, _), number in zip(known, component, strict=True):
        groups.setdefault(int(number), []).append(picture)
    return [group for group in groups.values() if len({one.content for one in group}) > 1]


def _of_copies(groups: Sequence[Sequence[ImageFacts]], *, exact: bool) -> Iterator[Finding]:
    how = "The same picture" if exact else "Nearly the same picture"

    def several(field: str) -> list[Sequence[ImageFacts]]:
        return [group for group in groups if len({getattr(one, field) for one in group}) > 1]

    across_parts, across_labels = several("part"), several("label")
    yield Finding(
        "look",
        f"{how} in several parts",
        "What is judged was trained on, so that accuracies are too good: remove one of each"
        + (
            "."
            if exact
            else ", or give the photographs of one individual, site or burst the same group in a "
            "csv: list, which keeps them in one part."
        ),
        across_parts,
    )
    yield Finding(
        "look",
        f"{how} under several labels",
        "At most one of the labels is right: remove the others.",
        across_labels,
    )
    known = {id(group) for group in (*across_parts, *across_labels)}
    yield Finding(
        "note",
        f"{how} twice in a class",
        "It counts double there; keep copies in one part when you split.",
        [group for group in groups if id(group) not in known],
    )


def _of_classes(splits: Splits, few: int) -> Iterator[Finding]:
    number = counts(splits)
    trained = zip(splits.classes, number["train"], strict=True)
    lines = [f"{name}: {n:,} to train on" for name, n in trained if n < few]
    yield Finding(
        "look",
        f"Classes with fewer than {few} training images",
        "Little can be learned of them: add images, or leave the classes out.",
        lines=lines,
    )
    least, most = int(number["train"].min()), int(number["train"].max())
    if most >= LONG_TAIL * max(least, 1):
        yield Finding(
            "note",
            "Some classes have many more images than others",
            "Answers will favour them. Training by steps (--objective ce) can favour none: try "
            "--ce.logit-adjustment 1, or --ce.class-weights effective, and compare the accuracy "
            "on classes of few images in the results.",
            lines=[f"{least:,} to {most:,} training images a class"],
        )
    without = {
        "validation": "They have no say in which epoch is selected: add images to that part.",
        "test": "They are trained but never judged: add images to that part.",
    }
    for part, advice in without.items():
        if part in number:
            names = [splits.classes[label] for label in np.flatnonzero(number[part] == 0)]
            yield Finding("look", f"Classes without {part} images", advice, lines=names)


def _of_names(splits: Splits, pictures: Sequence[ImageFacts]) -> Iterator[Finding]:
    lowered = Counter(picture.name.casefold() for picture in pictures)
    yield Finding(
        "look",
        "Odd names",
        "They work here, but may not on another system or in a table: rename them.",
        lines=[
            *(f'class "{name}": {odd}' for name in splits.classes for odd in _oddities(name)),
            *(
                f"classes {_quoted(names)}: one class under several names?"
                for names in confused(splits.classes)
            ),
            *(
                f'image "{picture.name}": {odd}'
                for picture in pictures
                for odd in _oddities(picture.name.rpartition("/")[2])
            ),
            *(
                f'image "{picture.name}": differs from another only in upper and lower case'
                for picture in pictures
                if lowered[picture.name.casefold()] > 1
            ),
            *(
                f'folder or file "{name}": accents stored apart from their letters'
                for name in _stored_apart(splits)
            ),
        ],
    )


def _quoted(names: Iterable[str]) -> str:
    return " and ".join(f'"{name}"' for name in names)


def _oddities(name: str) -> Iterator[str]:
    if name.casefold() in NOTHING:
        yield "what programs write where there is no value"
    if not name.isprintable():
        yield "invisible or control characters"
    if name != name.strip():
        yield "begins or ends with a space"


def _stored_apart(splits: Splits) -> Iterable[str]:
    """Names of folders and files whose accents the disk has apart: those of the dataset, which both
    forms are one of, do not tell."""
    origins = (origin(part, row) for part in splits.parts.values() for row in range(len(part)))
    files = (source.places[row] for source, row in origins if isinstance(source, Files))
    return dict.fromkeys(
        step
        for file in files
        if not unicodedata.is_normalized("NFC", file)
        for step in file.split("/")
        if not unicodedata.is_normalized("NFC", step)
    )
