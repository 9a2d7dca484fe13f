"""What the words of `train` name: every reading, what could be two things, and misspelt ones."""

import pytest
from begun_runs import begun, photographs, told

from fgvc_jax.training.words import hint, of_training, source_of


def read(*words):
    where = [each for each in words if each.startswith("-")]
    at = words.index(where[0]) if where else len(words)
    return of_training(words[:at], list(words[at:]))


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (["kt:cub,resnet50"], ["--config", "kt:cub,resnet50"]),
        (["tiny"], ["--config", "tiny"]),
        (["folder:birds"], ["--config", "folder:birds"]),
        (["my birds/"], ["--config", "folder:my birds/"]),
        (["list.csv"], ["--config", "folder:csv:list.csv"]),
        (["csv:list.csv"], ["--config", "folder:csv:list.csv"]),
        (["coco:boxes.json,photos"], ["--config", "folder:coco:boxes.json,photos"]),
        (["mine.py:a,b"], ["--config", "mine.py:a,b"]),
        (["run"], ["--workdir", "run"]),
        (["gs://bucket/run"], ["--workdir", "gs://bucket/run"]),
        (["sketchbirds"], ["--data.source", "sketchbirds"]),
        (["ce:cub,resnet50", "cub:/x"], ["--config", "ce:cub,resnet50", "--data.source", "cub:/x"]),
        (["cub:/x", "ce:cub,resnet50"], ["--config", "ce:cub,resnet50", "--data.source", "cub:/x"]),
        (["kt_quick", "my birds"], ["--config", "kt_quick", "--data.source", "folder:my birds"]),
        (["folder:b", "run"], ["--workdir", "run", "--data.source", "folder:b"]),
        (["my birds", "run"], ["--workdir", "run", "--data.source", "folder:my birds"]),
        (["folder:b", "--workdir", "run"], ["--config", "folder:b"]),
        (["folder:b", "--config", "tiny"], ["--data.source", "folder:b"]),
        (["cub:/x", "--workdir", "run"], ["--data.source", "cub:/x"]),
        (["cub:/x", "--objective=kd", "--kd.teacher=run"], ["--data.source", "cub:/x"]),
        (["tiny", "--config", "tiny"], ["--config", "tiny"]),
        ([], []),
    ],
)
def test_a_word_of_train_is_an_option(elsewhere, words, given):
    begun("run")
    photographs(elsewhere / "my birds")
    (elsewhere / "list.csv").touch()
    assert read(*words) == given


@pytest.mark.parametrize(
    ("words", "told_"),
    [
        (["tinny"], "there is no 'tinny' (did you mean 'tiny'?)"),
        (["ktt:cub,resnet50"], "did you mean 'kt:cub,resnet50'?"),
        (["birdz"], "did you mean 'birds'?"),
        (["runs/now"], "did you mean 'runs/new'?"),
        (["runs/old"], "'runs/old' is a link to what is not there: train takes"),
        (["a.jpg"], "neither a config (.py) nor a list (.csv)"),
        (["my bees"], "there is no 'my bees': train takes"),
        (["nothing like it"], "a new one is named by --workdir"),
        (["cub:/x y"], "name a config, too, as in train kt:cub,resnet50 'cub:/x y'"),
        (["kt:cub,resnet50", "tiny"], "'tiny' is a second config beside 'kt:cub,resnet50'"),
        (["tiny", "--config", "kt_quick"], "second config beside 'kt_quick'"),
        (["run", "--workdir", "other"], "second workdir beside 'other'"),
        (["kt"], "'kt' could be two things: write ./kt or --config kt"),
        (["folder:b b"], "write './folder:b b' or --config 'folder:b b'"),
        (["sketchbirds"], "write ./sketchbirds or --data.source sketchbirds"),
        (["both"], "write --workdir both or --config folder:both"),
    ],
)
def test_a_word_of_train_that_is_nothing_or_two_things(elsewhere, words, told_):
    begun("run")
    begun("both")
    photographs(elsewhere / "both")
    for name in ("birds", "runs/new", "kt", "folder:b b", "sketchbirds"):
        (elsewhere / name).mkdir(parents=True)
    (elsewhere / "runs/old").symlink_to("gone")
    (elsewhere / "a.jpg").touch()
    assert told_ in told(read, *words)


def test_what_is_there_is_not_what_may_have_been_meant_by_itself(elsewhere):
    """As of a folder that is no workdir: "did you mean" its own name."""
    (elsewhere / "birds").mkdir()
    assert hint("birds") == ""
    (elsewhere / "birds2").mkdir()
    assert hint("birds") == " (did you mean 'birds2'?)"


@pytest.mark.parametrize("word", ["./kt", "./folder:b b", "./sketchbirds"])
def test_the_spellings_that_are_told_are_understood(elsewhere, word):
    (elsewhere / word).mkdir()
    assert read(word) == ["--config", f"folder:{word}"]


@pytest.mark.parametrize(
    ("word", "source"),
    [
        ("cub:/x", "cub:/x"),
        ("folder:my birds", "folder:my birds"),
        ("my birds", "folder:my birds"),
        ("list.CSV", "csv:list.CSV"),
        ("sketchbirds", "sketchbirds"),
        ("/nowhere", "there is no '/nowhere'"),
        ("my bird", "there is no 'my bird' (did you mean 'my birds'?)"),
        ("cab:/x", "did you mean 'cub:/x'?"),
        ("run", "'run' is a workdir, and a source is"),
        ("two:", "there is no 'two:'"),
    ],
)
def test_a_word_names_a_source(elsewhere, word, source):
    photographs(elsewhere / "my birds")
    (elsewhere / "list.CSV").touch()
    begun("run")
    if " is " in source or "mean" in source:
        assert source in told(source_of, word)
    else:
        assert source_of(word) == source
