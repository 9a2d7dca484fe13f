"""Which formats images may have, by suffix and by content, and what a file is that has none."""

from collections.abc import Iterable

from PIL import features

try:  # the extra `heif`: what iPhones write
    import pi_heif

    pi_heif.register_heif_opener()
except ImportError:
    pi_heif = None

HEIF = ".heic", ".heif", ".hif"
_EXTENSIONS = {
    "AVIF": (".avif",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "HEIF": HEIF,
    "JPEG": (".jfif", ".jpe", ".jpeg", ".jpg"),
    "JPEG2000": (".j2k", ".jp2"),
    "PNG": (".png",),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}  # of what Pillow reads, what photographs are kept in, in containers that reference nothing
# Of what some builds of Pillow lack.
_CODECS = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}
_MISSING = {format for format, codec in _CODECS.items() if not features.check(codec)}
_MISSING |= set() if pi_heif else {"HEIF"}
FORMATS = tuple(format for format in _EXTENSIONS if format not in _MISSING)
EXTENSIONS = tuple(sorted(extension for format in FORMATS for extension in _EXTENSIONS[format]))
HEIF_EXTRA = "pip install 'fgvc_jax[heif]'"


def what_else(data: bytes) -> tuple[str, ...]:
    """What a file is that is no image, and what to do, as far as its beginning tells."""
    start = data[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not data:
        return ("is empty (0 bytes)", "fetch it again or {}")
    if start.startswith(b"version https://git-lfs"):
        return ("is a Git LFS pointer, not the image itself", "run git lfs pull in its repository")
    if start.startswith((b"<!doctype html", b"<html")):
        return ("is a web page (HTML), as a failed download leaves one", "fetch the image again")
    if start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
        if "HEIF" in FORMATS:
            return ("is HEIC that cannot be decoded, as a broken one is", "fetch it again or {}")
        return ("is HEIC, which takes a package more to be read", HEIF_EXTRA)
    text = ", but text" if _is_text(data[:512]) else ""
    return (f"is none of {', '.join(FORMATS)}{text}",)


def _is_text(start: bytes) -> bool:
    """Whether a file that begins so is text; a letter may be cut off at its end."""
    text = start.decode("utf-8", "replace").rstrip("\ufffd")
    return "\ufffd" not in text and all(each.isprintable() or each.isspace() for each in text)


def unread(names: Iterable[str]) -> str:
    """What would read some of the files that are no images by their names; "" for nothing."""
    heif = "HEIF" in _MISSING and any(name.lower().endswith(HEIF) for name in names)
    return f" (and HEIC with {HEIF_EXTRA})" if heif else ""
