"""The ledger's comparisons as SVG files, that are read in a page's light and dark.

They are 480 units wide, so that words stay readable on a telephone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from comparison import UNPLANNED, Comparison, Plan, changes

from fgvc_jax.utils.text import counted

DECIDING = "ensemble"  # the metric that verdicts are about
WIDTH, SIDE = 480, 16  # of a figure, and of its margins
ENTRY, HEADING, LINE, AXIS = 36, 30, 18, 40  # heights in the forest plot
CURVES = 200, 46  # height of a curve's plot, and what its axis takes at the left
STYLE = """
svg { color: #1f2328; --a: #0969da; --b: #bc4c00; font: 13px system-ui, sans-serif; }
text { fill: currentColor; }
.soft { opacity: .7; }
.bold { font-weight: 600; }
.rule { stroke: currentColor; opacity: .25; }
.zero { stroke: currentColor; opacity: .6; }
.a { stroke: var(--a); fill: var(--a); }
.b { stroke: var(--b); fill: var(--b); }
.line { fill: none; stroke-width: 2; }
.published { fill: none; stroke: currentColor; stroke-width: 1.5; }
@media (prefers-color-scheme: dark) {
  svg { color: #e6edf3; --a: #58a6ff; --b: #f0883e; }
}
"""
Pair = tuple[Comparison, Plan]


@dataclass(frozen=True)
class Difference:
    """A row's difference to the first row of its study, in points."""

    row: str
    first: str
    mean: float
    interval: tuple[float, float]
    pairs: int
    published: float  # 0: none is


def named(one: Comparison, plan: Plan) -> str:
    """A study, and in what its base is not its own."""
    base = moved(one, plan)
    return f"{one.study} ({base})" if base else one.study


def moved(one: Comparison, plan: Plan) -> str:
    """In what a base is not the study's own; empty for its own."""
    return ", ".join(plan.moved) if len(plan.moved) <= 3 else f"base {one.base}"


def differences(one: Comparison, plan: Plan) -> list[Difference]:
    """What is known of a study's planned rows, with intervals."""
    found, gain = [], plan.study.gain if plan.study else 0.0
    for row, cell in one.summary().get(DECIDING, {}).items():
        difference = cell["difference"]
        if difference and difference["interval"] and not row.endswith(UNPLANNED):
            low, high = (100 * end for end in difference["interval"])
            mean, pairs = 100 * difference["mean"], difference["n"]
            found.append(Difference(row, one.first, mean, (low, high), pairs, 100 * gain))
    return found


# -- the forest plot -----------------------------------------------------------------------------


def forest(pairs: Sequence[Pair]) -> str:
    """All differences in test accuracy of the ensemble, study by study; empty without any."""
    groups = [(pair, found) for pair in pairs if (found := differences(*pair))]
    if not groups:
        return ""
    largest = max(abs(each.mean) for _, found in groups for each in found)
    limit = next(n for n in (1, 2, 5, 10, 20, 50, 100) if n > largest)
    entries = sum(len(found) for _, found in groups)
    bases = sum(bool(moved(*pair)) for pair, _ in groups)
    height = SIDE + HEADING * len(groups) + LINE * bases + ENTRY * entries + AXIS
    words = "; ".join(f"{named(*pair)}, {said(each)}" for pair, found in groups for each in found)
    svg = _svg(height, "Differences in test accuracy, in points", words)

    def at(value: float) -> float:
        share = (min(max(value, -limit), limit) + limit) / (2 * limit)
        return SIDE + share * (WIDTH - 2 * SIDE)

    bottom = height - AXIS
    ticks = -limit, -limit / 2, 0, limit / 2, limit
    for tick in ticks:
        anchor = {-limit: "start", limit: "end"}.get(tick, "middle")
        _text(svg, at(tick), bottom + 16, f"{tick:+g}" if tick else "0", "soft", anchor)
    _text(svg, WIDTH / 2, bottom + 31, "points of test accuracy", "soft", "middle")
    y = SIDE
    for pair, found in groups:
        _text(svg, SIDE, y + 20, f"{pair[0].study}, against {found[0].first}", "bold")
        y += HEADING
        if base := moved(*pair):
            _text(svg, SIDE, y + 8, base, "soft")
            y += LINE
        for each in found:
            for tick in ticks:
                _line(svg, at(tick), y + 16, at(tick), y + 30, "rule" if tick else "zero")
            _text(svg, SIDE, y + 12, each.row)
            _text(svg, WIDTH - SIDE, y + 12, _written(each), "soft", "end")
            _interval(svg, at, limit, each, y + 23)
            y += ENTRY
    return _file(svg)


def _interval(
    svg: ElementTree.Element, at: Callable[[float], float], limit: float, each: Difference, y: float
) -> None:
    low, high = each.interval
    _line(svg, at(low), y, at(high), y, "a line")
    for end, side in ((low, -1), (high, 1)):
        x = at(end)
        if abs(end) > limit:  # it goes on beyond the plot
            points = f"{x + 5 * side},{y} {x - 3 * side},{y - 5} {x - 3 * side},{y + 5}"
            ElementTree.SubElement(svg, "polygon", {"points": points, "class": "a"})
        else:
            _line(svg, x, y - 4, x, y + 4, "a")
    _dot(svg, at(each.mean), y, "a")
    if each.published:
        x = at(each.published)
        points = f"{x},{y - 6} {x + 6},{y} {x},{y + 6} {x - 6},{y}"
        ElementTree.SubElement(svg, "polygon", {"points": points, "class": "published"})


def found(pairs: Sequence[Pair], row: str) -> str:
    """What is known of a row on its study's own base, in words; empty where nothing is."""
    for one, plan in pairs:
        if not plan.moved:
            for each in differences(one, plan):
                if each.row == row:
                    return said(each)
    return ""


def said(each: Difference) -> str:
    """A difference in words."""
    (low, high), pairs = each.interval, counted(each.pairs, "pair")
    what = f"{each.row} minus {each.first}: {each.mean:+.2f} points"
    return f"{what} ({low:+.2f} to {high:+.2f}; {pairs})"


def _written(each: Difference) -> str:
    low, high = each.interval
    return f"{each.mean:+.2f} ({low:+.2f} to {high:+.2f})"


# -- dose and response ---------------------------------------------------------------------------

RESPONSES = {"ensemble": "the ensemble of two", "single_2": "the second network alone"}


def doses(pairs: Sequence[Pair]) -> str:
    """Difference in test accuracy by the weight of the orthogonal loss, of every study that has two
    weights at least beside none; empty without one."""
    found = [(named(*pair), curves) for pair in pairs if (curves := _responses(pair[0]))]
    if not found:
        return ""
    tall, left = CURVES
    height = SIDE + len(found) * (HEADING + tall + AXIS) + 44
    words = "; ".join(
        f"{name}, {RESPONSES[metric]}: " + ", ".join(f"{y:+.2f} at {x:g}" for x, y, _ in points)
        for name, curves in found
        for metric, points in curves.items()
    )
    svg = _svg(height, "Difference to independent networks by the weight of KT's loss", words)
    y = SIDE
    for name, curves in found:
        _text(svg, SIDE, y + 18, f"{name}: points against independent networks", "bold")
        _curves(svg, curves, left, y + HEADING, tall)
        y += HEADING + tall + AXIS
    _text(svg, WIDTH / 2, y + 6, "alpha, the weight of the orthogonal loss", "soft", "middle")
    for number, what in enumerate(RESPONSES.values()):
        x, colour = SIDE + number * (WIDTH / 2 - SIDE), "ab"[number]
        _dot(svg, x + 5, y + 26, colour)
        _text(svg, x + 16, y + 30, what)
    return _file(svg)


Points = list[tuple[float, float, tuple[float, float]]]  # (alpha, difference, its interval)


def _responses(one: Comparison) -> dict[str, Points]:
    """By metric the points of a curve through (0, 0), which is where the loss is not."""
    found: dict[str, Points] = {}
    for metric in RESPONSES:
        points: Points = [(0.0, 0.0, (0.0, 0.0))]
        for row, cell in one.summary().get(metric, {}).items():
            difference = cell["difference"]
            alpha = _dose(one, row)
            if alpha is None or not (difference and difference["interval"]):
                continue
            low, high = (100 * end for end in difference["interval"])
            points.append((alpha, 100 * difference["mean"], (low, high)))
        if len(points) > 2:
            found[metric] = sorted(points)
    return found


def _dose(one: Comparison, row: str) -> float | None:
    """The weight of a row that differs from the first one by the orthogonal loss alone."""
    first, line = one.examples.get(one.first), one.examples[row]
    if first is None or row.endswith(UNPLANNED):
        return None
    transfer = line["config"]["transfer"]
    kinds = first["config"]["transfer"]["name"], transfer["name"], transfer["weighting"]
    alone = all(change.startswith("transfer.") for change in changes(line, first))
    return transfer["alpha"] if kinds == ("none", "orthogonal", "fixed") and alone else None


def _curves(
    svg: ElementTree.Element, curves: dict[str, Points], left: float, top: float, tall: float
) -> None:
    every = [point for points in curves.values() for point in points]
    ends = [end for _, _, interval in every for end in interval]
    step = next(s for s in (0.25, 0.5, 1, 2, 5, 10, 20) if (max(ends) - min(ends)) / s <= 5)
    low, high = math.floor(min(ends) / step) * step, math.ceil(max(ends) / step) * step
    first, last = min(x for x, *_ in every), max(x for x, *_ in every)
    right, bottom = WIDTH - SIDE - 8, top + tall

    def across(x: float) -> float:
        return left + 8 + (x - first) / (last - first) * (right - left - 8)

    def up(y: float) -> float:
        return bottom - (y - low) / ((high - low) or 1) * tall

    for number in range(round((high - low) / step) + 1):
        value = low + number * step
        _line(svg, left, up(value), WIDTH - SIDE, up(value), "rule" if value else "zero")
        _text(svg, left - 8, up(value) + 4, f"{value:+g}" if value else "0", "soft", "end")
    for x in sorted({x for x, *_ in every}):
        _text(svg, across(x), bottom + 18, f"{x:g}", "soft", "middle")
    for number, metric in enumerate(RESPONSES):
        colour, points = "ab"[number], curves.get(metric, [])
        line = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y, _ in points)
        ElementTree.SubElement(svg, "polyline", {"points": line, "class": f"{colour} line"})
        for x, y, (lower, upper) in points:
            # Beside each other, where both have the same weight.
            here = across(x) + 4 * number - 2
            _line(svg, here, up(lower), here, up(upper), colour)
            _dot(svg, here, up(y), colour)


# -- pieces --------------------------------------------------------------------------------------


def _svg(height: float, title: str, words: str) -> ElementTree.Element:
    svg = ElementTree.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {WIDTH} {height:g}",
            "width": str(WIDTH),
            "height": f"{height:g}",
            "role": "img",
        },
    )
    ElementTree.SubElement(svg, "title").text = title
    ElementTree.SubElement(svg, "desc").text = words
    ElementTree.SubElement(svg, "style").text = STYLE
    return svg


def _line(svg: ElementTree.Element, x: float, y: float, to_x: float, to_y: float, kind: str):
    ends = {"x1": x, "y1": y, "x2": to_x, "y2": to_y}
    ElementTree.SubElement(
        svg, "line", {name: f"{value:.1f}" for name, value in ends.items()} | {"class": kind}
    )


def _dot(svg: ElementTree.Element, x: float, y: float, kind: str):
    ElementTree.SubElement(
        svg, "circle", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "4", "class": kind}
    )


def _text(
    svg: ElementTree.Element, x: float, y: float, words: str, kind: str = "", anchor: str = "start"
):
    given = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "class": kind}
    text = ElementTree.SubElement(svg, "text", {k: v for k, v in given.items() if v})
    text.text = words


def _file(svg: ElementTree.Element) -> str:
    ElementTree.indent(svg)
    return ElementTree.tostring(svg, encoding="unicode") + "\n"
