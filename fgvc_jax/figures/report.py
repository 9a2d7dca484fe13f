"""The page of `python -m fgvc_jax.report`, made from the numbers of report.json."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from fgvc_jax.figures import advice, judged, matrix
from fgvc_jax.figures.numbers import Against, Numbers, Seeds
from fgvc_jax.figures.page import percent, render, thousands
from fgvc_jax.figures.pictures import Pictures
from fgvc_jax.utils.text import printable


class Section(NamedTuple):
    """A section of the page: its title, and the key by which links point to it."""

    key: str
    title: str
    content: Markup


def report_page(numbers: Numbers, show: Pictures, near: Pictures | None = None) -> Markup:
    """The page as HTML.

    Args:
        numbers: the content of report.json.
        show: makes pictures.
        near: makes pictures of the training photographs that the run keeps; None where it has none.
    """
    given = {"classes": numbers["class_names"], "show": show}
    learned, families = judged.curves(numbers), judged.families(numbers)
    unknown = judged.unknown(numbers)
    alone = len(numbers["numbers"]) == 1
    who = "the network looks" if alone else "members look"
    confused = matrix.confusion(numbers["classes"], numbers["confused_pairs"])
    against = [
        Section(f"against{n}", f"Against {found['workdir']}", _against(found, numbers, show))
        for n, found in enumerate(numbers["against"], start=1)
    ]
    sections = [
        *against,
        Section("next", "What to do next", advice.advice(numbers)),
        Section(
            "pairs",
            "Confused pairs",
            render("pairs.html", pairs=numbers["confused_pairs"], **given),
        ),
        *([Section("families", "Families", families)] if families else []),
        *([Section("places", _columns(numbers), _places(numbers))] if numbers["by"] else []),
        *([Section("unknown", "None of these", unknown)] if unknown else []),
        Section(
            "errors",
            "Errors and doubted labels",
            render(
                "errors.html",
                errors=numbers["errors"],
                doubted=numbers["doubted_labels"],
                training=numbers["doubted_training_labels"],
                near=near,
                **given,
            ),
        ),
        *([Section("matrix", "Which class for which", confused)] if confused else []),
        Section(
            "classes",
            "Classes, the worst first",
            render("classes.html", classes=numbers["classes"], show=show),
        ),
        Section("sure", "Is it sure when it is right?", judged.sureness(numbers)),
        Section("looks", f"Where {who}", judged.looks(numbers, show)),
        *([Section("curves", "Learning", learned)] if learned else []),
        Section(
            "members", "In numbers" if alone else "Members and ensembles", judged.members(numbers)
        ),
        Section("trained", "What was trained", judged.card(numbers)),
    ]
    return render(
        "report.html",
        workdir=numbers["workdir"],
        run=_called(numbers["workdir"]),
        source=numbers["source"],
        classes=numbers["class_names"],
        headline=judged.headline(numbers),
        sections=sections,
    )


def _columns(numbers: Numbers) -> str:
    """By site; by site and date."""
    return "By " + " and ".join(printable(by["column"]) for by in numbers["by"])


def _places(numbers: Numbers) -> Markup:
    """What is right at each site and date, and what to expect at others."""
    return render(
        "places.html",
        columns=[
            by
            | {
                "accuracy": judged.interval(by["accuracy"], True),
                "places": [
                    place | {"right": judged.interval(place["accuracy"], True)}
                    for place in by["places"]
                ],
            }
            for by in numbers["by"]
        ],
    )


def _called(workdir: str) -> str:
    """What a run is called: its folder; one of a study, named by its seed, with its row."""
    *_, row, name = ("", *workdir.rstrip("/").split("/"))
    return f"{row}/{name}" if row and name.isdecimal() else name


def _against(found: Against, numbers: Numbers, show: Pictures) -> Markup:
    """This run compared with another one."""
    difference, low, high = (100 * found[key] for key in ("difference", "low", "high"))
    clear = low > 0 or high < 0  # and so McNemar's p is below 0.05, see `statistics.compare_runs`
    words = "better" if difference > 0 else "worse"
    return render(
        "against.html",
        verdict=f"This run is {words} than the other." if clear else "No difference is certain.",
        numbers={
            "points of accuracy": f"{difference:+.2f}",
            "likely range of these points": _points((found["low"], found["high"])),
            "how often luck does as much": _percent(found["p"]),
            "only this run is right": thousands(found["gained"]),
            "only the other is right": thousands(found["lost"]),
        },
        terms={
            "likely range of these points": "95% interval, paired by image",
            "how often luck does as much": "McNemar's exact p",
        },
        seeds=found["seeds"] and _seeds(found["seeds"]),
        found=found,
        classes=numbers["class_names"],
        show=show,
    )


def _seeds(found: Seeds) -> dict[str, object]:
    """Two rows of a study, seed by seed, in words."""
    paired = found["paired"]
    return {
        "n": paired["n"],
        "mean": f"{100 * paired['mean']:+.2f}",
        "interval": _points(paired["interval"]),
        "p": None if paired["p"] is None else _p(paired["p"]),
        "on_new_images": _points(found["on_new_images"]),
        "rows": list(zip(found["seeds"], found["ours"], found["theirs"], strict=True)),
    }


def _percent(value: float) -> str:
    return "under 0.1%" if value < 0.001 else percent(value)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _points(interval: Sequence[float] | None) -> str:
    """Both ends in points of accuracy."""
    return (
        "unknown" if interval is None else f"{100 * interval[0]:+.1f} to {100 * interval[1]:+.1f}"
    )
