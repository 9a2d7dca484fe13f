"""The command: what it prints, the page it writes, and when it exits with 2."""

import csv
import re
import shutil
from html.parser import HTMLParser

import pytest
from conftest import command, finish
from photographs import encoded, photograph
from PIL import Image

from fgvc_jax.commands import inspect
from fgvc_jax.data import csvfile
from fgvc_jax.data.sources import open_source
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
    targets = ("data:image/jpeg;base64,", "#finding-")
    assert all(source.startswith(targets) for source in page.sources)
    assert "What to do" in page.text and str(folder / "train/Auk") in page.text  # full paths
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


@pytest.mark.slow
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


# -- what is broken --------------------------------------------------------------------------------


@pytest.fixture
def birds(tmp_path):
    """A folder of two classes of 15, and the number of the next photograph like no other."""
    for label in "ab":
        (tmp_path / "birds" / label).mkdir(parents=True)
        for i in range(15):
            number = i + 100 * (label == "b")
            photograph(number).save(tmp_path / f"birds/{label}/{i:02}.png")
    return tmp_path / "birds"


def test_what_training_leaves_out_does_not_stop_it(birds, capsys):
    (birds / "a/x.png").write_bytes(b"")
    run(birds)
    out = capsys.readouterr().out
    assert "[look] Files that cannot be read: 1. Training leaves these few out" in out
    assert "--clean FILE.csv writes" in out
    with pytest.raises(UserError, match="training would stop: image .*x.png' is empty"):
        run(birds, "--data.strict")
    assert "[STOPS] Files that cannot be read" in capsys.readouterr().out


def test_all_faults_are_on_the_page(birds, tmp_path, capsys):
    rows = ["path,label", "birds/a/00.png", "birds/a/99.png,a", "birds/a/98.png,a"]
    rows.append("birds/a/01.png,")
    rows += [f"birds/{c}/{i:02}.png,{c}" for c in "ab" for i in range(5)] + ["birds/b/04.png,b"]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    output = tmp_path / "page.html"
    with pytest.raises(UserError, match="training would stop: .*line 2 has 1 values.*, and 4 more"):
        inspect.main([f"csv:{tmp_path / 'list.csv'}", "--output", str(output)])
    page = Page(output.read_text()).text
    for words in ("1 values for 2", "99.png' does not", "98.png' does not", "no label", "already"):
        assert words in page
    assert "10" in page and "[STOPS] The list and the folders: 5" in capsys.readouterr().out


def test_a_folder_that_cannot_be_opened_has_a_page_of_its_faults(tmp_path):
    for name in ("a/in/x.png", "b/in/x.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True)
        (tmp_path / "set" / name).touch()
    output = tmp_path / "page.html"
    with pytest.raises(UserError, match="a/in' is a folder in a class folder.*, and 4 more"):
        run(tmp_path / "set", "--output", str(output))
    assert "b/in" in Page(output.read_text()).text


def test_a_list_without_any_image_has_a_page_of_its_faults(tmp_path, capsys):
    (tmp_path / "list.csv").write_text("path,label\n1.png,a\n2.png,a\n3.png,b\n4.png,b\n")
    words = ["--output", str(tmp_path / "page.html"), "--data.validation", "0.2"]
    with pytest.raises(UserError, match="would stop: .*1.png' does not exist.*, and 4 more"):
        inspect.main([f"csv:{tmp_path / 'list.csv'}", *words])
    assert "4.png' does not exist" in (tmp_path / "page.html").read_text().replace("&#39;", "'")
    assert "The settings" not in capsys.readouterr().out


# -- --clean ---------------------------------------------------------------------------------------


def test_it_ends_with_the_command_that_comes_next(birds, capsys):
    inspect.main([str(birds)])
    assert capsys.readouterr().out.endswith(f"\nnext: python -m fgvc_jax.train folder:{birds}\n")
    (birds / "a/broken.png").write_bytes(b"")
    with pytest.raises(UserError, match="training would stop"):
        inspect.main([str(birds), "--data.strict"])
    assert "\nnext:" not in capsys.readouterr().out


def test_a_clean_list_of_a_folder(birds, tmp_path, capsys):
    (birds / "a/broken.png").write_bytes(b"")
    shutil.copy(birds / "a/00.png", birds / "a/again.png")
    shutil.copy(birds / "b/00.png", birds / "a/other.png")
    Image.new("RGB", (90, 90)).save(birds / "b/black.png")
    before = open_source(f"folder:{birds}")
    page = tmp_path / "page.html"
    inspect.main([str(birds), "--clean", str(tmp_path / "birds.csv"), "--output", str(page)])
    out = capsys.readouterr().out
    trained = f"python -m fgvc_jax.train csv:{tmp_path / 'birds.csv'} --workdir runs/birds_clean"
    assert "\nnext:" not in out
    assert f"birds.csv: 29 of 34 images are used; train on them by {trained}\n" in out
    assert f"{trained}." in Page(page.read_text()).text
    assert "[note] Left out of" in out and "refuse" not in out
    with open(tmp_path / "birds.csv", newline="", encoding="utf-8") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    because = {path: row[csvfile.LEFT_OUT] for path, row in rows.items() if row[csvfile.LEFT_OUT]}
    assert len(rows) == 34
    doubled = because.keys() & {"birds/a/00.png", "birds/a/again.png"}
    assert len(doubled) == 1
    assert because.keys() - doubled == {
        "birds/a/broken.png", "birds/b/00.png", "birds/a/other.png", "birds/b/black.png",
    }  # fmt: skip
    words = ("broken: image", "doubtful: the same", "doubtful: the same", "doubtful: uniform")
    for path, start in zip(sorted(because.keys() - doubled), words, strict=False):
        assert because[path].startswith(start) or "other" in path or "00" in path
    clean = open_source(f"csv:{tmp_path / 'birds.csv'}")
    for part, source in before.parts.items():  # nothing has moved
        names = [f"birds/{name}" for name in source.names if f"birds/{name}" not in because]
        assert list(clean.parts[part].names) == names
    # A reason that is deleted puts the row back.
    text = (tmp_path / "birds.csv").read_text(encoding="utf-8")
    undone = text.replace(because["birds/b/black.png"], "")
    (tmp_path / "birds.csv").write_text(undone, encoding="utf-8")
    assert open_source(f"csv:{tmp_path / 'birds.csv'}").names - clean.names == {"birds/b/black.png"}


def test_a_clean_list_keeps_groups_and_boxes(birds, tmp_path):
    rows = ["path,label,group,x,y,width,height"]
    rows += [f"{c}/{i:02}.png,{c},{c}{i // 2},.25,0,.5,1" for c in "ab" for i in range(14)]
    rows += [f"{c}/14.png,{c},last {c},0,0,80,80" for c in "ab"]
    (birds / "list.csv").write_text("\n".join(rows))
    inspect.main([f"csv:{birds / 'list.csv'}", "--clean", str(birds / "clean.csv")])
    before, after = (open_source(f"csv:{birds / name}.csv") for name in ("list", "clean"))
    for part, source in before.parts.items():
        assert after.parts[part].names == source.names
        assert after.parts[part].groups.tolist() == source.groups.tolist()


def test_a_clean_list_of_a_list_keeps_its_columns_and_what_was_left_out(birds, tmp_path):
    (birds / "a/00.png").write_bytes(b"")
    rows = [f"{c}/{i:02}.png,{c},pond {i % 3}," for c in "ab" for i in range(15)]
    (birds / "list.csv").write_text("\n".join(["path,Label,Site,note", *rows]))
    source = birds / "list.csv"
    for name in ("clean.csv", "again.csv"):
        inspect.main([f"csv:{source}", "--clean", str(birds / name)])
        source = birds / name
        with open(source, newline="", encoding="utf-8") as file:
            found = {row["path"]: row for row in csv.DictReader(file)}
        assert len(found) == 30
        assert {p: row["site"] for p, row in found.items()} == {
            row.split(",")[0]: row.split(",")[2] for row in rows
        }
        assert [p for p, row in found.items() if row[csvfile.LEFT_OUT]] == ["a/00.png"]
        assert found["a/00.png"][csvfile.LEFT_OUT].startswith("broken: ")
    again = found["a/00.png"]  # a reason that is deleted puts the row back, also the second time
    text = source.read_text(encoding="utf-8").replace(again[csvfile.LEFT_OUT], "")
    source.write_text(text, encoding="utf-8")
    assert sum(map(len, open_source(f"csv:{source}").parts.values())) == 30


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("there.csv", "is there already, perhaps edited"),
        ("birds/a/list.csv", "is not below the list's folder"),
        ("list.txt", "name it list.csv"),
        ("none/list.csv", "there is no folder"),
    ],
)
def test_where_no_clean_list_is_written(birds, tmp_path, name, words):
    (tmp_path / "there.csv").write_text("mine")
    with pytest.raises(UserError, match=f"^--clean.*{words}"):
        inspect.main([str(birds), "--clean", str(tmp_path / name)])
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_a_published_set_is_not_cleaned(tmp_path):
    with pytest.raises(UserError, match="a published set is complete"):
        inspect.main(["sketchbirds", "--clean", str(tmp_path / "list.csv")])
