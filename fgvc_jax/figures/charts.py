"""Charts as inline SVG: they follow the page's colours, light and dark, and say in words what they
show."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fgvc_jax.figures.page import escape

WIDTH, HEIGHT = 340, 220  # of a chart, in units
LEFT, RIGHT, TOP, BOTTOM = 46, 18, 12, 38  # margins, for the axes' words
COLOURS = 6  # of lines; then they repeat

STYLE = """
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr));
  gap: 1rem 1.5rem; margin-top: .8rem; }
.chart { width: auto; max-width: 27rem; } .chart svg { display: block; width: 100%; height: auto; }
.chart figcaption { font-size: .875rem; }
.chart text { font-size: 11px; fill: var(--soft); font-variant-numeric: tabular-nums; }
.chart .grid { stroke: var(--line); } .chart .ideal { stroke: var(--soft); stroke-dasharray: 4 4; }
.chart path, .chart .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.chart .whisker { stroke-width: 1.5; }
.c0 { --c: #2a6f77; } .c1 { --c: #b8632f; } .c2 { --c: #7a5ea8; } .c3 { --c: #5b7f2b; }
.c4 { --c: #b33c6d; } .c5 { --c: #6b6f76; }
@media (prefers-color-scheme: dark) {
  .c0 { --c: #5fb0b8; } .c1 { --c: #e59a68; } .c2 { --c: #b49ae0; } .c3 { --c: #a3c76a; }
  .c4 { --c: #ea85ab; } .c5 { --c: #a9aeb5; } }
.chart .mark { stroke: var(--c); } .chart .dot, .chart .column { fill: var(--c); }
.legend { display: flex; flex-wrap: wrap; gap: .1rem .9rem; margin: .2rem 0 0; font-size: .8rem; }
.legend i { display: inline-block; width: .9rem; height: .25rem; border-radius: 2px;
  background: var(--c); margin-right: .35rem; vertical-align: middle; }
"""


@dataclass(frozen=True)
class Line:
    """One line of a chart: its name, points (x, y), and intervals (low, high) or none of each y."""

    name: str
    points: Sequence[tuple[float, float]]
    intervals: Sequence[tuple[float, float]] = ()
    dots: bool = False


@dataclass(frozen=True)
class Axis:
    """What an axis says, and from where to where it goes. `written` makes a number's words; ticks
    are `at` these numbers, or at five of even distance."""

    title: str
    low: float
    high: float
    written: Callable[[float], str] = "{:.0%}".format
    at: Sequence[float] = ()

    @property
    def ticks(self) -> Sequence[float]:
        return self.at or [self.low + (self.high - self.low) * i / 4 for i in range(5)]


def shares(title: str, values: Sequence[float]) -> Axis:
    """An axis around shares of a whole, in percent, at least one of which it shows."""
    low, high = _around(min(values), max(values), least=0.01)
    if high > 1:
        low, high = max(0.0, 1 - (high - low)), 1.0
    return Axis(title, low, high, _percent)


def amounts(title: str, values: Sequence[float]) -> Axis:
    """An axis from zero to the largest of amounts."""
    return Axis(title, 0.0, _around(0.0, max(values))[1], "{:.3g}".format)


def epochs(last: int) -> Axis:
    """An axis from the first epoch to the last one, with few whole ticks."""
    step = max(1, -(-last // 6))
    return Axis("epoch", 1, max(last, 2), "{:.0f}".format, at=range(1, max(last, 2) + 1, step))


def _percent(value: float) -> str:
    return f"{round(100 * value, 6):g}%"


def _around(low: float, high: float, least: float = 1e-3) -> tuple[float, float]:
    """Ends at whole multiples of a step of which four reach from below low to above high, at least
    so far apart."""
    step = 10.0 ** math.floor(math.log10(max(high - low, least) / 4))
    for factor in (1, 1.5, 2, 2.5, 3, 5, 10, 20):
        start = math.floor(low / (factor * step) + 1e-9) * factor * step
        if start + 4 * factor * step >= max(high, start + least) - 1e-9:
            break
    return start, start + 4 * factor * step


def chart(
    title: str, words: str, x: Axis, y: Axis, lines: Sequence[Line], *, ideal: bool = False
) -> str:
    """A figure with lines.

    Args:
        title: over it.
        words: its text alternative, what it shows in a sentence.
        x, y: the axes.
        lines: in the order of their colours.
        ideal: draw the diagonal of equal x and y.
    """
    place = _Place(x, y)
    drawn = [_axes(place)]
    if ideal:
        drawn.append(_segment(place, (x.low, x.low), (x.high, x.high), "ideal"))
    for number, line in enumerate(lines):
        drawn.append(f'<g class="c{number % COLOURS}">{_line(place, line)}</g>')
    named = [line.name for line in lines]
    legend = "".join(
        f'<span class="c{number % COLOURS}"><i></i>{escape(name)}</span>'
        for number, name in enumerate(named)
    )
    return (
        f'<figure class="chart"><figcaption><b>{escape(title)}</b></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(words)}">'
        f"{''.join(drawn)}</svg>"
        + (f'<p class="legend" aria-hidden="true">{legend}</p>' if len(lines) > 1 else "")
        + "</figure>"
    )


@dataclass(frozen=True)
class _Place:
    """From numbers to units."""

    x: Axis
    y: Axis

    def __call__(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x.low) / ((self.x.high - self.x.low) or 1)
        up = (y - self.y.low) / ((self.y.high - self.y.low) or 1)
        return (
            LEFT + min(max(across, 0), 1) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - min(max(up, 0), 1) * (HEIGHT - TOP - BOTTOM),
        )


def _axes(place: _Place) -> str:
    x, y = place.x, place.y
    pieces = []
    for tick in y.ticks:
        _, at = place(x.low, tick)
        pieces.append(_segment(place, (x.low, tick), (x.high, tick), "grid"))
        pieces.append(_text(LEFT - 6, at + 4, y.written(tick), "end"))
    for tick in x.ticks:
        at, _ = place(tick, y.low)
        pieces.append(_text(at, HEIGHT - BOTTOM + 15, x.written(tick), "middle"))
    pieces.append(_text(LEFT + (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 6, x.title, "middle"))
    return "".join(pieces)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _segment(place: _Place, start: tuple, end: tuple, kind: str) -> str:
    (x1, y1), (x2, y2) = place(*start), place(*end)
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _line(place: _Place, line: Line) -> str:
    points = [place(*point) for point in line.points]
    pieces = [
        _segment(place, (x, low), (x, high), "mark whisker")
        for (x, _), (low, high) in zip(line.points, line.intervals, strict=False)
    ]
    if len(points) > 1:
        pieces.append(
            f'<path class="mark" d="M{" L".join(f"{px:.1f} {py:.1f}" for px, py in points)}"/>'
        )
    if line.dots or len(points) == 1:
        pieces += [
            f'<circle class="dot" cx="{px:.1f}" cy="{py:.1f}" r="3.2"/>' for px, py in points
        ]
    return "".join(pieces)
