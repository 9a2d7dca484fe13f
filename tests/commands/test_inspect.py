"""The command: what it prints, the page it writes, and when it exits with 2."""

import re
from html.parser import HTMLParser

import pytest
from conftest import command, finish
from photographs import encoded, photograph
from PIL import Image

from fgvc_jax.commands import inspect
from fgvc_jax.utils.errors import UserError

CLASSES = ("Auk", '<script>alert("1")<∕script>', 'Kea "the, clown"', "x\u202egnp", "two\nlines")


@pytest.fixture
def folder(tmp_path):
    """Three training images and one of test of each class of difficult names."""
    root, number = tmp_path / "photos", 0
    for part, count in (("train", 3), ("test", 1)):
        for name in CLASSES:
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                number += 1
                photograph(number).save(root / part / name / f"{i} <i>,'.png")
    return root


def run(folder, *arguments):
    inspect.main(["--data.source", f"folder:{folder}", "--batch-size", "4", *arguments])


class Page(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.text = set(), [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.sources += [value for key, value in attrs if key in ("src", "href", "srcset")]

    def handle_data(self, data):
        self.text += data


def test_a_sound_folder(folder, capsys):
    run(folder, "--objective", "csdnet")
    out = capsys.readouterr().out
    assert re.search(r"^all +15 +5$", out, re.M) and re.search(r"^Auk +3 +1$", out, re.M)
    assert "x\\u202egnp" in out and "two\\nlines" in out and "\u202e" not in out
    assert "STOPS" not in out


def test_the_page(folder, tmp_path, capsys):
    copy = photograph(1).resize((120, 90))
    (folder / "test" / CLASSES[1] / "copy.png").write_bytes(encoded(copy))
    (folder / "train" / "Auk" / "notes.txt").touch()
    output = tmp_path / "page with space.html"
    run(folder, "--output", str(output))
    assert f"written: {output}" in capsys.readouterr().out
    text = output.read_text(encoding="utf-8")
    page = Page(text)
    assert page.tags >= {"img", "table", "bdi"} and not page.tags & {"script", "i<", "link"}
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert "\u202e" not in text and "two\\nlines" in page.text and CLASSES[1] in page.text
    assert "Nearly the same picture in several parts" in page.text
    assert "It can be trained on" in page.text and "ignored a file" in page.text
    assert list(tmp_path.glob(".*")) == []


def test_what_stops_training(folder, tmp_path, capsys):
    (folder / "train" / "Auk" / "broken.jpg").write_bytes(b"hello")
    output = tmp_path / "page.html"
    with pytest.raises(UserError, match="training would stop: image .*broken.jpg' is none of"):
        run(folder, "--output", str(output))
    assert "[STOPS] Files that cannot be read: 1" in capsys.readouterr().out
    assert "Training would stop, for 1 reason." in output.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--batch-size", "99"], "15 training images do not fill one batch of 99"),
        (["--data.validation", "0.01"], "data.validation=0.01 takes no image"),
        (["--data.classes", "9"], "data.classes=9 .* at most 5"),
        (["--objective", "csdnet", "--data.images-per-class", "1"], "no class has two training"),
    ],
)
def test_settings_that_stop_training(folder, arguments, words, capsys):
    with pytest.raises(UserError, match=f"training would stop: .*{words}"):
        run(folder, *arguments)
    assert "[STOPS] The settings" in capsys.readouterr().out


def test_a_config_is_none_of_its_options(folder):
    with pytest.raises(UserError, match="unknown argument '--config': (?!did you mean --config)"):
        run(folder, "--config", "tiny")


def test_output_is_refused_before_the_work(folder, tmp_path):
    for output in (tmp_path / "none" / "page.html", tmp_path):
        with pytest.raises(UserError, match="--output"):
            run(folder, "--output", str(output))


def test_a_refused_folder_still_tells_what_was_ignored(tmp_path, caplog):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.raw").touch()
    with pytest.raises(UserError, match="a' has 0 images"):
        run(tmp_path)
    assert "ignored a file" in caplog.text


def test_as_a_command(folder):
    (folder / "test" / "Auk" / "broken.png").write_bytes(b"")
    Image.new("1", (9_500, 9_500)).save(folder / "test" / "Auk" / "huge.png")  # Pillow would warn
    code, out, err = finish(
        command("inspect", "--data.source", f"folder:{folder}", "--batch-size", "32")
    )
    assert code == 2 and "images" not in out.splitlines()[0]
    lines = err.strip().split("\n")
    assert len(lines) == 1 and lines[0].startswith("error: training would stop: 15 training images")
    assert lines[0].endswith(", and 2 more")


def test_one_class_stops(tmp_path, capsys):
    for part in ("train", "test"):
        (tmp_path / part / "Auk").mkdir(parents=True)
        photograph(len(part)).save(tmp_path / part / "Auk/1.png")
    with pytest.raises(UserError, match="training would stop: there is one class, 'Auk'"):
        inspect.main(["--data.source", f"folder:{tmp_path}", "--batch-size", "1"])
    assert "[STOPS] The settings" in capsys.readouterr().out


def test_what_is_not_used_is_looked_at(folder, capsys):
    for name in ("vali", "extra"):
        (folder / name).mkdir()
        photograph(1).save(folder / name / "1.png")
    run(folder)
    out = capsys.readouterr().out
    assert "[look] What is not used: 2." in out and "if it is the validation part" in out
