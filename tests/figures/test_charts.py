"""Charts: drawn where the numbers are, told in words."""

import re
import xml.etree.ElementTree as ET

import pytest

from fgvc_jax.figures import charts
from fgvc_jax.figures.charts import Axis, Line, amounts, chart, epochs, shares


def drawn(*lines, **options):
    return chart("A <title>", 'words & "more"', Axis("x", 0, 1), Axis("y", 0, 1), lines, **options)


def test_a_chart_is_well_formed_and_has_a_text_alternative():
    text = drawn(Line("<a>", [(0, 0), (1, 1)]), Line("b", [(0, 1)]), ideal=True)
    figure = ET.fromstring(text)
    svg = figure.find("svg")
    assert (svg.get("role"), svg.get("aria-label")) == ("img", 'words & "more"')
    assert [span.find("i").tail for span in figure.iter("span")] == ["<a>", "b"]
    assert len(list(svg.iter("path"))) == 1 and len(list(svg.iter("circle"))) == 1
    assert len([line for line in svg.iter("line") if line.get("class") == "ideal"]) == 1


def test_points_are_where_their_numbers_say():
    text = drawn(Line("a", [(0, 0), (0.5, 1), (1, 0.5)], [(0, 0.5)]))
    points = re.search(r'd="M([^"]+)"', text)[1].split(" L")
    (x0, y0), (x1, y1), (x2, y2) = ([float(n) for n in point.split()] for point in points)
    assert x1 == pytest.approx((x0 + x2) / 2) and y2 == pytest.approx((y0 + y1) / 2)
    assert y1 < y0  # up is less
    whisker = re.search(r'whisker" x1="(.+?)" y1="(.+?)" x2="(.+?)" y2="(.+?)"', text)
    assert [float(n) for n in whisker.groups()] == [x0, y0, x0, y2]


@pytest.mark.parametrize(
    "values", [[0.871, 0.884], [0, 1], [0.5], [0.02, 0.03], [0.97, 0.999], [1], [0]]
)
def test_axes_hold_their_values(values):
    axis = shares("y", values)
    assert 0 <= axis.low <= min(values) and max(values) <= axis.high <= 1 + 1e-9
    assert 0.0099 < axis.high - axis.low <= max(10 * (max(values) - min(values)), 0.02)
    assert max(len(axis.written(tick)) for tick in axis.ticks) <= 6  # room for them at the left
    assert len({axis.written(tick) for tick in axis.ticks}) == 5
    up = amounts("y", [10 * value for value in values])
    assert up.low == 0 and up.high >= 10 * max(values)


def test_epochs_have_few_whole_ticks():
    for last in (1, 2, 7, 100, 1000):
        axis = epochs(last)
        assert 2 <= len(axis.ticks) <= 6 and axis.high == max(last, 2)


def test_bins_are_put_together_until_each_has_enough_images():
    bins = [
        {"confidence": sure, "accuracy": right, "images": count}
        for sure, right, count in ((0.2, 0.0, 2), (0.3, 0.5, 2), (0.6, 1.0, 4), (0.9, 1.0, 2))
    ]
    first, second = charts.put_together(bins, 4)
    assert first == {"confidence": pytest.approx(0.25), "accuracy": 0.25, "images": 4}
    assert second == {"confidence": pytest.approx(0.7), "accuracy": 1.0, "images": 6}
    assert [each["images"] for each in charts.put_together(bins, 1)] == [2, 2, 4, 2]
    assert [each["images"] for each in charts.put_together(bins, 100)] == [10]
