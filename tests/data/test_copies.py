"""Files of the same content in several parts."""

from fgvc_jax.data.copies import PAGE, shared_files


def test_files_are_the_same_by_all_of_their_bytes(tmp_path):
    contents = {
        "train/a": b"x" * 2 * PAGE, "train/b": b"x" * PAGE + b"y" * PAGE, "test/a": b"x" * 2 * PAGE,
        "train/c": b"z", "train/d": b"z",
    }  # fmt: skip
    files = []
    for name, content in contents.items():
        path = tmp_path / name.replace("/", "-")
        path.write_bytes(content)
        files.append((name.partition("/")[0], name, str(path), len(content)))
    (group,) = shared_files(files)
    assert [name for _, name, _, _ in group] == ["train/a", "test/a"]


def test_a_file_that_cannot_be_read_is_like_no_other(tmp_path):
    gone = [(part, part, str(tmp_path / part), 7) for part in ("train", "test")]
    assert shared_files(gone) == []
