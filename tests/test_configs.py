"""Every file in configs/ is an experiment that holds together and says what it is."""

import ast
import shlex

import pytest
from conftest import ROOT

from fgvc_jax import config, networks, recipes
from fgvc_jax.data import sources

FILES = sorted((ROOT / "configs").glob("*.py"))
STEMS = {file.stem: file for file in FILES}
RECONSTRUCTED = "hsd_", "csdnet_"
ON_BENCHMARKS = [stem for stem in STEMS if set(stem.split("_")) & set(recipes.BENCHMARKS)]
ULTRA = "cotton80", "soylocal", "soygene", "soyageing", "soyglobal"


def experiment(stem):
    return config.load_config(str(STEMS[stem]))


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


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_config_is_valid_and_documented(file):
    loaded = config.check(config.load_config(str(file)))
    assert loaded.network.name in networks.NAMES
    assert loaded.data.source.partition(":")[0] in sources.OPENERS
    assert section(file, "Cost") and section(file, "Expected")
    if file.stem.startswith(RECONSTRUCTED):
        assert "reconstruction" in documentation(file).splitlines()[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_command_in_the_header_runs_this_file(file, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = shlex.split(section(file, "Command"))
    assert words[:3] == ["python", "-m", "fgvc_jax.train"]
    assert words[3:5] == ["--config", f"configs/{file.stem}.py"]
    loaded, commanded = config.load_config(str(file)), config.parse(words[3:])
    kind = loaded.data.source.partition(":")[0]
    assert commanded.data.source.partition(":")[0] == kind
    assert all("--data.source" in d or "--network.weights" in d
               for d in config.differences(loaded, commanded))  # fmt: skip


def test_no_two_configs_share_a_workdir():
    workdirs = [experiment(stem).workdir for stem in STEMS]
    assert len(set(workdirs)) == len(workdirs)


def test_every_method_has_its_sets():
    benchmarks = set(recipes.BENCHMARKS)
    for method in ("kt", "hsd", "csdnet", "ce"):
        found = {stem.split("_")[1] for stem in STEMS if stem.startswith(f"{method}_")}
        assert benchmarks | {"sketchbirds"} <= found, method
    assert "independent_cub_resnet50" in STEMS


@pytest.mark.parametrize(
    ("stem", "objective", "transfer", "members"),
    [
        ("ce_cub_resnet50", "ce", "none", 1),
        ("kt_cub_resnet50", "ce", "orthogonal", 5),
        ("kt_cub_vgg16", "ce", "orthogonal", 5),
        ("independent_cub_resnet50", "ce", "none", 5),
        ("hsd_cub_resnet50", "hsd", "none", 1),
        ("csdnet_cub_vit_b16", "csdnet", "none", 1),
        ("csdnet_cotton80_resnet50", "csdnet", "none", 1),
        ("ce_sketchbirds", "ce", "none", 1),
        ("kt_sketchbirds", "ce", "orthogonal", 3),
        ("independent_sketchbirds", "ce", "none", 3),
        ("hsd_sketchbirds", "hsd", "none", 1),
        ("csdnet_sketchbirds", "csdnet", "none", 1),
    ],
)
def test_a_config_is_what_its_name_says(stem, objective, transfer, members):
    loaded = experiment(stem)
    assert (loaded.objective, loaded.transfer.name, loaded.members) == (
        objective,
        transfer,
        members,
    )


@pytest.mark.parametrize("stem", ON_BENCHMARKS)
def test_methods_on_one_set_and_network_differ_in_the_method_alone(stem):
    _, benchmark, network = stem.split("_", 2)
    if network == "vgg16":
        return
    changed = config.differences(experiment(f"ce_{benchmark}_{network}"), experiment(stem))
    fields = {line.split()[0] for line in changed}
    assert fields <= {"--objective", "--members", "--transfer.name"}


def test_the_kt_recipe_is_that_of_methods():
    for stem, width in (("kt_cub_resnet50", 512), ("kt_cub_vgg16", 4096)):
        kt = experiment(stem)
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
    spec = experiment(f"csdnet_{benchmark}_resnet50")
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
