"""Names and tables on a terminal and in CSV, where a name may come from anywhere; JSON's values."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, TypeAlias

Json: TypeAlias = "None | bool | int | float | str | Sequence[Json] | Mapping[str, Json]"


def printable(text: str) -> str:
    """The text with line breaks, control characters, marks of writing direction and undecodable
    bytes as escapes, so that it can neither break a line nor disguise itself."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, labels: int = 1) -> str:
    """Columns under a header, for a terminal. The first `labels` columns, which are names, are
    aligned left, the others, numbers, right. The very first is cut to 48 characters, of which start
    and end stay."""
    cells = [[_cut(printable(str(row[0]))), *row[1:]] for row in (header, *rows)]
    return "\n".join("  ".join(row).rstrip() for row in _aligned(cells, labels))


def markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[object]], *, labels: int = 1
) -> str:
    """A Markdown table that is aligned as text, too: the first `labels` columns to the left."""
    names, *cells = _aligned([header, *rows], labels, least=3)
    widths = [len(name) for name in names]
    rule = ["-" * w if k < labels else "-" * (w - 1) + ":" for k, w in enumerate(widths)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (names, rule, *cells))


def _aligned(rows: Sequence[Sequence[object]], labels: int, least: int = 0) -> Iterator[list[str]]:
    """The cells, printable and as wide as their columns, which have `least` characters or more."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(least, *map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = enumerate(zip(row, widths, strict=True))
        yield [cell.ljust(w) if k < labels else cell.rjust(w) for k, (cell, w) in padded]


def _cut(name: str, most: int = 48) -> str:
    half = (most - 3) // 2
    return name if len(name) <= most else f"{name[: most - 3 - half]}...{name[-half:]}"


def no_formula(cell: object) -> object:
    """A cell of a table that no spreadsheet computes: text that begins as a formula does, which may
    send what stands beside it elsewhere, gets an apostrophe before it."""
    begins = isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    return f"'{cell}" if begins else cell


def no_formula_path(path: str) -> str:
    """A relative path as one of the same file that no spreadsheet computes."""
    return path if path == no_formula(path) else f"./{path}"


def csv_table(
    file: IO[str], columns: Sequence[str], *, safe: bool
) -> Callable[[Iterable[Mapping[str, Any]]], None]:
    """What writes rows as CSV below the header; `safe`: without formulas."""
    table = csv.DictWriter(file, columns, lineterminator="\n", restval="")
    table.writeheader()
    cell = no_formula if safe else lambda value: value
    return lambda rows: table.writerows({k: cell(v) for k, v in row.items()} for row in rows)


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can hold a text: no byte of a file name that is none was escaped in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def counted(count: int, noun: str) -> str:
    """A number with its noun: "1 image", "3,000 images", "2 classes"."""
    plural = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{plural}"


def calibrated(found: Mapping[str, Any]) -> list[str]:
    """Lines for people on the "calibration" in results.json. Results of earlier versions have no
    such lines, and no interval of the temperature."""
    return found.get("about") or [
        f"calibrated on {found['images']:,} validation images: temperature "
        f"{found['temperature']:.3f}, sets to cover {found['coverage']:.0%}"
    ]


def distinct(words: Iterable[str]) -> str:
    """Words behind commas, each once, in the order that they come first."""
    return ", ".join(dict.fromkeys(words))


def some(words: str, names: set[str]) -> list[str]:
    """Up to five names behind `words`, for a message; nothing where there are none."""
    if not names:
        return []
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return [f"{words}: {', '.join(repr(name) for name in sorted(names)[:5])}{more}"]
