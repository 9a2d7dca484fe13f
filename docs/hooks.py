"""What the site has beside docs/: the README, results, notebooks, and every command's --help."""

import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
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
FLAG = re.compile(r"(?<![\w-])--?[a-z][\w.-]*|'?\.\[[\w,]+\]'?")
TYPED = re.compile(r'(?<!</span>)<code>[^<]*</code>|<div class="language-bash.*?</div>', re.S)
CODE = re.compile(r"(<pre.*?</pre>|<code.*?</code>)", re.S)
# What is not broken in a sentence or a table: 95 %, an arrow, an interval, 1e-06.
TOGETHER = re.compile(r"\d\s%|[\d.]+e-\d+|-&gt;|\[-?\d[^][<]*\]|\(?[+-]?\d[\d.]* to [+-]?\d[\d.]*")
PLACES_TO_PART = re.compile(r"(?<=\w)[./](?=\w{3}|$)|^\.$")
LINE = re.compile(r'(<span id="__span-[\d-]+")>(.*?)(?=\n</span>)', re.S)
HEADING = re.compile(r"<h([2-6]) .*?</h\1>|<td>.*?</td>", re.S)
# The --help of a command: an option, what it may be, and what it does, perhaps a line below.
OPTION = re.compile(r"^  (\S.*?)(?:\s{2,}|\n\s+)(\S.*)$", re.M)
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


def on_page_content(content: str, page: Any, config: Any, files: Files) -> str:
    """Lines are broken where a reader would break them: not behind the hyphens of a flag, not
    before a %; a name of several words or folders behind its dots and slashes."""

    def whole(code: re.Match[str]) -> str:
        return in_text(code[0], lambda text: FLAG.sub(r'<span class="flag">\g<0></span>', text))

    def parted(found: re.Match[str]) -> str:
        return CODE.sub(lambda code: in_text(code[0], behind), found[0])

    def behind(text: str) -> str:
        short = FLAG.match(text) and len(text) < 24
        return text if short else PLACES_TO_PART.sub(r"\g<0><wbr>", text)

    parts = CODE.split(TYPED.sub(whole, content))  # text, code, text, ...
    parts[::2] = [TOGETHER.sub(r'<span class="flag">\g<0></span>', each) for each in parts[::2]]
    return HEADING.sub(parted, LINE.sub(hung, "".join(parts)))


def in_text(html_text: str, change: Callable[[str], str]) -> str:
    """HTML with its text changed, and no tag."""
    parts = re.split("(<[^>]*>)", html_text)  # text, a tag, text, ...
    parts[::2] = map(change, parts[::2])
    return "".join(parts)


def hung(line: re.Match[str]) -> str:
    """A line of code that knows where it goes on when it is too long: behind the = of a formula, or
    a little further in than it begins."""
    text = html.unescape(re.sub("<[^>]*>", "", line[2]))
    formula = re.match(r"\w{1,6}(\(\w\))? *[=:] ", text)
    hang = len(formula[0]) if formula else len(text) - len(text.lstrip()) + 2
    return f'{line[1]} style="--hang: {hang}ch">{line[2]}'


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
    parts, wide = ["# Commands\n"], os.environ | {"COLUMNS": "9999"}
    for name in COMMANDS:
        said = subprocess.run(
            [sys.executable, "-m", f"fgvc_jax.{name}", "--help-all"],
            capture_output=True, text=True, cwd=ROOT, check=True, env=wide,
        ).stdout  # fmt: skip
        usage, _, rest = said.partition("\n")
        usage = usage.removeprefix("usage: ")
        parts.append(f"## {name}\n\n```bash\n{usage}\n```\n\n{listed(rest)}\n")
    return "\n".join(parts)


def listed(said: str) -> str:
    """A --help as paragraphs and lists of options, which a telephone has room for as well."""

    def text(words: str) -> str:
        words = re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(words, quote=False))
        return re.sub(r"(?<![\w-])--[a-z][\w.-]*\b", r"<code>\g<0></code>", words)

    paragraphs = []
    for block in said.strip("\n").split("\n\n"):
        heading = "" if block.startswith("  ") else block.partition("\n  ")[0]
        options = OPTION.findall(block[len(heading) :])
        group, _, words = heading.rpartition(".*: ")
        paragraphs += [f"### {group}.*"] if group else []
        paragraphs += [f"<p>{text(words)}</p>"] if words else []
        entries = [
            f"<dt><code>{html.escape(name)}</code></dt><dd>{text(words)}</dd>"
            for name, words in options
        ]
        paragraphs += [f"<dl>{''.join(entries)}</dl>"] if entries else []
    return "\n\n".join(paragraphs)
