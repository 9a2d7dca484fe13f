"""Decoding: exact where it should be, and nothing hostile gets far."""

import base64
import contextlib
import hashlib
import io
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin

from fgvc_jax.data import formats, images
from fgvc_jax.data.formats import EXTENSIONS, FORMATS
from fgvc_jax.data.framing import FILL, Box, inside_box
from fgvc_jax.data.images import MAX_PIXELS, MAX_SIDE, content_digest
from fgvc_jax.utils.errors import UserError

decode = partial(images.decode, orientation="stored")


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def record(image, **more):
    return {"image": image, "label": 0, "id": 0, "name": "birds/wren.jpg", **more}


def refused(image, *words, size=8, **more):
    with pytest.raises(UserError) as caught:
        decode(record(image, **more), size)
    message = str(caught.value)
    assert message.startswith("image 'birds/wren.jpg' ") and "\n" not in message
    for word in words:
        assert word in message, message


def noise(height, width, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def triangle(source, size):
    """Bilinear resizing with antialiasing along the first axis, in float64, from its definition."""
    length = source.shape[0]
    scale = max(length / size, 1.0)
    centers = (np.arange(size) + 0.5) * length / size
    distance = (np.arange(length) + 0.5)[None] - centers[:, None]
    weights = np.maximum(1 - np.abs(distance) / scale, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.tensordot(weights, source, 1)


@pytest.mark.parametrize(("height", "width", "size"), [(50, 31, 12), (7, 9, 20), (30, 8, 16)])
def test_resize_is_bilinear_with_antialiasing(height, width, size):
    pixels = noise(height, width)
    expected = triangle(triangle(pixels.astype(float), size).swapaxes(0, 1), size).swapaxes(0, 1)
    for image in (pixels, encoded(Image.fromarray(pixels))):
        result = decode(record(image), size)
        assert result.shape == (size, size, 3) and result.dtype == np.uint8
        assert np.abs(result - expected).max() <= 1.0  # Pillow rounds after each pass


def test_array_of_the_right_size_is_untouched():
    pixels = noise(8, 8)
    assert decode(record(pixels), 8) is pixels


def test_lossless_image_of_the_right_size_is_exact():
    pixels = noise(8, 8)
    for format in ("PNG", "BMP", "TIFF"):
        assert (decode(record(encoded(Image.fromarray(pixels), format)), 8) == pixels).all()


def test_every_format_and_extension():
    for format in FORMATS:
        if format == "HEIF":  # which is only read
            continue
        image = encoded(Image.new("RGB", (9, 5), (200, 100, 50)), format)
        assert np.abs(decode(record(image), 4).astype(int) - (200, 100, 50)).max() <= 3
    registered = Image.registered_extensions()
    assert {registered[extension] for extension in EXTENSIONS} == set(FORMATS)


def test_banner_is_cut_before_resizing():
    pixels = np.full((60, 40, 3), 90, np.uint8)
    pixels[-20:] = 255
    for image in (pixels, encoded(Image.fromarray(pixels))):
        assert (decode(record(image, crop_bottom=20), 16) == 90).all()
        assert (decode(record(image), 16)[-4:] == 255).all()
    square = np.full((16, 16, 3), 90, np.uint8)
    square[-4:] = 255
    assert (decode(record(square, crop_bottom=4), 16) == 90).all()
    refused(encoded(Image.new("RGB", (40, 20))), "20 rows high, and 20", crop_bottom=20)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("image", "format", "expected"),
    [
        (Image.new("L", (4, 4), 77), "PNG", (77, 77, 77)),
        (Image.new("1", (4, 4), 1), "PNG", (255, 255, 255)),
        (Image.new("LA", (4, 4), (77, 0)), "PNG", (77, 77, 77)),
        (Image.new("RGBA", (4, 4), (10, 20, 30, 0)), "PNG", (10, 20, 30)),
        (Image.new("RGB", (4, 4), (250, 0, 0)).quantize(4), "PNG", (250, 0, 0)),
        (Image.new("RGB", (4, 4), (250, 0, 0)).quantize(4), "GIF", (250, 0, 0)),
        (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "TIFF", (255, 0, 0)),
        (Image.fromarray(np.full((4, 4), 65535, np.uint16)), "PNG", (255, 255, 255)),
        (Image.fromarray(np.full((4, 4), 257 * 99, np.uint16)), "PNG", (99, 99, 99)),
        (Image.fromarray(np.full((4, 4), 257 * 99, np.uint16)), "TIFF", (99, 99, 99)),
        (Image.fromarray(np.full((4, 4), 257 * 99, np.uint16)), "PPM", (99, 99, 99)),
        (Image.new("1", (4, 4), 1), "PPM", (255, 255, 255)),
    ],
)
def test_modes_become_rgb(image, format, expected):
    assert (decode(record(encoded(image, format)), 4) == expected).all()


@pytest.mark.filterwarnings("error")
def test_palette_with_transparency():
    """Of several colours: of one alone Pillow keeps a number, of which it does not warn."""
    image = Image.fromarray(noise(4, 4)).quantize(8)
    data = encoded(image, transparency=bytes(range(8)))
    with Image.open(io.BytesIO(data)) as opened:
        assert isinstance(opened.info["transparency"], bytes)
    np.testing.assert_array_equal(decode(record(data), 4), np.asarray(image.convert("RGB")))


def test_first_frame_of_several():
    frames = [Image.new("RGB", (4, 4), (value, 0, 0)) for value in (200, 0)]
    for format in ("GIF", "WEBP", "TIFF"):
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
        assert decode(record(data), 4)[..., 0].min() > 190


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_orientation_is_applied_where_asked_for(value, format):
    """Against Pillow's own transposition."""
    exif = Image.Exif()
    exif[0x0112] = value
    data = encoded(Image.fromarray(noise(9, 17)), format, exif=exif)
    stored = Image.open(io.BytesIO(data))
    turned = ImageOps.exif_transpose(stored)
    for orientation, expected in {"stored": stored, "exif": turned}.items():
        result = images.decode(record(data), 8, orientation=orientation)
        want = expected.convert("RGB").resize((8, 8), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(result, np.asarray(want))


def test_broken_orientation_turns_nothing():
    for tag in (b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"\0" * 50):
        data = encoded(Image.fromarray(noise(9, 17)), "JPEG", exif=tag)
        for odd in (data, data.replace(b"Exif", b"Exig")):
            expected = decode(record(odd), 8)
            result = images.decode(record(odd), 8, orientation="exif")
            np.testing.assert_array_equal(result, expected)
    exif = Image.Exif()
    exif[0x0112] = 77
    data = encoded(Image.fromarray(noise(9, 17)), "JPEG", exif=exif)
    assert (images.decode(record(data), 8, orientation="exif") == decode(record(data), 8)).all()


def test_truncated_jpeg_is_named():
    data = encoded(Image.fromarray(noise(64, 64)), "JPEG")
    refused(data[: len(data) // 2], "is cut off, its end is missing: copy it again")


def test_not_an_image():
    for data in (b"hello", b"\x00" * 100, b"\xff\xd8\xff"):
        refused(data, ": repair it or remove it")
    refused(b"<svg/>", f"is none of {', '.join(FORMATS)}")


def png_header(width, height):
    """A PNG that claims to be of a size, without any pixel."""

    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (b"hello", "repair it or "),
        (b"", "fetch it again or "),
        (png_header(12_000, 12_000), "make it smaller or "),
        (png_header(3, 70_000), "make it smaller or "),
        (b"<html>", "fetch the image again"),
    ],
    ids=["text", "empty", "pixels", "side", "page"],
)
def test_what_is_of_no_dataset_is_not_to_be_removed_from_one(tmp_path, content, advice):
    """predict, embed, explain, the demo and a notebook ask of photographs."""
    path = tmp_path / "new.jpg"
    path.write_bytes(content)
    for image in (images.record_of(path), {"image": content, "name": "upload"}):
        with pytest.raises(UserError) as e:
            decode(image, 8)
        assert str(e.value).endswith(f": {advice}{'leave it out' * advice.endswith(' or ')}")
    refused(content, f": {advice}{'remove it from the dataset' * advice.endswith(' or ')}")


def test_format_outside_the_list():
    for format in ("EPS", "TGA", "ICO", "PDF"):
        refused(encoded(Image.new("RGB", (16, 16)), format), "is none of")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty (0 bytes): fetch it again"),
        (b"\n<!DOCTYPE html><title>404</title>", "is a web page (HTML), as a failed download"),
        (b"<html>", "is a web page (HTML)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "run git lfs pull in"),
        (lambda: png_header(12_000, 9_000), "12000 x 9000 pixels, more than 80,000,000: make it s"),
    ],
)
def test_what_a_file_is_instead_is_named(data, words):
    refused(data() if callable(data) else data, words)


HEIC = """
AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAXxtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAA
AAAAACJpbG9jAAAAAERAAAEAAQAAAAABoAABAAAAAAAAAEAAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAA
AA5waXRtAAAAAAABAAAA/GlwcnAAAADcaXBjbwAAAHVodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNw
AAADAJAAAAMAAAMAHroCQGEAAQApQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqrprm4CGgwIAAAAyAAAADAIRiAAEABkQBwXPB
iQAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAQAAAAChjbGFwAAAAEAAAAAEAAAAQAAAAAf///9AAAAAC
////0AAAAAIAAAAQcGl4aQAAAAADCAgIAAAAGGlwbWEAAAAAAAAAAQABBYECAwWEAAAASG1kYXQAAAA8KAGvCchdLNAjmJbX
/99HIKPd1IP9B7nbNX+666DBMF2Q76D1ujICb0sv3tGfWrLrCSk5BX6gw0tSRk8O
"""  # 16 x 16 pixels, orange above blue, by pillow-heif


def test_heic_is_read_with_the_extra(tmp_path):
    data = base64.b64decode(HEIC)
    if "HEIF" in FORMATS:
        found = decode(record(data), 8).astype(int)
        assert np.abs(found[2] - (200, 100, 50)).max() < 20
        assert np.abs(found[-2] - (20, 40, 200)).max() < 20
        assert ".heic" in EXTENSIONS
    else:
        refused(data, "is HEIC", "pip install 'fgvc_jax[heif]'")
        assert "pip install" in formats.unread(["a.HEIC"]) and not formats.unread(["a.txt"])


def test_megabytes_of_metadata_are_healthy():
    """An editor's history was taken for a decompression bomb."""
    text = PngImagePlugin.PngInfo()
    text.add_text("history", "x" * 2**21, zip=True)
    pixels = noise(8, 8)
    data = encoded(Image.fromarray(pixels), pnginfo=text)
    assert len(data) < 2**14
    np.testing.assert_array_equal(decode(record(data), 8), pixels)


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_refused_by_the_header():
    refused(png_header(20_000, 20_000), f"more than {MAX_PIXELS:,} pixels")
    refused(png_header(2**31 - 1, 2**31 - 1), f"more than {MAX_PIXELS:,} pixels")
    refused(png_header(MAX_PIXELS // 8000 + 1, 8000), "10001 x 8000 pixels, more than 80,000,000")
    # Long and thin: few pixels, but the first pass of resizing keeps one of the sides.
    refused(png_header(1, MAX_SIDE + 1), "a side above 65,535")
    refused(png_header(MAX_SIDE + 1, 1), "a side above 65,535")
    # Within the limits the pixels are looked for, and are not there.
    refused(png_header(MAX_PIXELS // 8000, 8000), "is cut off")


def test_other_pixels_and_arrays():
    data = encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")
    refused(data, "pixels of mode 'F', whose range is unknown")
    refused(np.zeros((4, 4, 3), np.float32), "array float32(4, 4, 3)")
    refused(np.zeros((4, 4), np.uint8), "array uint8(4, 4)")


def test_content_digest():
    assert content_digest(b"ab") == hashlib.sha256(b"ab").digest()
    arrays = noise(4, 6), noise(6, 4), noise(4, 6).view(np.int8), noise(4, 6) ^ 1
    assert len({content_digest(array) for array in arrays}) == 4
    assert content_digest(np.asfortranarray(arrays[0])) == content_digest(arrays[0])


def test_name_cannot_break_the_line():
    with pytest.raises(UserError) as caught:
        decode({**record(b""), "name": "a\nb.jpg"}, 4)
    assert "'a\\nb.jpg'" in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about broken TIFF tags
def test_broken_bytes_never_escape():
    rng = np.random.default_rng(0)
    for format in set(FORMATS) - {"HEIF"}:
        whole = np.frombuffer(encoded(Image.fromarray(noise(16, 16)), format), np.uint8)
        for _ in range(60):
            data = whole.copy()
            data[rng.integers(0, len(data), 4)] = rng.integers(0, 256, 4)
            end = len(data) if rng.random() < 0.5 else rng.integers(len(data))
            with contextlib.suppress(UserError):
                assert decode(record(data[:end].tobytes()), 8).shape == (8, 8, 3)


# -- one image, one answer -------------------------------------------------------------------------


def turned_jpeg(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(30, 50)).save(tmp_path / "a.jpg", exif=exif)
    return tmp_path / "a.jpg"


def deep_png(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 65536, (20, 30), np.uint16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def palette_gif(tmp_path):
    Image.fromarray(noise(20, 30)).quantize(8).save(tmp_path / "a.gif")
    return tmp_path / "a.gif"


@pytest.mark.parametrize("make", [turned_jpeg, deep_png, palette_gif])
@pytest.mark.parametrize("orientation", ["exif", "stored"])
def test_an_opened_image_is_what_its_file_is(make, orientation, tmp_path):
    """A telephone's photograph lay on its side, and 16 bits were clipped to white."""
    path = make(tmp_path)
    expected = images.decode(images.record_of(path), 16, orientation=orientation)
    opened, loaded = Image.open(path), Image.open(path)
    loaded.load()
    for image in (opened, loaded, loaded.copy()):
        found = images.decode(images.record_of(image), 16, orientation=orientation)
        np.testing.assert_array_equal(found, expected)
    assert opened.getpixel((0, 0)) is not None  # it is still the caller's


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (Image.fromarray(np.ones((4, 4), np.float32)), "pixels of mode 'F', whose range"),
        (Image.fromarray(np.ones((4, 4), np.int32)), "pixels of mode 'I', whose range"),
        (Image.new("L", (70_000, 20)), "70000 x 20 pixels, a side above 65,535"),
    ],
)
def test_an_opened_image_is_refused_as_its_file_is(image, words):
    with pytest.raises(UserError, match=words):
        images.decode(images.record_of(image), 8, orientation="exif")


def test_an_opened_image_that_breaks_off_is_named(tmp_path):
    path = turned_jpeg(tmp_path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(UserError, match="a.jpg' is cut off"):
        images.decode(images.record_of(Image.open(path)), 8, orientation="exif")


def test_a_banner_that_is_asked_for_goes_before_the_records_own():
    pixels = np.full((60, 40, 3), 90, np.uint8)
    pixels[-20:] = 255
    own = record(pixels, crop_bottom=20)
    assert (decode(own, 16) == 90).all()
    assert (decode(own, 16, banner=0)[-4:] == 255).all()
    assert (decode(record(pixels), 16, banner=20) == 90).all()


# -- scaled decoding -------------------------------------------------------------------------------


def scene(width, height):
    """A picture that has something at every scale, as photographs have."""
    rng = np.random.default_rng(0)
    pixels = np.full((height, width, 3), 128.0)
    for cell in (8, 32, 128):
        coarse = rng.integers(0, 256, (height // cell + 2, width // cell + 2, 3), np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        pixels += (np.asarray(smooth, float) - 127.5) * cell**0.5 / 20
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def apart(data, size, **how):
    """Mean difference of a scaled image to the exact one, of 255."""
    how = {"orientation": "exif"} | how
    exact, scaled = (
        images.decode(record(data), size, decoding=kind, **how).astype(float)
        for kind in ("exact", "scaled")
    )
    return np.abs(exact - scaled).mean()


LARGE = scene(803, 605)  # sides that 2, 4 and 8 do not divide


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        ({}, "RGB"),
        ({"progressive": True}, "RGB"),
        ({}, "CMYK"),
        ({}, "L"),
        ({"quality": 60}, "RGB"),
    ],
)
@pytest.mark.parametrize("size", [140, 70, 37])
def test_a_scaled_jpeg_is_nearly_the_exact_one(options, mode, size):
    data = encoded(LARGE.convert(mode), "JPEG", **{"quality": 90} | options)
    assert 0 < apart(data, size) < 0.6


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("banner", [0, 21])
def test_a_scaled_jpeg_is_turned_and_cut_where_the_exact_one_is(value, banner):
    """Where the scale does not divide its sides, it was stretched by what is empty at an edge."""
    exif = Image.Exif()
    exif[0x0112] = value
    data = encoded(LARGE, "JPEG", quality=90, exif=exif)
    for size in (140, 70):
        assert 0 < apart(data, size, banner=banner) < 0.6


def test_a_strip_that_is_cut_off_does_not_show_in_a_scaled_image():
    pixels = np.full((403, 400, 3), 90, np.uint8)
    pixels[-24:] = 255  # from row 379 on, which is within a row of the scaled image
    data = encoded(Image.fromarray(pixels), "JPEG", quality=100, subsampling=0)
    found = images.decode(record(data), 90, orientation="stored", banner=28, decoding="scaled")
    assert np.abs(found.astype(int) - 90).max() < 4


@pytest.mark.parametrize("size", [152, 200, 302, 700])
def test_what_has_less_than_four_pixels_for_each_is_the_same_bit_for_bit(size):
    assert apart(encoded(LARGE, "JPEG"), size) == 0


def test_only_jpegs_are_scaled():
    for format in ("PNG", "TIFF", "WEBP"):
        assert apart(encoded(LARGE, format), 20) == 0


def test_the_scale_is_the_smallest_that_leaves_twice_the_side(monkeypatch):
    asked = []
    draft = JpegImagePlugin.JpegImageFile.draft
    monkeypatch.setattr(
        JpegImagePlugin.JpegImageFile, "draft", lambda *a: asked.append(draft(*a)) or asked[-1]
    )
    data = encoded(LARGE, "JPEG")
    read = []
    for size in (151, 152, 76, 75, 38, 37, 3):
        images.decode(record(data), size, orientation="stored", decoding="scaled")
        read.append(asked[-1] and asked[-1][1][2:])
    assert [605 / height for _, height in read] == [2, 1, 2, 4, 4, 8, 8]


@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_a_scaled_jpeg_that_breaks_off_is_named(cut):
    data = encoded(LARGE, "JPEG")
    with pytest.raises(UserError, match="birds/wren.jpg' is cut off"):
        images.decode(
            record(data[: int(cut * len(data))]), 40, orientation="exif", decoding="scaled"
        )


def test_an_opened_jpeg_is_what_its_file_is_and_stays_its_owners(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.jpg"
    LARGE.save(path, quality=90, exif=exif)
    how = {"orientation": "exif", "decoding": "scaled"}
    expected = images.decode(images.record_of(path), 60, **how)
    opened = Image.open(path)
    for _ in range(2):  # asking again gives the same
        np.testing.assert_array_equal(images.decode(images.record_of(opened), 60, **how), expected)
    assert opened.size == (803, 605) and opened.getpixel((802, 604))
    loaded = images.decode(images.record_of(opened), 60, **how)  # its pixels are there now
    assert 0 < np.abs(loaded.astype(float) - expected).mean() < 0.6
    drafted = Image.open(path)
    drafted.draft(None, (100, 75))
    images.decode(images.record_of(drafted), 60, **how)
    assert drafted.size == (101, 76)  # what its owner made of it is what is shown


# -- fit -------------------------------------------------------------------------------------------


def as_torchvision(image, side):
    """Resize and CenterCrop of a PIL image, as torchvision computes their sizes and places."""
    short = min(image.size)
    size = [int(side * length / short) for length in image.size]
    left, top = (round((length - side) / 2) for length in size)
    resized = image.resize(size, Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + side, top + side))


@pytest.mark.parametrize("size", [(61, 40), (40, 97), (200, 31), (33, 33), (5, 8)])
@pytest.mark.parametrize("side", [16, 45])
def test_a_fit_that_keeps_the_aspect_is_torchvisions_or_pillows(size, side):
    image = Image.fromarray(noise(*size))
    cropped = decode(record(np.asarray(image)), side, fit="crop").astype(int)
    assert np.abs(cropped - as_torchvision(image, side)).max() <= 1  # by rounding
    padded = decode(record(np.asarray(image)), side, fit="pad")
    expected = ImageOps.pad(image, (side, side), Image.Resampling.BILINEAR, color=FILL)
    np.testing.assert_array_equal(padded, expected)


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_of_a_strip_no_large_image_is_made(fit):
    """At its shorter side it would be 65,535 * 100 pixels long."""
    strip = record(np.full((2, 65_535, 3), 7, np.uint8))
    found = decode(strip, 200, fit=fit)
    assert found.shape == (200, 200, 3) and (found == 7).any()


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("value", [1, 3, 6, 8])
@pytest.mark.parametrize("banner", [0, 21])
def test_a_scaled_jpeg_is_fitted_as_the_exact_one_is(fit, value, banner):
    exif = Image.Exif()
    exif[0x0112] = value
    data = encoded(LARGE, "JPEG", quality=90, exif=exif)
    assert 0 < apart(data, 70, fit=fit, banner=banner) < 0.6


def test_a_padded_image_needs_its_longer_side_only():
    data = encoded(scene(1200, 100), "JPEG")
    assert apart(data, 150) == apart(data, 150, fit="crop") == 0
    assert 0 < apart(data, 150, fit="pad") < 0.6


# -- boxes -----------------------------------------------------------------------------------------


def test_only_a_box_is_shown_and_its_margin():
    pixels = np.zeros((60, 90, 3), np.uint8)
    pixels[20:40, 30:60] = 255
    box = Box(30, 20, 30, 20)
    assert decode(record(pixels, box=box), 10)[1:-1, 1:-1].min() == 255
    wide = decode(record(pixels, box=box), 40, margin=0.5)
    whole = decode(record(pixels[10:50, 15:75]), 40)
    assert np.abs(wide.astype(int) - whole).max() <= 1
    same = record(noise(8, 8), box=Box(0, 0, 0.5, 0.5, (1, 1)))
    assert not (decode(same, 8) == same["image"]).all()  # though it has the size already


@pytest.mark.parametrize("value", [1, 6])
@pytest.mark.parametrize("banner", [0, 60])
def test_a_box_in_a_scaled_jpeg_keeps_twice_the_side_of_the_box(value, banner):
    """It is of the photograph upright."""
    exif = Image.Exif()
    exif[0x0112] = value
    data = encoded(LARGE, "JPEG", quality=90, exif=exif)
    box = Box(0.3, 0.4, 0.5, 0.6, (1, 1))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert (upright.width > upright.height) == (value == 1)
    edges = [round(n) for n in inside_box(box, upright.size, 0.0, banner)]
    for size, equal in ((100, True), (40, False)):
        exact, scaled = (
            images.decode(record(data, box=box), size, orientation="exif", banner=banner,
                          decoding=way).astype(float)
            for way in ("exact", "scaled")
        )  # fmt: skip
        assert (np.abs(exact - scaled).mean() == 0) == equal
        assert np.abs(exact - scaled).mean() < 0.6
        cut = np.asarray(upright.crop(edges).resize((size, size), Image.Resampling.BILINEAR), float)
        assert np.abs(cut - exact).mean() < 3


def test_a_box_that_is_not_in_its_image_is_one_line():
    refused(noise(20, 30), "has the box 40,0,5,5, which has less than one pixel", "correct the box",
            box=Box(40, 0, 5, 5))  # fmt: skip
    data = encoded(Image.fromarray(noise(20, 30)), "JPEG")
    refused(
        data, "which is of an image of 20 x 30 pixels, and this one", box=Box(1, 1, 5, 5, (20, 30))
    )


def test_what_is_read_of_an_image_with_a_box_is_the_box():
    data = encoded(Image.fromarray(noise(20, 30)))
    assert images.read(record(data, box=Box(3.5, 4, 10, 8)), orientation="exif").size == (11, 8)


def test_what_decodes_is_known_by_its_versions():
    pillow, *others = images.decoders()
    assert pillow == Image.__version__ and len(others) == 3
    assert others[0] and all(each is None or isinstance(each, str) for each in others)


def test_one_image_or_several_are_told_apart():
    path, picture, array = Path("a.jpg"), Image.new("RGB", (2, 2)), np.zeros((2, 2, 3), np.uint8)
    for one in ("a.jpg", path, picture, array, np.zeros((2, 2))):
        (found,) = images.one_by_one(one)
        assert found is one
    several = [path, picture, array]
    for given in (several, tuple(several), iter(several)):
        assert list(images.one_by_one(given)) == several
    batch = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    np.testing.assert_array_equal(list(images.one_by_one(batch)), batch)
    assert list(images.one_by_one([])) == []
