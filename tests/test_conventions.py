"""The house's rules: imports go down, no cycles, documented public names, nothing stray."""

import ast
import hashlib
import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT

from fgvc_jax.config import load_config

PACKAGE = ROOT / "fgvc_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

# Later rooms may import from earlier ones and from their own, never the other way round.
ROOMS = (
    {"errors", "options", "machine", "signals", "paths", "peers", "text", "web"},
    {"bucket", "mirror", "locks"},
    {"storage", "metrics", "localization", "transfer", "data", "networks"},
    {"digests", "figures", "listing", "objectives"},
    {"config", "engine"},
    {"architecture", "recipes", "workdir", "ensemble", "predictions", "thumbnails"},
    {"calibration", "card"},
    {"analysis"},
    {"model", "command"},
    {"cache", "start", "answering", "evidence"},
    {"trunk", "teacher", "scoring", "depiction"},
    {"lookups"},
    {"build"},
    {"judging", "summary"},
    {"kept"},
    {"train", "formats"},
    {"demo", "evaluate", "explain", "export", "inspect", "predict", "report", "study", "__main__"},
)


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in FILES}


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {name for name in found if name in MODULES and name != "fgvc_jax"}


def room(name: str) -> int:
    first = name.split(".")[1]
    return next(level for level, names in enumerate(ROOMS) if first in names)


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"fgvc_jax"}))
def test_imports_go_down_only(name):
    for other in imports(MODULES[name]):
        assert room(other) <= room(name), f"{name} imports {other}"


def test_no_import_cycles():
    graph = {name: imports(path) - {name} for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name, trail):
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for other in graph[name]:
                visit(other, [*trail, name])
            done.add(name)

    for name in graph:
        visit(name, [])


@pytest.mark.parametrize("path", FILES, ids=module)
def test_public_names_are_documented(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{path.name} has no docstring"
    kinds = ast.FunctionDef, ast.ClassDef
    for node in tree.body:
        if isinstance(node, kinds) and not node.name.startswith("_") and node.name != "main":
            short = isinstance(node, ast.FunctionDef) and len(node.body) == 1
            assert ast.get_docstring(node) or short, f"{module(path)}.{node.name}"


@pytest.mark.parametrize("room_name", ["data", "networks", "objectives", "engine"])
def test_rooms_do_not_read_the_config(room_name):
    for path in (PACKAGE / room_name).rglob("*.py"):
        assert "fgvc_jax.config" not in imports(path), path


@pytest.mark.parametrize(
    "path",
    [path for path in PACKAGE.glob("[!_]*.py") if "    command.run(main)" in path.read_text()],
    ids=module,
)
def test_a_command_prepares_before_it_imports(path):
    """While it imports, which takes seconds, a signal ends it in one line."""
    code = path.read_text().partition('"""\n\n')[2]
    first = 'from fgvc_jax import command\n\nif __name__ == "__main__":\n    command.prepare()\n'
    assert code.startswith(first)


def test_every_file_has_its_test():
    tested = {path.name for path in (ROOT / "tests").glob("test_*.py")}
    # Run by others' tests: thin files and those that only a whole run exercises.
    thin = {
        "__init__",
        "architecture",
        "recipes",
        "errors",
        "base",
        "cache",
        "records",
        "build",
        "evaluate",
        "workdir",
        "state",
        "loop",
        "best",
        "feed",
        "judging",
        "kept",
        "lookups",
        "start",
        "answering",
        "listing",
        "summary",
    }
    for path in FILES:
        if path.stem not in thin:
            assert f"test_{path.stem.strip('_')}.py" in tested, path


def test_tracked_files_are_sources():
    """Data, weights, runs and caches are never committed; the README's picture is small, the ledger
    of studies grows."""
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
        own = name == ".github/sketchbirds.png" or (ledger and path.suffix in (".csv", ".jsonl"))
        page = path.match("fgvc_jax/figures/templates/*") and path.suffix in pages
        assert path.suffix in allowed or own or page, name
        largest = 5_000_000 if ledger else 200_000
        assert not path.exists() or path.stat().st_size < largest, name
    assert {name.split("/")[0] for name in listed if not name.startswith(".")} <= {
        "fgvc_jax", "configs", "scripts", "tests", "pyproject.toml", "README.md", "LICENSE"
    }  # fmt: skip


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


def test_the_license_is_complete():
    assert (
        tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"] == "Apache-2.0"
    )
    # The text as www.apache.org/licenses/LICENSE-2.0.txt has it.
    digest = hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest()
    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def test_the_readme_is_short_and_its_commands_are_real():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    named = re.findall(r"--config (?!mine|folder:)([\w:,./]+)", text)
    assert named
    for word in named:
        load_config(word)
    for path in re.findall(r"(?:scripts|configs)/[\w/]+\.(?:py|md)", text):
        assert (ROOT / path).exists() or path.endswith("FILE.py"), path
    for name in re.findall(r"python -m (fgvc_jax[.\w]*)", text):
        assert importlib.util.find_spec(name), name
