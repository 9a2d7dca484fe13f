"""From a record to a square of RGB pixels."""

import io
from typing import Any

import numpy as np
from PIL import Image

from fgvc_jax.errors import UserError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
MAX_PIXELS = 80_000_000  # 240 MB as RGB; below the size at which Pillow itself starts to warn
MAX_SIDE = 65_535  # as in JPEG; resizing needs memory in proportion to the longer side


def decode(record: dict[str, Any], size: int) -> np.ndarray:
    """The record's image, resized to a square: (size, size, 3) uint8, RGB.

    Encoded images may be any of `FORMATS` (of several frames the first). They become RGB as under
    torchvision's ImageFolder, so that results are comparable with published ones: palettes and
    CMYK are converted, an alpha channel is dropped, an EXIF orientation is not applied. 16-bit gray
    is scaled to 8 bits (where torchvision clips). The record's `crop_bottom` rows are cut, then the
    image is resized without keeping its aspect, bilinear with antialiasing (Pillow's BILINEAR). An
    array that is already (size, size, 3) uint8 is returned as it is.

    Raises UserError that names the record if the image is broken, of another format, or has more
    than `MAX_PIXELS` pixels or `MAX_SIDE` rows or columns; the size is checked before decoding.
    """
    image, crop_bottom = record["image"], record.get("crop_bottom", 0)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise _error(record, f"is an array {image.dtype}{image.shape}, not uint8 (H, W, 3)")
        if image.shape[:2] == (size, size) and not crop_bottom:
            return image
        picture = Image.fromarray(image)
    else:
        picture = _read(record)
    width, height = picture.size
    if crop_bottom >= height:
        raise _error(record, f"is {height} rows high, and {crop_bottom} are to be cut off")
    # A crop of its own: resize(box=...) would let the filter reach into what is cut off.
    picture = picture.crop((0, 0, width, height - crop_bottom)) if crop_bottom else picture
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))


def _error(record: dict[str, Any], problem: str) -> UserError:
    return UserError(f"image {record['name']!r} {problem}: repair it or remove it from the dataset")


def _read(record: dict[str, Any]) -> Image.Image:
    try:
        with Image.open(io.BytesIO(record["image"]), formats=FORMATS) as image:
            _check_size(record, *image.size)
            return _rgb(record, image)
    except Image.DecompressionBombError as error:
        raise _error(record, f"has more than {MAX_PIXELS:,} pixels") from error
    except Image.UnidentifiedImageError as error:
        raise _error(record, f"is none of {', '.join(FORMATS)}") from error
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on broken data
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _error(record, f"cannot be decoded ({reason})") from error


def _check_size(record: dict[str, Any], width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise _error(record, f"has {width} x {height} pixels, more than {MAX_PIXELS:,}")
    if max(width, height) > MAX_SIDE:
        raise _error(record, f"has {width} x {height} pixels, a side above {MAX_SIDE:,}")


def _rgb(record: dict[str, Any], image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise _error(record, f"has pixels of mode {image.mode!r}, whose range is unknown")
    return image.convert("RGB")
