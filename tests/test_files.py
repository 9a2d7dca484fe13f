"""Listed files: inside the dataset, there, once; and named when they cannot be read."""

import pytest
from datasets import placeholders, refused, write

from fgvc_jax.data.sources import open_source
from fgvc_jax.errors import UserError


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
