"""The page of `python -m fgvc_jax.report`, made from the numbers of report.json."""

from collections.abc import Mapping, Sequence
from typing import Any

from fgvc_jax.figures import charts, judged
from fgvc_jax.figures.judged import Show, card, curves, looks, members
from fgvc_jax.figures.page import escape, name, page

PORTRAITS = 300  # classes that are shown with a picture
PORTRAIT = 72  # pixels
PAIRS = 24  # shown
PICTURES = 48  # of errors, and of doubted labels
LINES = 2000  # of a table of images
CHANGED = 24  # pictures of images that changed sides, each way
SUGGESTED = 3000  # classes that the search box suggests

STYLE = (
    charts.STYLE
    + judged.STYLE
    + """
[hidden] { display: none !important; }
nav { display: flex; flex-wrap: wrap; gap: .1rem 1rem; margin-top: 1.1rem; font-size: .925rem; }
.search { position: sticky; top: 0; z-index: 1; background: var(--ground); padding: .6rem 0;
  margin-top: .4rem; display: flex; gap: .8rem; align-items: center; flex-wrap: wrap; }
.search input { font: inherit; color: inherit; background: var(--card); flex: 1 1 14rem;
  border: 1px solid var(--line); border-radius: 10px; padding: .45rem .8rem; min-width: 0; }
.search input:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
.search output:empty { display: none; }
section { scroll-margin-top: 4.2rem; }
.none { display: grid; place-items: center; width: 100%; height: 100%; min-height: 2.6rem;
  font-size: .7rem; color: var(--soft); background: var(--ground); border-radius: 6px; }
.pictures { display: grid;
  grid-template-columns: repeat(auto-fill, minmax(min(8.5rem, 30%), 1fr)); gap: 1rem .9rem; }
.pictures figure { width: auto; } .pictures img, .pictures .none { height: auto; aspect-ratio: 1;
  object-fit: cover; }
figure > .none { height: 6.75rem; } td > .none { width: 2.6rem; font-size: 0; }
.pair { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .5rem .9rem;
  border: 1px solid var(--line); border-radius: 10px; padding: .7rem; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(25rem, 100%), 1fr));
  gap: .8rem; margin-top: .9rem; }
.pair .photos { display: flex; gap: .4rem; } .pair .photos > * { flex: 1 1 0; min-width: 0; }
.pair img, .pair .none { width: 100%; height: 6rem; object-fit: cover; border-radius: 6px;
  display: grid; }
.pair b { font-weight: 600; line-height: 1.3; }
.pair > div { display: flex; flex-direction: column; } .pair .photos { margin-top: auto; }
.pair p { font-size: .85rem; margin: .15rem 0 .4rem; }
.meter { height: .55rem; border-radius: 3px; background: var(--line); min-width: 5rem;
  overflow: hidden; } .meter i { display: block; height: 100%; background: var(--accent); }
.scroll { overflow-x: auto; }
.up { color: var(--fine); } .down { color: var(--stops); }
h3 { font-size: 1rem; margin: 1.1rem 0 0; }
@media (max-width: 34rem) { .pair img, .pair .none { height: 4.6rem; } nav { gap: .1rem .8rem; } }
"""
)

SCRIPT = """
const search = document.querySelector(".search"), box = search.querySelector("input");
const told = search.querySelector("output");
const items = [...document.querySelectorAll("[data-item]")]
  .map(element => [element, element.textContent.toLowerCase()]);
const folded = [...document.querySelectorAll("details")];
search.hidden = false;
function filter() {
  const wanted = box.value.trim().toLowerCase();
  let shown = 0;
  for (const [element, text] of items) {
    element.hidden = !text.includes(wanted);
    shown += !element.hidden;
  }
  for (const element of folded) element.open = wanted !== "";
  told.value = wanted && `${shown.toLocaleString("en")} of ${items.length.toLocaleString("en")}`;
}
let waiting;
box.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 80); });
box.addEventListener("keydown", event => {
  if (event.key === "Escape") { box.value = ""; filter(); }
});
"""


def report_page(numbers: Mapping[str, Any], show: Show) -> str:
    """The page as HTML.

    Args:
        numbers: the content of report.json.
        show: makes pictures.
    """
    sections = {
        "trained": ("What was trained", card(numbers)),
        "members": ("Members and ensembles", members(numbers)),
        **({"curves": ("Learning", charted)} if (charted := curves(numbers)) else {}),
        "sure": ("Is it sure when it is right?", judged.sureness(numbers)),
        "looks": ("Where members look", looks(numbers, show)),
        **_against(numbers, show),
        "pairs": ("Confused pairs", _pairs(numbers, show)),
        "errors": ("Most confident errors", _errors(numbers, show)),
        "doubted": ("Doubted labels", _doubted(numbers, show)),
        "classes": ("Classes, the worst first", _classes(numbers, show)),
    }
    links = "".join(f'<a href="#{key}">{escape(title)}</a>' for key, (title, _) in sections.items())
    body = [
        f"<header><h1>Report of {name(numbers['workdir'])}</h1>",
        f'<p class="soft">{name(numbers["source"])}</p>',
        judged.headline(numbers),
        f'<nav aria-label="sections">{links}</nav></header>',
        _search(numbers["class_names"]),
        *(
            f'<section id="{key}"><h2>{escape(title)}</h2>{content}</section>'
            for key, (title, content) in sections.items()
        ),
    ]
    return page(f"Report of {numbers['workdir']}", "\n".join(body), style=STYLE, script=SCRIPT)


def _search(classes: Sequence[str]) -> str:
    """The box, which the script shows: without one it could do nothing."""
    suggested = "".join(f'<option value="{escape(c)}"></option>' for c in classes[:SUGGESTED])
    return (
        '<div class="search" role="search" hidden><input type="search" list="names" '
        'placeholder="Show one class or file only" aria-label="Show one class or file only" '
        'autocomplete="off" spellcheck="false"><output class="soft" aria-live="polite"></output>'
        f'<datalist id="names">{suggested}</datalist></div>'
    )


# -- classes ---------------------------------------------------------------------------------------


def _classes(numbers: Mapping[str, Any], show: Show) -> str:
    rows = []
    for place, entry in enumerate(numbers["classes"]):
        title, portrait = entry["class"], ""
        if place < PORTRAITS and entry["example"] is not None:
            portrait = show.show(entry["example"], f"an image of {title}", PORTRAIT)
        share = entry["accuracy"]
        width = 0 if share is None else 100 * share
        told = "-" if share is None else f"{share:.1%}"
        rows.append(
            f"<tr data-item><td>{portrait}</td><td>{name(title)}</td>"
            f'<td class="wide"><div class="meter" aria-hidden="true">'
            f'<i style="width:{width:.1f}%"></i></div></td><td class="number">{told}</td>'
            f'<td class="number">{entry["right"]:,} of {entry["images"]:,}</td></tr>'
        )
    return (
        '<table><thead><tr><th></th><th>class</th><th class="wide"></th><th class="number">right'
        f'</th><th class="number">images</th></tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )


def _pairs(numbers: Mapping[str, Any], show: Show) -> str:
    pairs, classes = numbers["confused_pairs"], numbers["class_names"]
    if not pairs:
        return "<p>No class is taken for another.</p>"
    shown = []
    for pair in pairs[:PAIRS]:
        halves = []
        for side in (0, 1):
            ours, other = (classes[pair["classes"][end]] for end in (side, 1 - side))
            photos = "".join(show.show(i, f"an image of {ours}") for i in pair["examples"][side])
            count = pair["counts"][side]
            of = pair["images"][side]
            halves.append(
                f'<div><b class="clamp">{name(ours)}</b>'
                f'<p class="soft">{count:,} of {of:,} named as the other</p>'
                f'<div class="photos">{photos}</div></div>'
            )
        shown.append(f'<div class="pair" data-item>{"".join(halves)}</div>')
    rows = [
        (classes[a], classes[b], f"{forth:,}", f"{back:,}")
        for pair in pairs[PAIRS:LINES]
        for (a, b), (forth, back) in [(pair["classes"], pair["counts"])]
    ]
    heads = ("class", "taken for", "times", "the other way")
    return (
        '<p class="soft">Classes that are taken for each other, with photographs of both: those '
        "confused, if there are any, then the surest.</p>"
        f'<div class="pairs">{"".join(shown)}</div>' + _folded(rows, heads, "more pairs", 2)
    )


# -- images ----------------------------------------------------------------------------------------


def _errors(numbers: Mapping[str, Any], show: Show) -> str:
    found = numbers["errors"]
    if not found:
        return "<p>There is none.</p>"
    return (
        '<p class="soft">Named wrongly, with the probability of what was said instead.</p>'
        + _gallery(found[:PICTURES], "predicted", "confidence", numbers, show)
        + _rest(found, "predicted", "confidence", numbers)
    )


def _doubted(numbers: Mapping[str, Any], show: Show) -> str:
    found = numbers["doubted_labels"]
    about = (
        '<p class="soft">Confident learning (Northcutt et al., 2021): images that are as likely of '
        "another class as images of that class are on average. Look before you trust either; a "
        "weak ensemble doubts too much.</p>"
    )
    if not found:
        return about + "<p>No label is doubted.</p>"
    return (
        about
        + _gallery(found[:PICTURES], "suggested", "probability", numbers, show)
        + _rest(found, "suggested", "probability", numbers)
    )


def _gallery(
    found: Sequence[Mapping[str, Any]],
    said: str,
    sure: str,
    numbers: Mapping[str, Any],
    show: Show,
) -> str:
    """Pictures of images, each with its label, what is said instead, and its file."""
    classes, figures = numbers["class_names"], []
    for entry in found:
        label, instead, file = classes[entry["label"]], classes[entry[said]], entry["name"]
        figures.append(
            f"<figure data-item>{show.show(entry['image'], f'{label}: {file}')}<figcaption>"
            f'<span class="clamp">{entry[sure]:.0%} <b>{name(instead)}</b></span>'
            f'<span class="clamp">is labelled {name(label)}</span>'
            f'<span class="clamp soft" title="{escape(file)}">{name(_short(file))}</span>'
            "</figcaption></figure>"
        )
    return f'<div class="pictures">{"".join(figures)}</div>'


def _short(file: str) -> str:
    return file.rpartition("/")[2] or file


def _rest(
    found: Sequence[Mapping[str, Any]], said: str, sure: str, numbers: Mapping[str, Any]
) -> str:
    classes = numbers["class_names"]
    rows = [
        (entry["name"], classes[entry["label"]], classes[entry[said]], f"{entry[sure]:.1%}")
        for entry in found[PICTURES:LINES]
    ]
    return _folded(rows, ("file", "labelled", "named", "probability"), "more images", 3)


def _folded(rows: Sequence[Sequence[str]], heads: Sequence[str], words: str, texts: int) -> str:
    """A table that opens; its first `texts` columns are names, the others numbers."""
    if not rows:
        return ""

    def cells(row: Sequence[str]) -> str:
        return "".join(
            f"<td>{name(cell)}</td>" if n < texts else f'<td class="number">{escape(cell)}</td>'
            for n, cell in enumerate(row)
        )

    lines = "".join(f"<tr data-item>{cells(row)}</tr>" for row in rows)
    head = "".join(
        f"<th{' class=number' if n >= texts else ''}>{escape(cell)}</th>"
        for n, cell in enumerate(heads)
    )
    return (
        f"<details><summary>{len(rows):,} {escape(words)}</summary>"
        f'<div class="scroll"><table class="plain"><thead><tr>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div></details>"
    )


# -- other runs ------------------------------------------------------------------------------------


def _against(numbers: Mapping[str, Any], show: Show) -> dict[str, tuple[str, str]]:
    """A section for each run that this one is compared with."""
    return {
        f"against{n}": (f"Against {found['workdir']}", _compared(found, numbers, show))
        for n, found in enumerate(numbers["against"], start=1)
    }


def _compared(found: Mapping[str, Any], numbers: Mapping[str, Any], show: Show) -> str:
    difference, low, high = (100 * found[key] for key in ("difference", "low", "high"))
    clear = low > 0 or high < 0
    words = "better" if difference > 0 else "worse"
    verdict = f"This run is {words} than the other." if clear else "No difference is certain."
    tiles = {
        "points of accuracy": f"{difference:+.2f}",
        "95% interval, paired by image": _points((found["low"], found["high"])),
        "McNemar's exact p": _p(found["p"]),
        "only this run is right": f"{found['gained']:,}",
        "only the other is right": f"{found['lost']:,}",
    }
    cells = "".join(f'<div class="tile"><b>{v}</b><span>{k}</span></div>' for k, v in tiles.items())
    classes = numbers["class_names"]
    rows = [
        (classes[each["class"]], f"{each['gained']:+d}", f"{100 * each['difference']:+.1f}")
        for each in found["classes"]
        if each["gained"]
    ][:LINES]
    heads = ("class", "images", "points")
    parts = [f'<p class="verdict">{verdict}</p><div class="tiles">{cells}</div>']
    parts.append(_seeds(found["seeds"]))
    parts.append(_folded(rows, heads, "classes gained or lost", 1))
    for key, title in (("fixed", "Only this run is right"), ("broken", "Only the other is right")):
        if found[key]:
            parts.append(f"<h3>{title}</h3>")
            parts.append(_gallery(found[key][:CHANGED], "predicted", "confidence", numbers, show))
            files = [(each["name"], classes[each["label"]]) for each in found[key][CHANGED:LINES]]
            parts.append(_folded(files, ("file", "labelled"), "more images", 2))
    return "".join(parts)


def _seeds(found: Mapping[str, Any] | None) -> str:
    """Two rows of a study, seed by seed."""
    if not found:
        return ""
    rows = "".join(
        f'<tr><td>{seed}</td><td class="number">{one:.1%}</td><td class="number">{other:.1%}</td>'
        f'<td class="number">{100 * (one - other):+.1f}</td></tr>'
        for seed, one, other in zip(found["seeds"], found["ours"], found["theirs"], strict=True)
    )
    paired, mean = found["paired"], f"{100 * found['paired']['mean']:+.2f} points"
    p = "" if paired["p"] is None else f", p {_p(paired['p'])}"
    return (
        f"<h3>Over {paired['n']} seeds</h3><p>On average {mean}; 95% interval for new trainings "
        f"{_points(paired['interval'])} (paired t-test{p}), for new trainings on new images "
        f"{_points(found['on_new_images'])}.</p>"
        '<div class="scroll"><table class="plain"><thead><tr><th>seed</th>'
        '<th class="number">this row</th><th class="number">the other</th>'
        f'<th class="number">points</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _p(value: float) -> str:
    return "&lt; 0.001" if value < 0.001 else f"{value:.3f}"


def _points(interval: Sequence[float] | None) -> str:
    """Both ends in points of accuracy."""
    return (
        "unknown" if interval is None else f"{100 * interval[0]:+.1f} to {100 * interval[1]:+.1f}"
    )
