"""The floor plan of the package in numbers: rooms, sizes, and which room imports which.

    python scripts/house.py [FOLDER]      of this checkout, or of another one

A room is a folder of the package or a module in its root. An arrow is an import of one room by
another; it goes down when the other is on a lower floor, see FLOORS. Imports in functions count.
"""

import argparse
import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# From below; rooms of one floor may know each other, as long as no circle arises.
FLOORS = (
    ("utils",),
    ("data", "networks", "transfer", "ensemble"),
    ("objectives", "evaluation"),
    ("config",),
    ("published", "recipes", "workdir"),
    ("inference",),
    ("training", "figures"),
    ("study",),
    ("commands",),
)
# What `import fgvc_jax` and `python -m fgvc_jax.<command>` open stands outside of the floors.
DOORS = (
    "__init__",
    "__main__",
    *("demo", "embed", "evaluate", "explain", "export", "inspect", "predict", "report", "train"),
)


@dataclass(frozen=True)
class House:
    """A package as it lies in a folder.

    modules: {dotted name: its file}. imports: {dotted name: those of the package it imports}.
    """

    modules: dict[str, Path]
    imports: dict[str, set[str]]

    @classmethod
    def of(cls, package: Path) -> "House":
        """Read the package in a folder."""
        files = {_name(path, package): path for path in sorted(package.rglob("*.py"))}
        found = {name: _imports(path, set(files)) - {name} for name, path in files.items()}
        return cls(files, found)

    def arrows(self) -> set[tuple[str, str]]:
        """(room, a room that it imports), doors left out."""
        pairs = {(room(a), room(b)) for a, others in self.imports.items() for b in others}
        return {(a, b) for a, b in pairs if a != b and not {a, b} & set(DOORS)}

    def upward(self) -> list[tuple[str, str]]:
        """(module, a module that it imports) on a higher floor."""
        return sorted(
            (a, b)
            for a, others in self.imports.items()
            for b in others
            if not {room(a), room(b)} & set(DOORS) and floor(room(a)) < floor(room(b))
        )

    def circles(self) -> list[list[str]]:
        """Modules that import each other in a circle, also by way of others."""
        return _circles(self.imports)

    def circles_of_rooms(self) -> list[list[str]]:
        """Rooms that import each other in a circle."""
        graph: dict[str, set[str]] = {}
        for a, b in self.arrows():
            graph.setdefault(a, set()).add(b)
            graph.setdefault(b, set())
        return _circles(graph)


def room(module: str) -> str:
    """The room of a module `fgvc_jax.ROOM...`."""
    return (module.split(".") + ["__init__"])[1]


def floor(name: str) -> int:
    """From 1; of a room that has none, 0."""
    return next((n for n, rooms in enumerate(FLOORS, start=1) if name in rooms), 0)


def _name(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path, modules: set[str]) -> set[str]:
    """Modules of the package that a file imports anywhere, the package itself left out."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            inside = names & modules
            found |= inside | ({node.module} if names - inside else set())
    return {name for name in found & modules if "." in name}


def _circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected parts of more than one node (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            part = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(part) > 1:
                found.append(sorted(part))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def sizes(path: Path) -> Iterator[tuple[int, str, str]]:
    """(lines, "file", "function" or "class", its name) of a file and of what it defines."""
    text = path.read_text()
    yield len(text.splitlines()), "file", path.name
    kinds = {ast.FunctionDef: "function", ast.ClassDef: "class"}
    for node in ast.walk(ast.parse(text)):
        if type(node) in kinds:
            yield node.end_lineno - node.lineno + 1, kinds[type(node)], f"{path.name}:{node.name}"


def typed_any(path: Path) -> int:
    """Arguments, fields and returns that are said to be `Any` and nothing more."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text()))]
    hints = [getattr(node, "annotation", None) or getattr(node, "returns", None) for node in nodes]
    return sum(isinstance(hint, ast.Name) and hint.id == "Any" for hint in hints)


def report(package: Path) -> str:
    """What there is to know, a line each."""
    house = House.of(package)
    files = list(house.modules.values())
    found = [each for path in files for each in sizes(path)]
    lines = [
        f"modules in the root of the package: {len(list(package.glob('*.py')))}",
        f"folders in the root of the package: {len({p.parent for p in package.glob('*/*.py')})}",
        f"files: {len(files)}, lines: {sum(n for n, kind, _ in found if kind == 'file'):,}",
    ]
    for kind in ("file", "class", "function"):
        longest = sorted((each for each in found if each[1] == kind), reverse=True)[:3]
        told = ", ".join(f"{name} {count}" for count, _, name in longest)
        lines.append(f"longest, {kind}: {told}")
    arrows = house.arrows()
    lines.append(f"rooms: {len({room(m) for m in house.modules})}, arrows between: {len(arrows)}")
    lines.append(f"upward arrows: {len(house.upward())}")
    lines += [f"  {a} -> {b}" for a, b in house.upward()]
    for what, circles in (("modules", house.circles()), ("rooms", house.circles_of_rooms())):
        lines.append(f"circles of {what}: {len(circles)}")
        lines += [f"  {' <-> '.join(names)}" for names in circles]
    lines.append(f"annotations that are Any alone: {sum(map(typed_any, files))}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    checkout = Path(__file__).resolve().parents[1]
    parser.add_argument("folder", nargs="?", type=Path, default=checkout, help="a checkout")
    package = parser.parse_args().folder / "fgvc_jax"
    if not package.is_dir():
        parser.error(f"{str(package)!r} is no folder: name a checkout")
    print(report(package))


if __name__ == "__main__":
    main()
