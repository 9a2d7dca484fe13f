"""A look at every file before training: cheap, complete, and wrong about no healthy one."""

import base64
import io

import pytest
from datasets import write
from PIL import Image
from test_images import HEIC, encoded, noise

from fgvc_jax.data import formats, images, whole
from fgvc_jax.data.records import Subset
from fgvc_jax.data.sources import open_source
from fgvc_jax.utils.errors import UserError

PICTURE = Image.fromarray(noise(40, 30))
FORMATS = sorted(set(formats.FORMATS) - {"HEIF"})  # which is only read
ENCODED = {format: encoded(PICTURE, format) for format in FORMATS}
ENCODED |= {
    "TIFF, JPEG inside": encoded(PICTURE, "TIFF", compression="jpeg"),
    "BMP of 1 bit": encoded(PICTURE.convert("1"), "BMP"),
    "PPM of 1 bit": encoded(PICTURE.convert("1"), "PPM"),
    "PPM of 16 bits": b"P6 2 2 65535 " + bytes(24),
    "PPM in words": b"P3 2 1 255 1 2 3 4 5 6\n",
}


def look(spec, share=slice(None), **how):
    refuse(list(open_source(spec).parts.values()), share, **how)


def refuse(parts, share=slice(None), **how):
    found = whole.look(parts, share=share, threads=2, progress=lambda found, count: found, **how)
    assert all(isinstance(parts[part].names[row], str) for part, row, _ in found)
    images.refuse([error for _, _, error in found], sum(map(len, parts)))


def dataset(root, files):
    good = encoded(PICTURE)
    return f"folder:{write(root, {'train/a/0.png': good, 'test/a/0.png': good + b'.'} | files)}"


def test_healthy_files_of_every_format(tmp_path, monkeypatch):
    files = {f"train/a/{format}.png": encoded(PICTURE, format) for format in FORMATS}
    behind = {f"train/a/{f}-more.png": encoded(PICTURE, f) + b"x" * 9999 for f in ("JPEG", "PNG")}
    spec = dataset(tmp_path, files)
    with monkeypatch.context() as patch:
        patch.setattr(images, "read", None)  # none of them is decoded
        look(spec)
    look(dataset(tmp_path, behind))  # a film behind a photograph, say: these are


@pytest.mark.parametrize("kind", ENCODED)
@pytest.mark.parametrize("left", [0.66, 0.98])
def test_files_that_break_off(tmp_path, kind, left):
    """Of BMP, TIFF, PPM, JPEG 2000 and AVIF only the header was looked at."""
    data = ENCODED[kind]
    look(dataset(tmp_path, {"test/a/x.png": data}))
    spec = dataset(tmp_path, {"test/a/x.png": data[: int(len(data) * left) - 3]})
    with pytest.raises(
        UserError, match="test/a/x.png' .*(: copy it again,|:) repair it or remove it"
    ):
        look(spec)


def test_a_heic_that_breaks_off(tmp_path):
    pytest.importorskip("pi_heif")
    data = base64.b64decode(HEIC)
    look(dataset(tmp_path, {"test/a/x.png": data}))
    with pytest.raises(UserError, match="test/a/x.png' "):
        look(dataset(tmp_path, {"test/a/x.png": data[:-3]}))


def test_a_file_of_too_many_boxes_is_decoded():
    file = io.BytesIO(b"\0\0\0\x08free" * 2000)
    with pytest.raises(ValueError, match="no end"):
        whole._length(Image.new("L", (1, 1)), file, 16_000)


def test_all_that_is_broken_is_listed_at_once(tmp_path):
    broken = {
        "train/a/1.png": b"",
        "train/a/2.png": b"<html>404</html>",
        "test/a/3.png": b"version https://git-lfs.github.com/spec/v1\n",
        "test/a/4.png": encoded(Image.new("L", (70_000, 1))),
        "test/a/5.png": encoded(Image.new("F", (4, 4)), "TIFF"),
    }
    spec = dataset(tmp_path, broken)
    with pytest.raises(UserError) as error:
        look(spec)
    message = str(error.value)
    assert message.startswith("5 of 7 images cannot be used: image ") and "\n" not in message
    for words in (
        "1.png' is empty",
        "2.png' is a web page",
        "3.png' is a Git LFS",
        "70000 x 1",
        "'F'",
    ):
        assert words in message
    with pytest.raises(UserError, match="^3 of 7"):  # of two processes the first
        look(spec, share=slice(0, None, 2))


def test_a_header_without_an_end_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("it is read byte by byte"))
    path = tmp_path / "1.ppm"
    path.write_bytes(b"P6\n#" + b"a" * 10**6)
    assert not whole._file_seems_whole(path)


def test_long_lists_end(tmp_path):
    errors = [UserError(f"image {i} is broken") for i in range(40)]
    with pytest.raises(UserError, match="^40 of 99 .*image 29 is broken; and 10 more$"):
        images.refuse(errors, 99)
    images.refuse([], 99)


def test_parts_of_parts_and_images_in_no_files(tmp_path):
    splits = open_source(dataset(tmp_path, {"train/a/1.png": b"", "train/a/2.png": b""}))
    part = Subset(Subset(splits.train, [2, 0]), [0])
    birds = open_source("sketchbirds").test
    with pytest.raises(UserError, match="train/a/2.png' is empty"):
        refuse([part, birds])
    assert whole.file_of(part, 0) == f"{tmp_path}/train/a/2.png"
    assert whole.file_of(birds, 3) == birds.names[3]


def turned(root, box):
    """A list of photographs that their tag turns, 40 rows and 30 columns as they are stored, with
    boxes: the first is only within one that was turned; `box` is that of the test image."""
    exif = Image.Exif()
    exif[0x0112] = 6
    write(root, {f"{n}.jpg": encoded(PICTURE, "JPEG", exif=exif) for n in (1, 2)} | {
        "list.csv": "path,label,split,x,y,width,height\n"
        f"1.jpg,a,train,32,2,5,5\n1.jpg,b,train,2,2,5,5\n2.jpg,a,test,{box}\n"
    })  # fmt: skip
    return f"csv:{root}/list.csv"


def test_a_box_outside_of_its_image_is_seen_before_training(tmp_path, monkeypatch):
    spec = turned(tmp_path, "2,32,5,5")
    monkeypatch.setattr(images, "read", None)  # none of them is decoded
    with pytest.raises(UserError, match="1.jpg' has the box 32,2,5,5, which"):
        look(spec)
    with pytest.raises(UserError, match="2.jpg' has the box 2,32,5,5, which"):
        look(spec, orientation="exif")


def test_a_suspect_is_decoded_though_its_ends_are_whole(tmp_path):
    file = ENCODED["PNG"]
    spec = dataset(tmp_path, {"train/a/x.png": file[:900] + b"????" + file[904:]})
    look(spec)
    for name in ("train/a/x.png", f"{tmp_path}/train/a/x.png"):
        with pytest.raises(UserError, match="x.png' cannot be decoded"):
            look(spec, suspects={name})
    look(spec, suspects={"train/a/0.png"})


def test_a_suspect_that_its_tag_turns_has_its_box_as_it_is_shown(tmp_path):
    spec, every = turned(tmp_path, "32,2,5,5"), {f"{tmp_path}/{n}.jpg" for n in (1, 2)}
    look(spec, orientation="exif", suspects=every)
    with pytest.raises(UserError, match="1.jpg' has the box 32,2,5,5, which"):
        look(spec, orientation="stored", suspects=every)
