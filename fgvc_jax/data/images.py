"""From a record to a square of RGB pixels."""

import hashlib
import io
import math
import os
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from PIL import ExifTags, Image, JpegImagePlugin, PngImagePlugin, features

from fgvc_jax.data import endless
from fgvc_jax.data.formats import FORMATS, pi_heif, what_else
from fgvc_jax.data.framing import FILL, Edges, Fit, fitted, inside_box
from fgvc_jax.utils.errors import UserError

MAX_PIXELS = 80_000_000  # 240 MB as RGB; below the size at which Pillow itself starts to warn
LISTED = 30  # images that cannot be used, in a message
MAX_BYTES = 2**29  # more than the largest 16-bit RGB image below that size has
OWN = -1  # banner: what each record has of one
MAX_SIDE = 65_535  # as in JPEG; resizing needs memory in proportion to the longer side

# Healthy photographs have megabytes of it (an editor's history); Pillow bounds the sum, too.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY

# Pillow warns above its own limit, which is higher: such an image is refused here.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# What of a damaged header matters is raised, and told with the image's name.
warnings.filterwarnings("ignore", category=UserWarning, module="PIL.TiffImagePlugin")

Orientation = Literal["exif", "stored"]
Decoding = Literal["exact", "scaled"]
SCALES = 8, 4, 2  # so many times smaller a JPEG can be decoded
SPARE = 2  # pixels that are left of a scaled one for each that is asked for
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # what undoes each value of the EXIF tag
_RIGHT_TO_LEFT, _BOTTOM_TO_TOP = (2, 3, 6, 7), (3, 4, 7, 8)  # edges of what these put where


class Broken(UserError):
    """Images that cannot be used; `names` as messages have them, `errors` one for each."""

    def __init__(self, message: str, names: Iterable[str], errors: Iterable["Broken"] = ()):
        super().__init__(message)
        self.names = tuple(names)
        self.errors = tuple(errors) or (self,)


class Unreadable(Broken):
    """An image that cannot be used. The message is its name, then `problem`, as "has 3 x 70000
    pixels", then `advice`, where {} stands for what else can be done: only a record with a label is
    part of a dataset."""

    def __init__(self, record: dict[str, Any], problem: str, advice: str = "repair it or {}"):
        without = "remove it from the dataset" if "label" in record else "leave it out"
        told = f"image {record['name']!r} {problem}: {advice.format(without)}"
        super().__init__(told, [record["name"]])
        self.problem = problem


class Picture(NamedTuple):
    """An image upright and in RGB, perhaps at a fraction of its size: of the whole, of (width,
    height) `size`, column x is at `left + x / scale`, and row y at `top + y / scale`."""

    image: Image.Image
    size: tuple[int, int]
    scale: int = 1
    left: float = 0.0
    top: float = 0.0


def decode(
    record: dict[str, Any],
    size: int,
    *,
    orientation: Orientation,
    banner: int = OWN,
    decoding: Decoding = "exact",
    margin: float = 0.0,
    fit: Fit = "squash",
    fill: tuple[int, int, int] = FILL,
) -> np.ndarray:
    """The record's image, resized to a square: (size, size, 3) uint8, RGB.

    Encoded images may be any of `FORMATS` (of several frames the first); one that was opened with
    Pillow gives the same as its file. They become RGB as under
    torchvision's ImageFolder, so that results are comparable with published ones: palettes and
    CMYK are converted, an alpha channel is dropped. 16-bit gray is scaled to 8 bits (where
    torchvision clips). With orientation "exif" a photograph is turned as its EXIF tag says; with
    "stored" it is not, as under torchvision (but Pillow itself turns TIFF). The `banner`, so many
    rows at the bottom, is cut: with `OWN` the record's own `crop_bottom`. Of a record with a "box"
    (`framing.Box`) only that is shown, and `margin` of its sides on every side. Then the image is
    resized, bilinear with antialiasing (Pillow's BILINEAR): with fit "squash" without keeping its
    aspect; with "crop" its shorter side to the square, whose middle is cut out (torchvision's
    Resize and CenterCrop); with "pad" its longer side, beside which is the colour `fill` (Pillow's
    ImageOps.pad). An array that is already (size, size, 3) uint8 is returned as it is.

    With decoding "scaled" a JPEG is decoded at the smallest of 1/2, 1/4 and 1/8 that leaves `SPARE`
    times the size that it is resized to, by fewer frequencies of its cosine transform, which takes
    a fraction of the time; of a smaller one every bit is as before. An opened image is read anew
    for that, so that it stays the caller's; once its pixels were loaded, or its `draft` was called,
    it is taken as it is.

    Raises UserError that names the record if the image is broken, of another format, or has more
    than `MAX_PIXELS` pixels or `MAX_SIDE` rows or columns; the size is checked before decoding.
    """
    image, cut = record["image"], record.get("crop_bottom", 0) if banner == OWN else banner
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise Unreadable(record, f"is an array {image.dtype}{image.shape}, not uint8 (H, W, 3)")
        if image.shape[:2] == (size, size) and not cut and "box" not in record:
            return image
        picture = Picture(Image.fromarray(image), (image.shape[1], image.shape[0]))
    else:

        def spare(width: int, height: int) -> float:
            left, top, right, bottom = _edges(record, (width, height), margin, cut)
            decisive = max if fit == "pad" else min
            return decisive(right - left, bottom - top) / (SPARE * size)

        picture = _read(record, orientation, spare if decoding == "scaled" else None)
    edges = _edges(record, picture.size, margin, cut)
    shown, (width, height), scale, left, top = picture
    if cut:
        # A crop of its own: resize(box=...) would let the filter reach into what is cut off. In a
        # scaled image the strip may begin within a row, which the one above it stands in for.
        bottom = top + (height - cut) / scale
        last = shown.crop((0, int(bottom) - 1, shown.width, int(bottom)))
        shown = shown.crop((0, 0, shown.width, math.ceil(bottom)))
        shown.paste(last, (0, int(bottom)))
    across, down = ([edge / scale for edge in edges[axis::2]] for axis in (0, 1))
    scaled = left + across[0], top + down[0], left + across[1], top + down[1]
    return np.asarray(fitted(shown, scaled, size, fit, fill))


def _edges(record: dict[str, Any], size: tuple[int, int], margin: float, cut: int) -> Edges:
    """What of an image of (width, height) pixels is shown, see `decode`."""
    width, height = size
    if cut >= height:
        raise Unreadable(record, f"is {height} rows high, and {cut} are to be cut off")
    if "box" not in record:
        return 0.0, 0.0, float(width), float(height - cut)
    try:
        return inside_box(record["box"], size, margin, cut)
    except ValueError as error:
        box = ",".join(f"{number:.6g}" for number in record["box"][:4])
        raise Unreadable(record, f"has the box {box}, which {error}", "correct the box") from error


Photograph = str | os.PathLike[str] | Image.Image | np.ndarray  # of uint8, (H, W, 3)
Several = Photograph | Iterable[Photograph]  # one of them, or any number


def one_by_one(images: Several) -> Iterator[Photograph]:
    """The images that somebody gave: one, an array (B, H, W, 3) of them, or what gives them."""
    one = isinstance(images, (str, os.PathLike, Image.Image)) or getattr(images, "ndim", 4) != 4
    return iter((cast(Photograph, images),) if one else cast(Iterable[Photograph], images))


def record_of(image: Photograph) -> dict[str, Any]:
    """The record of a path, a PIL image or an (H, W, 3) uint8 array, to `decode`.

    Raises UserError for a path that no regular file of at most `MAX_BYTES` can be read from.
    """
    if isinstance(image, Image.Image):
        return {"image": image, "name": getattr(image, "filename", "") or "image"}
    if isinstance(image, np.ndarray):
        return {"image": image, "name": "array"}
    path = os.fspath(image)
    try:
        # Whoever opened a pipe without O_NONBLOCK would wait for somebody to write to it.
        with open(os.open(os.path.expanduser(path), os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"cannot read image {path!r}: it is no regular file")
            if status.st_size > MAX_BYTES:
                raise UserError(
                    f"cannot read image {path!r}: it has {status.st_size:,} bytes, more than "
                    f"{MAX_BYTES:,}"
                )
            return {"image": file.read(), "name": path}
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read image {path!r}: {reason}") from error


def decoders() -> list[str | None]:
    """What decides, beside a file and how it is read, on the last bit of a square: the versions of
    Pillow and of what it decodes photographs with."""
    jpeg = features.version_codec("jpg"), features.version_feature("libjpeg_turbo")
    return [Image.__version__, *jpeg, pi_heif and pi_heif.__version__]


def content_digest(image: bytes | np.ndarray) -> bytes:
    """SHA-256 of a record's image: of the encoded bytes, or of an array's type, shape and bytes."""
    if isinstance(image, np.ndarray):
        header = f"{image.dtype.str} {image.shape} ".encode()
        return hashlib.sha256(header + np.ascontiguousarray(image).tobytes()).digest()
    return hashlib.sha256(image).digest()


def read(record: dict[str, Any], *, orientation: Orientation) -> Image.Image:
    """The record's image, encoded or opened, in its own size, in RGB; of one with a box what is
    inside. See `decode` for what is refused."""
    image = _read(record, orientation, None).image
    if "box" not in record:
        return image
    left, top, right, bottom = _edges(record, image.size, 0.0, 0)
    return image.crop((int(left), int(top), math.ceil(right), math.ceil(bottom)))


def check_box(record: dict[str, Any], *, orientation: Orientation, banner: int = OWN) -> None:
    """Raise UserError where the box of an encoded image is outside of it; only its header is
    looked at."""
    cut = record.get("crop_bottom", 0) if banner == OWN else banner
    with Image.open(io.BytesIO(record["image"]), formats=FORMATS) as image:
        size = _turned(*image.size, _turn(image, orientation))
    _edges(record, size, 0.0, cut)


# Of a photograph of this width and height, how many times smaller is still large enough.
_Spare = Callable[[int, int], float]


def _read(record: dict[str, Any], orientation: Orientation, spare: _Spare | None) -> Picture:
    """As `read`, but a JPEG at a fraction of its size, where there is something to spare."""
    image = record["image"]
    try:
        if spare and isinstance(image, Image.Image):
            image = _encoded(image) or image
        if isinstance(image, Image.Image):
            return _upright(record, image, orientation, None)
        if slow := endless.problem(image):
            raise Unreadable(record, slow)
        with Image.open(io.BytesIO(image), formats=FORMATS) as opened:
            return _upright(record, opened, orientation, spare)
    except Image.DecompressionBombError as error:
        raise Unreadable(record, f"has more than {MAX_PIXELS:,} pixels", _SMALLER) from error
    except Image.UnidentifiedImageError as error:
        raise Unreadable(record, *what_else(image)) from error
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on broken data
        reason = " ".join(str(error).split()) or type(error).__name__
        if reason.startswith("image file is truncated"):
            again = "copy it again, repair it or {}"
            raise Unreadable(record, "is cut off, its end is missing", again) from error
        raise Unreadable(record, f"cannot be decoded ({reason})") from error


def _encoded(image: Image.Image) -> bytes | None:
    """The file of a JPEG that was opened and of which nothing was loaded or changed yet."""
    if not (isinstance(image, JpegImagePlugin.JpegImageFile) and image.tile and image.fp):
        return None
    place = image.fp.tell()
    image.fp.seek(0)
    data = image.fp.read()
    image.fp.seek(place)
    with Image.open(io.BytesIO(data), formats=FORMATS) as again:
        same = (again.size, again.mode, again.tell()) == (image.size, image.mode, image.tell())
    return data if same else None


def _upright(
    record: dict[str, Any], image: Image.Image, orientation: Orientation, spare: _Spare | None
) -> Picture:
    _check_size(record, *image.size)
    (width, height), scale = image.size, 1
    if spare and isinstance(image, JpegImagePlugin.JpegImageFile):
        width, height = _turned(width, height, _turn(image, orientation))
        scale = next((scale for scale in SCALES if scale <= spare(width, height)), 1)
        image.draft(None, (image.width // scale, image.height // scale))
    picture = _rgb(record, image)  # first, since Pillow turns TIFF while it loads it
    turn = _turn(image, orientation)
    picture = picture.transpose(TURNS[turn]) if turn else picture
    if scale == 1:
        return Picture(picture, picture.size)
    # Where its size is no multiple, the last column and row of what was decoded are partly empty.
    left = picture.width - width / scale if turn in _RIGHT_TO_LEFT else 0.0
    top = picture.height - height / scale if turn in _BOTTOM_TO_TOP else 0.0
    return Picture(picture, (width, height), scale, left, top)


def _turn(image: Image.Image, orientation: Orientation) -> int:
    """The EXIF tag's value where it is one of `TURNS` that is to be undone, else 0."""
    value = exif_orientation(image) if orientation == "exif" else None
    return value if value in TURNS else 0


def _turned(width: int, height: int, turn: int) -> tuple[int, int]:
    return (width, height) if turn < 5 else (height, width)


def _check_size(record: dict[str, Any], width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        size = f"has {width} x {height} pixels, more than {MAX_PIXELS:,}"
        raise Unreadable(record, size, _SMALLER)
    if max(width, height) > MAX_SIDE:
        size = f"has {width} x {height} pixels, a side above {MAX_SIDE:,}"
        raise Unreadable(record, size, _SMALLER)


_SMALLER = "make it smaller or {}"


def refuse(errors: Sequence[UserError], count: int) -> None:
    """Raise one error that lists all that is wrong with some of so many images; nothing where
    nothing is."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        known = [each for each in errors if isinstance(each, Broken)]
        names = [name for each in known for name in each.names]
        raise Broken(in_one_line(list(map(str, errors)), count), names, known)


def in_one_line(problems: Sequence[str], count: int) -> str:
    """What is wrong with some of so many images, in one line."""
    if len(problems) == 1:
        return problems[0]
    more = f"; and {len(problems) - LISTED:,} more" if len(problems) > LISTED else ""
    some = "; ".join(problems[:LISTED])
    return f"{len(problems):,} of {count:,} images cannot be used: {some}{more}"


def exif_orientation(image: Image.Image) -> Any:
    """The EXIF tag's value, None where there is none; a broken tag turns nothing."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Pillow's parser raises nearly anything on broken data
        return None


def is_deep(image: Image.Image) -> bool:
    """Whether it has 16 bits of gray, which become 8."""
    # Pillow scales 16-bit PGM to 0..65535 and calls it "I".
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")


def _rgb(record: dict[str, Any], image: Image.Image) -> Image.Image:
    if is_deep(image):
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise Unreadable(record, f"has pixels of mode {image.mode!r}, whose range is unknown")
    seen_through = isinstance(image.info.get("transparency"), bytes)  # Pillow warns of a palette's
    return (image.convert("RGBA") if seen_through else image).convert("RGB")
