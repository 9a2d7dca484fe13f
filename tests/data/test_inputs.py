"""Files, folders and lists as people name them."""

import inspect
import itertools
import os
import resource
import subprocess
import sys
import unicodedata

import pytest

from fgvc_jax.data.inputs import InputFile, expand
from fgvc_jax.utils.errors import UserError


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """photos/ with files and folders, as seen from the folder above."""
    for name in ("b.jpg", "a.PNG", ".hidden.jpg", "notes.txt", "x.jpg/in.jpeg", "c/d/e.png",
                 ".git/a.jpg"):  # fmt: skip
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def named(*words):
    return [found.path for found in expand(words)]


def test_folders_are_walked_in_order_and_hidden_files_left_out(tree, caplog):
    expected = ["photos/a.PNG", "photos/b.jpg", "photos/c/d/e.png", "photos/x.jpg/in.jpeg"]
    assert named("photos/") == named("photos") == expected
    assert "ignored a file" in caplog.text and "'photos/notes.txt'" in caplog.text


def test_files_are_taken_whatever_their_name_and_need_not_exist(tree):
    words = "photos/notes.txt", "gone.jpg", "photos/c", "photos/b.jpg"
    assert named(*words) == ["photos/notes.txt", "gone.jpg", "photos/c/d/e.png", "photos/b.jpg"]


def test_lists_name_files_and_folders(tree):
    text = "\ufeffphotos/b.jpg\r\n\nphotos/c\n  spaced .jpg\n@odd.jpg"
    (tree / "list.txt").write_text(text)
    assert named("@list.txt", "a.jpg") == [
        "photos/b.jpg", "photos/c/d/e.png", "  spaced .jpg", "@odd.jpg", "a.jpg"
    ]  # fmt: skip


def test_lists_of_another_system_name_accents_in_another_form(tree):
    """They were files that do not exist."""
    names = [unicodedata.normalize(form, "été/pré.jpg") for form in ("NFC", "NFD")]
    (tree / "photos" / names[1]).parent.mkdir()
    (tree / "photos" / names[1]).write_bytes(b"")
    lines = [f"photos/{names[0]}", f"{tree}/photos/{names[0]}", "photos/père.jpg", "nulle/part/é"]
    (tree / "list").write_text("\n".join(lines))
    there = f"photos/{names[1]}"
    assert named("@list") == [there, f"{tree}/{there}", *lines[2:]]
    (tree / "photos" / names[0]).parent.mkdir(exist_ok=True)
    (tree / "photos" / names[0]).write_bytes(b"")
    assert named("@list")[0] == f"photos/{names[0]}"


def test_names_that_are_no_text_stay_as_they_are(tree):
    name = os.fsdecode(b"\xff\n.jpg")
    (tree / "photos" / name).write_bytes(b"")
    assert "photos/" + name in named("photos")
    (tree / "list").write_bytes(b"photos/\xfe.jpg\n")
    assert named("@list") == [os.fsdecode(b"photos/\xfe.jpg")]


@pytest.mark.parametrize(
    ("word", "words"),
    [("@none", "cannot be read .No such file"), ("@photos", "cannot be read .Is a directory"),
     ("@pipe", "cannot be read .it is no regular file"),
     ("@", "list is empty"), ("@binary", "line 2 of 'binary' is no path"),
     ("@endless", "line 1 of 'endless' is no path")],
)  # fmt: skip
def test_what_is_no_list_is_told_in_one_line(tree, word, words):
    (tree / "binary").write_bytes(b"a\n\0\1\2")
    (tree / "endless").write_bytes(b"a" * 100_000)
    os.mkfifo(tree / "pipe")
    with pytest.raises(UserError, match=words):
        named(word)


def test_a_loop_of_links_ends_and_other_links_are_followed(tree, caplog):
    (tree / "photos/c/up").symlink_to(tree / "photos")
    (tree / "photos/self.jpg").symlink_to("self.jpg")
    (tree / "elsewhere").mkdir()
    (tree / "elsewhere/f.jpg").write_bytes(b"")
    (tree / "photos/there").symlink_to(tree / "elsewhere")
    assert named("photos") == [
        "photos/a.PNG", "photos/b.jpg", "photos/c/d/e.png", "photos/self.jpg",
        "photos/there/f.jpg", "photos/x.jpg/in.jpeg",
    ]  # fmt: skip
    assert "'photos/c/up' leads back" in caplog.text


def test_a_folder_that_cannot_be_listed_is_a_problem_of_its_own(tree, monkeypatch):
    real = os.scandir

    def scandir(path):
        if str(path).endswith("c"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    problems = [found for found in expand(["photos"]) if found.problem]
    assert problems == [InputFile("photos/c", "cannot list folder 'photos/c': Permission denied")]


@pytest.fixture
def shallow():
    """No more than two hundred calls below a test, where Python usually has a thousand."""
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 200)
    yield
    sys.setrecursionlimit(usual)


def test_a_deep_tree_needs_no_deep_stack(tmp_path, shallow):
    """Deeper than Python calls functions, in names that fit into a path."""
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(400):
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(os.open("a.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    found = named(str(tmp_path))
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # too deep for Python to remove
    assert [len(path.split("/d")) for path in found] == [401]


def test_a_long_list_is_read_as_it_is_needed(tmp_path):
    with (tmp_path / "list").open("w") as file:
        file.writelines(f"some/folder/with/a/name/{i}.jpg\n" for i in range(300_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = expand([f"@{tmp_path / 'list'}"])
    assert next(found).path.endswith("/0.jpg")
    assert next(itertools.islice(found, 299_998, None)).path.endswith("/299999.jpg")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 5_000  # KiB
