"""The notebooks of docs/guides run from top to bottom, and are kept without what they print."""

import ast
import json

import pytest
from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "docs/guides").glob("*.ipynb"))


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
