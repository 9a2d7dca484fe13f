"""What the site has beside docs/: the README, results, notebooks, and every command's --help."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = [
    "train",
    "inspect",
    "evaluate",
    "report",
    "predict",
    "explain",
    "embed",
    "export",
    "demo",
]
# Where the site has a file of the project, by where the project has it.
PLACES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "scripts/BENCHMARKS.md": "BENCHMARKS.md",
}
PICTURES = ROOT / ".github"
WIDE = "studies/pages/", "reference/trunks.md"  # their tables take the place of the menu beside
FLAG = re.compile(r"(?<![\w-])--?[a-z][\w.-]*")
TYPED = re.compile(r'(?<!</span>)<code>[^<]*</code>|<div class="language-bash.*?</div>', re.S)
MEASURED = re.compile(r"^## ([\w ]+): (.*=.*)\n", re.M)
LINK = re.compile(r"(\]\()([^)#\s:]+)([)#])")


def on_files(files: Files, config: Any) -> Files:
    """Add them: pages with their links to each other, figures as they are."""
    studies = ROOT / "scripts/studies"
    pages = [*studies.glob("*.md"), *studies.glob("pages/*.md"), *studies.glob("figures/*.svg")]
    places = PLACES | {
        str(path.relative_to(ROOT)): str(Path("studies") / path.relative_to(studies))
        for path in pages
    }
    places |= {
        str(path.relative_to(ROOT)): str(path.relative_to(ROOT / "docs"))
        for path in (ROOT / "docs").rglob("*.md")
    }
    places |= {
        str(path.relative_to(ROOT)): str(path.relative_to(ROOT / "docs").with_suffix(".md"))
        for path in (ROOT / "docs").rglob("*.ipynb")
    }
    places |= {f".github/{path.name}": f"pictures/{path.name}" for path in PICTURES.glob("*.*g")}
    for source, place in places.items():
        if source.startswith("docs/"):
            continue
        if source.endswith(".md"):
            text = linked((ROOT / source).read_text(), source, place, places)
            text = MEASURED.sub(shorter, text) if place == "BENCHMARKS.md" else text
            files.append(File.generated(config, place, content=text))
        else:
            files.append(File.generated(config, place, content=(ROOT / source).read_bytes()))
    for path in (ROOT / "docs").rglob("*.ipynb"):
        place = str(path.relative_to(ROOT / "docs").with_suffix(".md"))
        files.append(File.generated(config, place, content=notebook(path)))
    files.append(File.generated(config, "reference/commands.md", content=commands()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links out of docs/, and to notebooks, lead to where the site has their aims."""
    if page.file.src_uri.startswith(WIDE):
        page.meta["hide"] = ["toc"]
    markdown = re.sub(r"(\]\([^):]*)\.ipynb\)", r"\1.md)", markdown)
    return re.sub(r"\]\(((?:\.\./)*)\.\./scripts/studies/", r"](\1studies/", markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """A flag, in a sentence or a command, is not broken behind its hyphens."""

    def whole(code: re.Match[str]) -> str:
        parts = re.split("(<[^>]*>)", code[0])  # text, a tag, text, ...
        parts[::2] = [FLAG.sub(r'<span class="flag">\g<0></span>', part) for part in parts[::2]]
        return "".join(parts)

    return TYPED.sub(whole, html)


def notebook(path: Path) -> str:
    """A notebook's cells, its code to be read, and where the notebook itself is."""
    cells = json.loads(path.read_text())["cells"]
    texts = ["".join(cell["source"]) for cell in cells]
    fenced = [
        f"```python\n{text}\n```" if cell["cell_type"] == "code" else text
        for cell, text in zip(cells, texts, strict=True)
    ]
    itself = f'This page is a notebook: <a href="{path.name}">{path.name}</a>.'
    return "\n\n".join([*fenced, itself]) + "\n"


def linked(text: str, source: str, place: str, places: dict[str, str]) -> str:
    """A page whose links lead where the site has their aims; a link to what it has not, as to code,
    becomes its words."""

    def moved(match: re.Match[str]) -> str:
        before, aim, after = match.groups()
        there = (ROOT / source).parent.joinpath(aim).resolve()
        aim = places.get(str(there.relative_to(ROOT)) if there.is_relative_to(ROOT) else "", "")
        up = "../" * place.count("/")
        return f"{before}{up}{aim}{after}" if aim else match.group(0)

    text = LINK.sub(moved, text)
    known = {Path(aim).name for aim in places.values()}
    return re.sub(
        r"!?\[([^\]]*)\]\(([^#):][^):]*)\)",
        lambda found: found.group(0) if Path(found.group(2)).name in known else found.group(1),
        text,
    )


def shorter(heading: re.Match[str]) -> str:
    """The heading of a measurement without its words, which stand below: it is in a menu, too."""
    kind, words = heading.groups()
    chosen = re.findall(r"(?:topology|network|source)=([^ ;]+)", words)
    return f"## {', '.join([kind, *chosen])}\n\n`{words.strip()}`\n"


def commands() -> str:
    """What every command says of itself."""
    parts, narrow = ["# Commands\n"], os.environ | {"COLUMNS": "76"}
    for name in COMMANDS:
        asked = "--help-all" if name == "train" else "--help"
        said = subprocess.run(
            [sys.executable, "-m", f"fgvc_jax.{name}", asked],
            capture_output=True, text=True, cwd=ROOT, check=True, env=narrow,
        ).stdout  # fmt: skip
        parts.append(f"## {name}\n\n```text\n{said.rstrip()}\n```\n")
    return "\n".join(parts)
