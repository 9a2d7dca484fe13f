"""Charts as inline SVG: they follow the page's colours, light and dark, and say in words what they
show."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fgvc_jax.figures.numbers import Bin
from fgvc_jax.figures.page import render

WIDTH, HEIGHT = 340, 220  # of a chart, in units
LEFT, RIGHT, TOP, BOTTOM = 46, 18, 12, 38  # margins, for the axes' words
COLOURS = 6  # of lines; then they repeat
_AT = {
    "width": WIDTH,
    "height": HEIGHT,
    "left": LEFT,
    "right": WIDTH - RIGHT,
    "bottom": HEIGHT - BOTTOM,
}


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
    title: str,
    words: str,
    x: Axis,
    y: Axis,
    lines: Sequence[Line],
    *,
    ideal: bool = False,
    reading: str = "",
    term: str = "",
) -> Markup:
    """A figure with lines.

    Args:
        title: over it.
        words: its text alternative, what it shows in a sentence.
        x, y: the axes.
        lines: in the order of their colours.
        ideal: draw the diagonal of equal x and y.
        reading: under it, whether what it shows is good, in a sentence.
        term: a statistician's for the title.
    """
    return render(
        "chart.html",
        title=title,
        words=words,
        x=x,
        y=y,
        lines=lines,
        ideal=ideal,
        reading=reading,
        term=term,
        place=_Place(x, y),
        at=_AT,
        colours=COLOURS,
    )


def side_by_side(charts: Sequence[Markup]) -> Markup:
    """Charts beside each other, where there is room; empty where there are none."""
    return render("charts.html", charts=charts)


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


def put_together(bins: Sequence[Bin], images: int) -> list[Bin]:
    """Bins, each with its neighbours until it has so many images, so that a line through them is
    no noise; one bin where all together have fewer."""
    found: list[Bin] = []
    left = sum(each["images"] for each in bins)
    for each in bins:
        if not found or (found[-1]["images"] >= images and left >= images):
            found.append({"confidence": 0.0, "accuracy": 0.0, "images": 0})
        last, before, more = found[-1], found[-1]["images"], each["images"]
        last["images"], left = before + more, left - more
        for key in ("confidence", "accuracy"):
            last[key] = (last[key] * before + each[key] * more) / last["images"]
    return found
