"""Listed files: inside the dataset, there, once; and named when they cannot be read."""

import os

import pytest
from datasets import placeholders, refused, write

from fgvc_jax.data import files
from fgvc_jax.data.sources import open_source
from fgvc_jax.utils.errors import UserError


def test_folder_links(tmp_path):
    outside = write(tmp_path / "outside", placeholders("1.jpg", "2.jpg"))
    root = write(tmp_path / "set", placeholders("train/a/1.jpg", "test/a/2.jpg", "pool/x.jpg"))
    link = root / "test" / "a" / "9.jpg"

    link.symlink_to(root / "pool" / "x.jpg")
    assert len(open_source(f"folder:{root}").test) == 2  # inside, and nobody else's

    for target, words in {
        outside / "1.jpg": ["'test/a/9.jpg' is a link that leaves"],
        root / "train" / "a" / "1.jpg": ["'test/a/9.jpg' is already listed by", "/train/a'"],
        root / "pool" / "none.jpg": ["/test/a/9.jpg' does not exist"],
        link: ["/test/a/9.jpg' does not exist"],
    }.items():
        link.unlink()
        link.symlink_to(target)
        refused(f"folder:{root}", *words)
    link.unlink()

    (root / "train" / "b").symlink_to(outside)
    refused(f"folder:{root}", "'train/b/1.jpg' is a link that leaves")

    alias = tmp_path / "alias"  # the dataset's folder itself may be a link
    (root / "train" / "b").unlink()
    alias.symlink_to(root)
    assert len(open_source(f"folder:{alias}").train) == 1


def test_image_that_vanishes_is_named(tmp_path):
    write(tmp_path, placeholders("train/a/1.jpg", "test/a/2.jpg"))
    splits = open_source(f"folder:{tmp_path}")
    (tmp_path / "train/a/1.jpg").unlink()
    with pytest.raises(UserError, match="train/a/1.jpg': No such file"):
        splits.train[0]


def test_the_same_picture_in_two_parts_is_told(tmp_path, caplog):
    picture = {"train/a/1.jpg": "x" * 9000, "train/a/2.jpg": "y" * 9000, "test/a/1.jpg": "z" * 9000}
    write(tmp_path, picture)
    open_source(f"folder:{tmp_path}")
    assert not caplog.records  # of the same size
    write(tmp_path, {"test/a/9.jpg": "y" * 8999 + "x"})
    open_source(f"folder:{tmp_path}")
    assert not caplog.records  # and with the same beginning
    write(tmp_path, {"train/a/3.jpg": "x" * 9000})
    open_source(f"folder:{tmp_path}")
    assert not caplog.records  # twice, but in one part
    write(tmp_path, {"test/a/odd\nname.jpg": "y" * 9000})
    open_source(f"folder:{tmp_path}")
    (record,) = caplog.records
    line = record.getMessage()
    assert "one picture is in more than one part" in line and "\n" not in line
    assert "train 'train/a/2.jpg' = test 'test/a/odd\\nname.jpg'" in line


def test_five_of_many_shared_pictures_are_named(tmp_path, caplog):
    names = [f"{part}/a/{i}.jpg" for part in ("train", "test", "val") for i in range(7)]
    write(tmp_path, {name: name.rsplit("/")[-1] for name in names})
    open_source(f"folder:{tmp_path}")
    (record,) = caplog.records
    line = record.getMessage()
    assert "7 pictures are in more than one part" in line and line.endswith("and 2 more")
    assert line.count("train '") == line.count("test '") == line.count("validation '") == 5


def test_a_large_set_is_opened_without_a_look_at_any_file(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(files, "LOOKED_THROUGH", 1)
    monkeypatch.setattr(files.Files, "stat", None)
    write(tmp_path, dict.fromkeys(("train/a/1.jpg", "test/a/2.jpg"), "x"))
    with caplog.at_level("INFO"):
        open_source(f"folder:{tmp_path}")
    (record,) = caplog.records
    assert "2 images are not searched for copies" in record.getMessage()


def test_names_and_stat(tmp_path):
    write(tmp_path, placeholders("train/a/1.jpg", "test/a/2.jpg"))
    splits = open_source(f"folder:{tmp_path}")
    file = tmp_path / "train/a/1.jpg"
    assert splits.train.names == ("train/a/1.jpg",) and splits.train.groups is None
    assert splits.train.stat(0) == (13, file.stat().st_mtime_ns)
    file.unlink()
    with pytest.raises(UserError, match="train/a/1.jpg': No such file"):
        splits.train.stat(0)


def test_a_pipe_is_not_waited_for(tmp_path):
    write(tmp_path, placeholders("train/a/1.jpg", "test/a/2.jpg"))
    os.mkfifo(tmp_path / "train/a/pipe.jpg")
    refused(f"folder:{tmp_path}", "pipe.jpg' is no ordinary file")


def split_by_links(root, originals):
    for i, part in enumerate(("train", "train", "test")):
        folder = root / part / "a"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.jpg").symlink_to(originals / f"{i}.jpg")
    return root


def test_parts_that_are_links_into_one_folder_of_originals(tmp_path, caplog):
    """How people split without copying; the originals are no part, and are used."""
    images = placeholders(*(f"{i}.jpg" for i in range(3)))
    root = tmp_path / "set"
    split_by_links(root, write(root / "originals", images))
    splits = open_source(f"folder:{root}")
    assert splits.train.names == ("train/a/0.jpg", "train/a/1.jpg") and not caplog.records
    assert splits.test[0]["image"] == b"2.jpg"


def test_links_may_lead_into_a_folder_that_is_allowed(tmp_path):
    outside = write(tmp_path / "originals", placeholders(*(f"{i}.jpg" for i in range(3))))
    spec = f"folder:{split_by_links(tmp_path / 'set', outside)}"
    refused(spec, "leaves", f"--data.allow-links '{outside}'")
    for allowed in (tmp_path, outside):
        assert open_source(spec, allow_links=str(allowed)).test[0]["image"] == b"2.jpg"
    with pytest.raises(UserError, match="is a link that leaves"):
        open_source(spec, allow_links=str(write(tmp_path / "other", {"x": ""})))
    with pytest.raises(UserError, match="--data.allow-links .* is no folder"):
        open_source(spec, allow_links=str(outside / "0.jpg"))
    os.mkfifo(tmp_path / "originals/pipe")
    (tmp_path / "set/test/a/pipe.jpg").symlink_to(outside / "pipe")
    (tmp_path / "set/test/a/loop.jpg").symlink_to("loop.jpg")
    with pytest.raises(UserError, match="(pipe|loop).jpg'.*(no ordinary file|does not exist)"):
        open_source(spec, allow_links=str(tmp_path))


def test_the_folder_that_is_named_for_links_has_all_of_them(tmp_path):
    """It was the first class's own: whoever gave that was told the next class's, without end."""
    names = [f"originals/{part}/{c}/{n}.png" for part in ("1", "2") for c in "ab" for n in "xy"]
    write(tmp_path, placeholders(*names))
    for part, place in (("train", "1"), ("test", "2")):
        (tmp_path / "split").mkdir(exist_ok=True)
        (tmp_path / "split" / part).symlink_to(f"../originals/{place}")
    above = str(tmp_path / "originals")
    refused(
        f"folder:{tmp_path}/split", "'train/a/x.png' is a link", f"--data.allow-links {above!r}"
    )
    assert len(open_source(f"folder:{tmp_path}/split", allow_links=above).test) == 4
    one = str(tmp_path / "originals/1")
    with pytest.raises(UserError, match=f"--data.allow-links {above!r}$"):
        open_source(f"folder:{tmp_path}/split", allow_links=one)
