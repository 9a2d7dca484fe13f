"""The house's rules: imports go down, no cycles, documented public names, nothing stray."""

import ast
import hashlib
import importlib.machinery
import importlib.util
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import LONG, ROOT

import fgvc_jax
from fgvc_jax.config import Experiment, load_config
from fgvc_jax.utils import options

PACKAGE = ROOT / "fgvc_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

HOUSE = SimpleNamespace(**runpy.run_path(str(ROOT / "scripts/house.py")))
HERE = HOUSE.House.of(PACKAGE)
MODULES = HERE.modules
MOST_LINES = {"file": 400, "class": 150}


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_imports_go_down_only_and_in_no_circle():
    assert HERE.upward() == []
    assert HERE.circles() == [] and HERE.circles_of_rooms() == []


def test_every_room_is_on_a_floor():
    rooms = {HOUSE.room(name) for name in MODULES} - set(HOUSE.DOORS)
    assert {name for name in rooms if not HOUSE.floor(name)} == set()


def test_the_architecture_tells_of_these_floors_and_of_files_that_are_there():
    text = (ROOT / "docs/ARCHITECTURE.md").read_text()
    rows = re.findall(r"^\| (\d) \| (.*?) \|", text, re.M)
    told = {int(floor): set(re.findall(r"`(\w+)`", rooms)) for floor, rooms in rows}
    assert told == {n: set(rooms) for n, rooms in enumerate(HOUSE.FLOORS, start=1)}
    story = text.partition("## Nine files")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\| `[\w/]+\.py` \|", story, re.M)) == 9
    beside = PACKAGE / "objectives", PACKAGE / "training/precomputed", PACKAGE, ROOT
    for file in re.findall(r"`([\w/]+\.(?:py|md))", text):
        assert any((folder / file).is_file() for folder in beside), file


def test_the_plan_of_a_house_is_read_right(tmp_path):
    """An upward import inside a function, a circle, and a way down."""
    for name, text in {
        "utils/low": "def f():\n    from fgvc_jax.training import high",
        "training/high": "from fgvc_jax.utils.low import f",
        "training/step": "import fgvc_jax.training.high",
    }.items():
        file = tmp_path / "fgvc_jax" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        (file.parent / "__init__.py").touch()
    (tmp_path / "fgvc_jax/__init__.py").touch()
    house = HOUSE.House.of(tmp_path / "fgvc_jax")
    low, high = "fgvc_jax.utils.low", "fgvc_jax.training.high"
    assert house.upward() == [(low, high)]
    assert house.circles() == [[high, low]] and house.circles_of_rooms() == [["training", "utils"]]
    assert house.arrows() == {("utils", "training"), ("training", "utils")}
    told = HOUSE.report(tmp_path / "fgvc_jax")
    assert "upward arrows: 1\n" in told and "root of the package: 1\n" in told


def test_files_and_classes_are_short():
    sizes = [each for path in FILES for each in HOUSE.sizes(path)]
    assert [each for each in sizes if each[0] > MOST_LINES.get(each[1], each[0])] == []


def test_the_root_of_the_package_is_small():
    assert len(list(PACKAGE.glob("*.py"))) <= 16
    assert len({path.parent for path in PACKAGE.glob("*/*.py")}) <= 11


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("[!_]*.py")), ids=module)
def test_a_door_starts_the_body_of_its_name(path):
    if path.stem in HOUSE.DOORS:
        assert f'start.begin("{path.stem}")' in path.read_text()
        assert len(path.read_text().splitlines()) <= 10
        assert (PACKAGE / "commands" / path.name).exists()


def test_commands_do_not_import_commands():
    bodies = {name for name in MODULES if name.startswith("fgvc_jax.commands.")}
    names = "start", "server", "asked", "common", "named", "lists"
    shared = {f"fgvc_jax.commands.{name}" for name in names}
    for name in bodies:
        assert not HERE.imports[name] & (bodies - shared), name


@pytest.mark.parametrize("path", FILES, ids=module)
def test_public_names_are_documented(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{path.name} has no docstring"
    kinds = ast.FunctionDef, ast.ClassDef
    for node in tree.body:
        if isinstance(node, kinds) and not node.name.startswith("_") and node.name != "main":
            short = isinstance(node, ast.FunctionDef) and len(node.body) == 1
            assert ast.get_docstring(node) or short, f"{module(path)}.{node.name}"


LEAVES = "networks", "objectives", "transfer.py", "data/augment.py", "data/view.py"
FILES_OF_WEIGHTS = (
    "weights.py",
    "stored.py",
    "fetched.py",
)  # what is wrong with them is the user's at once


def test_leaves_raise_argument_errors_and_know_no_flag():
    """Which flag an argument came by, only those above know (`config.flagged`)."""
    folder = ROOT / "fgvc_jax"
    for path in FILES:
        if not any(path.is_relative_to(folder / leaf) for leaf in LEAVES):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and path.name not in FILES_OF_WEIGHTS:
                text = ast.unparse(node)
                assert "UserError" not in text and "--" not in text, f"{path}: {text}"


def test_annotations_say_more_than_any():
    """The rest is truly anything: JSON of a file, a program's options, what Flax gives in pairs."""
    assert sum(map(HOUSE.typed_any, FILES)) <= 35


# Layers of one family of networks; and parts of report.json as they are computed, and as JSON has
# them. `config.Network` is what configs say of a network, `networks.Network` the network: both are
# names that users' code relies on.
SHARED_NAMES = {"Block", "Stage", "Calibration", "Card", "Neighbour", "Network"}


def test_no_two_classes_have_one_name():
    classes = [
        node.name
        for path in FILES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert {name for name in classes if classes.count(name) > 1} == SHARED_NAMES


def test_every_file_has_its_test():
    tested = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    for path in FILES:
        if path.name != "__init__.py":
            assert f"test_{path.stem.strip('_')}.py" in tested, path


def test_the_long_files_of_tests_are_there():
    assert {*LONG} <= {path.stem for path in (ROOT / "tests").rglob("test_*.py")}


def test_tracked_files_are_sources():
    """Data, weights, runs and caches are never committed; the README's pictures are small, the
    ledger of studies grows."""
    try:
        listed = subprocess.run(
            ["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=True
        ).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    allowed = {".py", ".md", ".toml", ".txt", ".sh", ""}
    pages = {".html", ".css", ".js"}
    for name in listed:
        path = ROOT / name
        ledger = name.startswith("scripts/studies/RES") or path.match("studies/results/*")
        configured = ".github/workflows/tests.yml", "mkdocs.yml", "docs/site.css", "CITATION.cff"
        own = path.match(".github/*.*g") or name in configured
        own = own or (ledger and path.suffix in (".csv", ".jsonl"))
        drawn = path.match("scripts/studies/figures/*.svg")
        own = own or name == "fgvc_jax/data/cub_taxonomy.csv"  # a table, which people may copy
        guide = path.match("docs/guides/*.ipynb")
        page = path.match("fgvc_jax/figures/templates/*") and path.suffix in pages
        assert path.suffix in allowed or own or page or guide or drawn, name
        largest = 5_000_000 if ledger else 200_000
        assert not path.exists() or path.stat().st_size < largest, name
    assert {name.split("/")[0] for name in listed if not name.startswith(".")} <= {
        "fgvc_jax", "configs", "scripts", "tests", "docs", "pyproject.toml", "README.md", "LICENSE",
        "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "Dockerfile", "mkdocs.yml",
    }  # fmt: skip


def test_one_version_is_said_everywhere():
    heading = re.search(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert heading[1] == cited[1] == fgvc_jax.__version__


def test_every_package_is_in_the_wheel():
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {str(path.parent.relative_to(ROOT)) for path in PACKAGE.rglob("*.py")}
    assert {name.replace(".", "/") for name in built["packages"]} == folders | {"fgvc_jax/configs"}
    assert built["package-dir"] == {"fgvc_jax.configs": "configs"}
    # What is no module is in it (and in the sdist) only where a pattern names it.
    beside = {path for path in PACKAGE.rglob("*.*") if path.suffix not in (".py", ".pyc")}
    matched = {
        path
        for package, patterns in built["package-data"].items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    assert beside and beside == matched


# Modules that come with another package than one of their name.
DISTRIBUTIONS = {
    "PIL": "pillow", "anyio": "starlette", "google": "google-cloud-storage",
    "orbax": "orbax-checkpoint", "requests": "google-cloud-storage",
    "_typeshed": "mypy",
}  # fmt: skip


def test_extras_that_are_named_are_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = "\n".join(path.read_text() for path in [*FILES, *ROOT.glob("docs/**/*.md")])
    named = re.findall(r"(?:\bfgvc_jax|\.)\[([a-z][a-z\d,]*)\]'?", texts)
    extras = {extra for each in named for extra in each.split(",")}
    assert {"cuda", "cuda12", "hf", "lite"} <= extras
    assert extras <= project["optional-dependencies"].keys()


def test_what_is_imported_is_declared():
    """Also where it comes along with another package today."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {re.match(r"[\w-]+", word)[0].replace("_", "-") for words in lists for word in words}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            for top in {name.partition(".")[0] for name in names} - sys.stdlib_module_names:
                name = DISTRIBUTIONS.get(top, top).replace("_", "-")
                assert name in declared | {"fgvc-jax"}, f"{module(path)} imports {top}"


def test_what_is_large_and_seldom_needed_is_imported_where_it_is():
    """208 MB are installed for `tfds:` alone, and cost nobody else the time of an import."""
    found = set()
    large = {"tensorflow_datasets", "pyarrow"}
    for path in FILES:
        text = path.read_text()
        if not any(name in text for name in large):
            continue
        tree = ast.parse(text)
        here = {node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)}
        functions = [each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)]
        inside = {node for function in functions for node in ast.walk(function)}
        for node in here:
            module = getattr(node, "module", None) or ""
            names = {module.split(".")[0], *(alias.name.split(".")[0] for alias in node.names)}
            if names & large and not _for_types(tree, node):
                assert node in inside, path
                found.add(path.relative_to(PACKAGE).as_posix())
    assert found == {"data/tfds.py", "commands/embed.py"}


def _for_types(tree: ast.Module, node: ast.AST) -> bool:
    """Whether an import is below `if TYPE_CHECKING`."""
    checks = [each for each in tree.body if isinstance(each, ast.If)]
    return any(node in ast.walk(each) for each in checks if "TYPE_CHECKING" in ast.dump(each.test))


def test_no_script_or_test_has_the_name_of_an_installed_package():
    """Both folders come before installed packages: a script promise.py broke tensorflow-datasets,
    which imports a package of that name."""
    elsewhere = [each for each in sys.path if not Path(each or ".").resolve().is_relative_to(ROOT)]
    elsewhere += [each for each in sys.path if "site-packages" in each]  # a .venv in the checkout
    for folder in ("scripts", "tests"):
        for path in (ROOT / folder).iterdir():
            if path.suffix == ".py" or (path / "__init__.py").exists():
                found = importlib.machinery.PathFinder.find_spec(path.stem, elsewhere)
                assert found is None, f"{path} hides {found}"


def test_the_license_is_complete():
    assert (
        tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"] == "Apache-2.0"
    )
    # The text as www.apache.org/licenses/LICENSE-2.0.txt has it.
    digest = hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest()
    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_pages_name_is_there(page):
    """Configs, files, commands and options."""
    text = page.read_text()
    for word in re.findall(r"--config (?!mine|folder:)([\w:,./]+)", text):
        load_config(word)
    for path in re.findall(r"(?:scripts|configs)/[\w/]+\.(?:py|md)", text):
        assert (ROOT / path).exists() or path.endswith("FILE.py"), path
    for name in re.findall(r"python -m (fgvc_jax[.\w]*)", text):
        assert importlib.util.find_spec(name), name
    known = {flag for flag, _, _ in options.fields(Experiment())}
    groups = {flag.partition(".")[0] for flag in known if "." in flag}
    for flag in re.findall(r"--[a-z]+\.[\w-]+", text):
        assert flag in known or flag.partition(".")[0] not in groups, flag
