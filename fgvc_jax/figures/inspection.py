"""The page of `python -m fgvc_jax.inspect`: counts, findings with pictures, classes."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from fgvc_jax.data.soundness import Finding, Picture
from fgvc_jax.figures.page import escape, name, page

GROUPS = 24  # shown of one finding
GROUP = 8  # pictures shown of what belongs together
LINES = 40  # shown of one finding
PORTRAITS = 300  # classes that are shown with a picture

BADGES = {"stops": "stops training", "look": "worth a look", "note": "for your information"}

Show = Callable[[Picture, str], str]  # (picture, text alternative) -> HTML


def inspection_page(
    source: str,
    *,
    classes: Sequence[str],
    counts: dict[str, np.ndarray],
    findings: Sequence[Finding],
    examples: dict[int, Picture],
    show: Show,
) -> str:
    """The page as HTML.

    Args:
        source: what was inspected, as typed.
        classes: names.
        counts: images of each class (K,), by part.
        findings: the worst first.
        examples: label -> a picture of that class.
        show: makes a picture's thumbnail.
    """
    body = [
        "<header>",
        "<h1>Is the data sound?</h1>",
        f'<p class="soft">{name(source)}</p>',
        _verdict(findings),
        _tiles(classes, counts),
        "</header>",
        *(_finding(finding, classes, show) for finding in findings),
        _classes(classes, counts, examples, show),
    ]
    return page(f"Inspection of {source}", "\n".join(body))


def _verdict(findings: Sequence[Finding]) -> str:
    stops = sum(one.count for one in findings if one.level == "stops")
    looks = sum(one.level == "look" for one in findings)
    if stops:
        level, words = "stops", f"Training would stop, for {_several(stops, 'reason')}."
    elif looks:
        level, words = "look", f"It can be trained on, with {_several(looks, 'thing')} to look at."
    else:
        level, words = "fine", "Nothing was found that should worry you."
    return f'<p class="verdict {level}">{words}</p>'


def _several(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _tiles(classes: Sequence[str], counts: dict[str, np.ndarray]) -> str:
    train = counts["train"]
    tiles = {
        "images": f"{sum(int(part.sum()) for part in counts.values()):,}",
        "classes": f"{len(classes):,}",
        **{f"to {verb}": f"{int(counts[part].sum()):,}" for part, verb in _VERBS if part in counts},
        "to train on, per class": f"{train.min():,} – {train.max():,}",
    }
    cells = (
        f'<div class="tile"><b>{value}</b><span>{key}</span></div>' for key, value in tiles.items()
    )
    return f'<div class="tiles">{"".join(cells)}</div>'


_VERBS = (("train", "train on"), ("validation", "select by"), ("test", "judge by"))


def _finding(finding: Finding, classes: Sequence[str], show: Show) -> str:
    pictures = "".join(_group(group, classes, show) for group in finding.groups[:GROUPS])
    lines = "".join(f"<li>{name(line)}</li>" for line in finding.lines[:LINES])
    hidden = len(finding.groups[GROUPS:]) + len(finding.lines[LINES:])
    return (
        f'<section><div class="heading"><h2>{escape(finding.title)}</h2>'
        f'<span class="badge {finding.level}">{BADGES[finding.level]}</span>'
        f'<span class="soft">{finding.count:,}</span></div>'
        f"<p>{escape(finding.advice)}</p>"
        + (f'<div class="pictures">{pictures}</div>' if pictures else "")
        + (f'<ul class="plain">{lines}</ul>' if lines else "")
        + (f'<p class="soft">and {hidden:,} more</p>' if hidden else "")
        + "</section>"
    )


def _group(group: Sequence[Picture], classes: Sequence[str], show: Show) -> str:
    figures = "".join(_figure(picture, classes, show) for picture in group[:GROUP])
    hidden = len(group[GROUP:])
    more = f'<span class="soft">and {hidden:,} more</span>' if hidden else ""
    return f'<div class="group">{figures}{more}</div>' if len(group) > 1 else figures


def _figure(picture: Picture, classes: Sequence[str], show: Show) -> str:
    label, file = classes[picture.label], picture.name.rpartition("/")[2]
    remarks = "".join(f"<span>{escape(remark)}</span>" for remark in picture.remarks)
    return (
        f"<figure>{show(picture, f'{label}: {file}')}<figcaption>"
        f'<span class="clamp">{name(label)}</span>'
        f'<span class="clamp soft" title="{escape(picture.name)}">{picture.part} · '
        f"{name(file)}</span>"
        f"{remarks}</figcaption></figure>"
    )


def _classes(
    classes: Sequence[str], counts: dict[str, np.ndarray], examples: dict[int, Picture], show: Show
) -> str:
    parts = list(counts)
    most = max(int(sum(counts.values()).max()), 1)
    keys = "".join(f'<span class="key {part}"></span>{part}' for part in parts)
    heads = "".join(f'<th class="number">{part}</th>' for part in parts)
    rows = "".join(
        f"<tr><td>{_portrait(examples.get(label), title, show) if label < PORTRAITS else ''}</td>"
        f"<td>{name(title)}</td>"
        f'<td class="wide">{_bar([(p, int(counts[p][label])) for p in parts], most)}</td>'
        + "".join(f'<td class="number">{int(counts[part][label]):,}</td>' for part in parts)
        + "</tr>"
        for label, title in enumerate(classes)
    )
    return (
        f'<section><h2>Images of each class</h2><p class="soft">{keys}</p>'
        f'<table><thead><tr><th></th><th>class</th><th class="wide"></th>'
        f"{heads}</tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _portrait(picture: Picture | None, title: str, show: Show) -> str:
    return show(picture, f"an image of {title}") if picture else ""


def _bar(numbers: Iterable[tuple[str, int]], most: int) -> str:
    pieces = (
        f'<i class="{part}" style="width:{100 * number / most:.2f}%"></i>'
        for part, number in numbers
        if number
    )
    return f'<div class="bar" aria-hidden="true">{"".join(pieces)}</div>'
