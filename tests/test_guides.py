"""The guides are true: their commands are read, their walks end well, their notebooks run."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import FAST, ROOT, tiny
from PIL import Image

from fgvc_jax.commands import asked
from fgvc_jax.data.sources import open_source
from fgvc_jax.inference.export import onnxruntime_web
from fgvc_jax.training import experiments, members
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.options import HELP, fields, positional, said

GUIDES = ROOT / "docs/guides"
NOTEBOOKS = sorted(GUIDES.glob("*.ipynb"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r'^```(\w+)(?: title="([^"]*)")?\n(.*?)^```', re.M | re.S)
COMMAND = re.compile(r"python -m fgvc_jax\.(\w+)")
# What begins so in a guide and is typed by no walk below, and what runs it with other words.
ELSEWHERE = {
    "pip install ": "tests/test_guides.py::test_extras_and_scripts_are_there",
    "sbatch ": "tests/scripts/test_launch.py::test_a_slurm_job_waits_again_only_where_it_was_asked",
    "scripts/launch/tpu.sh ": "tests/scripts/test_launch.py::test_a_tpu_is_given_the_words_as_they",
    "export JAX_COORDINATOR_ADDRESS=": "tests/utils/test_devices.py::test_two_processes_of_two_dev",
    "python -m http.server ": "tests/test_site_in_browser.py::test_it_answers_at_once_and_offline",
    "HF_TOKEN=": "tests/inference/export/test_pushed.py::test_everything_goes_in_one_commit",
    "docker ": "",  # never built, which the page says
}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def blocks(page, language):
    """(title, text) of the blocks of a page."""
    return [found[1:] for found in FENCE.findall(page.read_text()) if found[0] == language]


def commands(page):
    """The commands of a page, without what is said of them."""
    text = "\n".join(text for _, text in blocks(page, "bash")).replace("\\\n", " ")
    lines = [line.partition("  #")[0].strip() for line in text.splitlines()]
    return [part for line in lines for part in line.split(" && ") if part]


LINES = [(page, line) for page in PAGES for line in commands(page)]


def test_a_command_is_read_to_the_end_of_its_line():
    found = commands(GUIDES / "compare.md")
    assert "python scripts/study.py mine.py --workdir runs/mine" in found and len(found) >= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_extras_and_scripts_are_there(page):
    for line in commands(page):
        for extras in re.findall(r"\.\[([\w,]+)\]", line):
            assert set(extras.split(",")) <= EXTRAS.keys(), line
        for script in re.findall(r"scripts/[\w/]+\.(?:py|sh)", line):
            assert (ROOT / script).is_file(), line


@pytest.mark.parametrize(
    "line", [line for _, line in LINES if COMMAND.search(line)], ids=lambda line: line[-60:]
)
def test_every_option_of_a_command_is_known(line):
    name, words = COMMAND.search(line)[1], shlex.split(line)
    words = words[words.index(f"fgvc_jax.{name}") + 1 :]
    if name == "train":
        _, words = positional(words, experiments.Experiment())
        config = said(words, "--config") or "tiny"
        if not (ROOT / f"configs/{config.partition(':')[0]}.py").is_file():
            words = [*words, "--config", "tiny"]  # a file that the reader writes
        new = "--objective focal", "--network.name plain"  # what the guide adds: the walk below
        if not any(each in line for each in new):
            experiments.parse(words)
    else:
        _, words = positional(words, asked.COMMANDS[name]())
        asked.read(asked.COMMANDS[name], name, words)


# Of the launcher of studies, of power.py, of Docker and of XLA.
OTHER_FLAGS = {"--config", "--seeds", "--minutes", "--half-width", "--base.NAME", "--build-arg"}
OTHER_FLAGS |= {"--xla_gpu_deterministic_ops", *HELP}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_flag_of_a_sentence_is_known(page):
    commands = [experiments.Experiment(), *(kind() for kind in asked.COMMANDS.values())]
    known = {flag for each in commands for flag, _, _ in fields(each)} | OTHER_FLAGS
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for code in re.findall(r"`([^`]*)`", text):
        assert set(re.findall(r"(?<![\w-])--[a-z][\w.-]*\b", code)) <= known, code


WALKED = "photographs.md", "compare.md", "extend.md", "workstation.md", "handing_on.md"
ON_A_POD = {
    "--distributed True": "tests/utils/test_devices.py::test_two_processes_of_two_devices_train",
    "gs://BUCKET/kt": "tests/test_gs.py::test_killed_and_continued_without_the_mirror",
}


@pytest.mark.parametrize("page", [ROOT / "README.md", *GUIDES.glob("*.md")], ids=lambda p: p.name)
def test_a_command_is_run_by_a_test(page):
    """By the walk of a page, or by one that is named; README's first two by .ci/run."""
    typed = {line for name in WALKED for line in commands(GUIDES / name) if not elsewhere(line)}
    for line in commands(page):
        if line in typed or (page.name == "README.md" and ".venv" in line):
            continue
        name = elsewhere(line)
        if not name and line.startswith("docker "):
            assert "never built" in page.read_text()
            continue
        file, _, test = name.partition("::")
        assert test and f"def {test}" in (ROOT / file).read_text(), line


def elsewhere(line):
    """The test that runs a command that no walk types; empty where there is none."""
    begins = [name for begin, name in ELSEWHERE.items() if line.startswith(begin)]
    return next(iter(begins + [name for word, name in ON_A_POD.items() if word in line]), "")


# -- walks -----------------------------------------------------------------------------------------


def birds(folder, classes=4, count=8):
    """A folder of drawn birds, one folder a class."""
    source = open_source("sketchbirds").train
    left = {label: count for label in range(classes)}
    for number, label in enumerate(source.labels.tolist()):
        if left.get(label):
            left[label] -= 1
            place = folder / f"bird {label}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(source[number]["image"]).save(place / f"{left[label]}.jpg")


def walk(page, cwd, tree=ROOT, more=()):
    """Type the commands of a page, one after the other; `more` words after those that begin so."""
    assert page.name in WALKED
    for line in commands(page):
        if elsewhere(line):
            continue
        line += "".join(words for beginning, words in more if line.startswith(beginning))
        ran = re.sub(r"\bpython\b", shlex.quote(sys.executable), line)
        environment = {"PYTHONPATH": str(tree), "XLA_FLAGS": FAST}
        done = subprocess.run(
            ran, shell=True, cwd=cwd, capture_output=True, text=True, env=os.environ | environment
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


@pytest.mark.slow
def test_photographs_from_folder_to_answers(tmp_path):
    birds(tmp_path / "birds", count=12)
    birds(tmp_path / "photos", classes=2, count=2)
    walk(GUIDES / "photographs.md", tmp_path)
    rows = (tmp_path / "answers.csv").read_text().splitlines()
    assert len(rows) == 1 + 4 and "bird" in rows[1]
    assert (tmp_path / "inspect.html").stat().st_size > 10_000
    assert "What to do next" in (tmp_path / "report.html").read_text()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_two_methods_are_compared(tmp_path):
    page = GUIDES / "compare.md"
    for name in ("scripts", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    for title, text in blocks(page, "python"):
        smaller = text.replace('"kt:sketchbirds"', '"tiny"').replace("seeds=4", "seeds=2")
        assert smaller.count("tiny") == smaller.count("seeds=2") == 1
        (tmp_path / title).write_text(smaller)
    walk(page, tmp_path, more=[("python scripts/study.py mine.py --config", " --minutes 0")])
    table = (tmp_path / "runs/mine/study.md").read_text()
    assert "independent" in table and "kt" in table
    assert (tmp_path / "against.html").stat().st_size > 10_000


@pytest.mark.slow
def test_a_published_recipe_in_small(tmp_path):
    words = "--data.source sketchbirds --data.classes 4 --data.images-per-class 8 --data.resize 36"
    words += " --data.crop 32 --data.pad 2 --network.name resnet_micro --network.weights ''"
    words += " --network.head-width 16 --network.batch-norm-groups 1 --batch-size 8 --epochs 1"
    train = "python -m fgvc_jax.train --config"
    devices = "CUDA_VISIBLE_DEVICES=0 " + train
    more = [(each, f" {words} --members 2") for each in (train, devices)]
    walk(GUIDES / "workstation.md", tmp_path, more=more)
    for name, transfer in ("kt", "orthogonal"), ("ce", "none"):
        record = json.loads((tmp_path / f"runs/{name}/config.json").read_text())
        assert record["transfer"]["name"] == transfer
        assert (tmp_path / f"runs/{name}/results.json").is_file()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_run_is_handed_on(tmp_path):
    pytest.importorskip("onnx")
    try:
        onnxruntime_web.runtime("")
    except UserError as error:
        pytest.skip(str(error))
    birds(tmp_path / "birds", count=12)
    source = f"folder:{tmp_path / 'birds'}"
    data = replace(tiny().data, source=source, classes=0, images_per_class=0, validation=0.2)
    members.train(tiny(tmp_path / "runs/birds", data=data))
    # Of so few images one is more than what is tolerated of a smaller file.
    few = [("python -m fgvc_jax.export runs/birds --output small", " --tolerance 1")]
    walk(GUIDES / "handing_on.md", tmp_path, more=few)
    sizes = [(tmp_path / name / "model.onnx").stat().st_size for name in ("small", "smaller")]
    assert (tmp_path / "site/index.html").is_file() and max(sizes) < 200_000


@pytest.mark.exhaustive
@pytest.mark.slow
def test_what_is_added_is_trained(tmp_path):
    page, tree = GUIDES / "extend.md", tmp_path / "tree"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("fgvc_jax", "configs"):
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    for title, text in blocks(page, "python"):
        path, _, table = title.partition(": ")
        if not table:
            place = (tmp_path if path.startswith("tests/") else tree) / path
            assert not place.exists()
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
            continue
        imported = "".join(re.findall("^from .*\n", text, re.M))
        entry = text.removeprefix(imported)
        lines = (tree / path).read_text().splitlines()
        (start,) = [n for n, line in enumerate(lines) if re.match(rf"{table}\b.*{{$", line)]
        lines.insert(start + 1, entry.rstrip())
        last = max(n for n, x in enumerate(lines[:start]) if re.match(r"from fgvc.*[^(]$", x))
        lines.insert(last + 1, imported.rstrip())
        (tree / path).write_text("\n".join(lines) + "\n")
    birds(tmp_path / "drawn", classes=3, count=12)
    pets(tmp_path / "drawn", tmp_path / "pets")
    walk(page, tmp_path, tree)
    record = json.loads((tmp_path / "runs/focal/config.json").read_text())
    assert record["focal"] == {"gamma": 1.0}
    assert json.loads((tmp_path / "runs/pets/results.json").read_text())["images"]["test"] > 0


def pets(drawn: Path, root: Path):
    """What Oxford-IIIT Pet looks like, of drawn birds."""
    (root / "annotations").mkdir(parents=True)
    (root / "images").mkdir()
    lines = {"trainval.txt": [], "test.txt": []}
    for breed, folder in enumerate(sorted(drawn.iterdir()), start=1):
        for number, file in enumerate(sorted(folder.iterdir())):
            name = f"Breed_{'abc'[breed - 1]}_{number}"
            shutil.copy(file, root / f"images/{name}.jpg")
            lines["test.txt" if number < 3 else "trainval.txt"].append(f"{name} {breed} 1 {breed}")
    for name, each in lines.items():
        (root / "annotations" / name).write_text("\n".join(each))


# -- notebooks -------------------------------------------------------------------------------------


def cells_of(path):
    return [each for each in json.loads(path.read_text())["cells"] if each["cell_type"] == "code"]


def run(source, names):
    """Run a cell; what its last line is worth, where that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "a cell", "exec"), names)
    return last and eval(compile(ast.Expression(last.value), "a cell", "eval"), names)


def test_there_are_notebooks_without_outputs():
    assert NOTEBOOKS
    for path in NOTEBOOKS:
        for cell in cells_of(path):
            assert cell["outputs"] == [] and cell["execution_count"] is None, path


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, elsewhere, capsys):
    names = {}
    shown = [run("".join(cell["source"]), names) for cell in cells_of(path)]
    pages = [each._repr_html_() for each in shown if hasattr(each, "_repr_html_")]
    assert "<iframe" in pages[0] and "<img" in pages[-1]
    printed = capsys.readouterr()
    assert "member 2/2  epoch 3/3" in printed.out and "3 1 " in printed.out and not printed.err
    assert (elsewhere / "why.png").exists()


def test_tables_for_spreadsheets_are_made_safe():
    assert "--csv-safe" in (GUIDES / "photographs.md").read_text()
