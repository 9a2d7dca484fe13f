"""The parts of a report on what was trained and how well it is judged."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from markupsafe import Markup

from fgvc_jax.evaluation import metrics
from fgvc_jax.evaluation.intervals import proportion
from fgvc_jax.evaluation.metrics import Metric
from fgvc_jax.evaluation.novelty import WORDS
from fgvc_jax.evaluation.tallies import is_flat
from fgvc_jax.figures import charts
from fgvc_jax.figures.advice import FEW, learning_curve
from fgvc_jax.figures.charts import Axis, Line
from fgvc_jax.figures.numbers import Bin, Numbers
from fgvc_jax.figures.page import percent, render, thousands
from fgvc_jax.figures.pictures import Pictures
from fgvc_jax.utils.text import calibrated

IN_A_BIN = 10  # images at the least, of which fewer are right or wrong by chance
FAR = 0.05  # of confidence from accuracy, which nobody calls good, whether or not it is chance
LEAST_ERRORS = 5  # below which nothing is said of where they are


def headline(numbers: Numbers) -> Markup:
    """The number that the run is known by, and tiles of what it is of."""
    count, images = numbers["members"], numbers["images"]["test"]
    found = numbers["metrics"]["ensemble"][-1]["accuracy"]
    low, high = _ends(found)
    best = max(each["accuracy"]["value"] for each in numbers["metrics"]["members"])
    likely = "likely range, with other photographs"
    return render(
        "headline.html",
        members=count,
        right=round(found["value"] * images),
        images=images,
        which=numbers["which"],
        confused=numbers["confused_pairs"][:2],
        classes=numbers["class_names"],
        terms={likely: "95% interval over images"},
        numbers={
            "of test images named rightly": percent(found["value"]),
            likely: f"{100 * low:.1f} – {percent(high)}",
            **({"the best member alone": percent(best)} if count > 1 else {}),
            "test images": thousands(images),
            "classes": thousands(len(numbers["class_names"])),
        },
    )


def _ends(found: Metric) -> tuple[float, float]:
    """Of an interval; of a metric without one its value."""
    low, high, value = found["low"], found["high"], found["value"]
    return (value if low is None else low), (value if high is None else high)


def card(numbers: Numbers) -> Markup:
    """The paper, the authors' code and this run, with every deviation."""
    return render("card.html", card=numbers["card"], provenance=_provenance(numbers))


def _provenance(numbers: Numbers) -> dict[str, str]:
    environment, images = numbers["environment"], numbers["images"]
    return {
        "images": ", ".join(f"{count:,} {part}" for part, count in images.items() if count),
        "hours of training": _hours(numbers["seconds"]),
        "machine": ", ".join(environment.get("devices", [])),
        "software": ", ".join(
            f"{key} {environment[key]}" for key in ("jax", "flax", "python") if key in environment
        ),
        "commit": environment.get("commit") or "-",
        **{f"digest of {key}": _digests(value) for key, value in numbers["digests"].items()},
    }


def _digests(value: str | Sequence[str | None] | None) -> str:
    """Of weights one, or that of each member's where their networks differ."""
    each = [value] if value is None or isinstance(value, str) else value
    return ", ".join(one or "-" for one in each)


def _hours(seconds: Sequence[float | None]) -> str:
    known = [each for each in seconds if each is not None]
    return f"{sum(known) / 3600:.2f}" if known else "-"


Curve = Literal["test_accuracy", "validation_accuracy", "loss", "orthogonal"]  # of an `Epoch`


# -- how well --------------------------------------------------------------------------------------


class Interval(NamedTuple):
    """A metric in words, and the ends of its interval, if it has one."""

    value: str
    ends: str = ""


def members(numbers: Numbers) -> Markup:
    """Accuracy by the number of members, and all metrics of the ensemble."""
    ensemble = [found["accuracy"] for found in numbers["metrics"]["ensemble"]]
    single = [found["accuracy"] for found in numbers["metrics"]["members"]]
    other: Literal["final", "selected"]
    if numbers["which"] == "final":
        other, words = "selected", "selected epoch"
    else:
        other, words = "final", "last epoch"
    apart = [member[other] for member in numbers["single"]]
    count, last = len(single), interval(ensemble[-1], True)
    return render(
        "members.html",
        reading=(
            f"One network, {last.value} of the test images."
            if count == 1
            else f"Together {last.value}, alone {_range([each['value'] for each in single])}."
        ),
        metrics=_metrics(numbers),
        growth=_growth(ensemble, single) if len(ensemble) > 1 else Markup(),
        other=words if any(each is not None for each in apart) else None,
        rows=[
            {
                "number": number,
                "alone": interval(alone, True),
                "other": there,
                "fused": interval(fused, True),
            }
            for number, alone, there, fused in zip(
                numbers["numbers"], single, apart, ensemble, strict=True
            )
        ],
        protocol=numbers["published_protocol"],
        published=numbers["card"]["published"],
    )


def _range(shares: Sequence[float]) -> str:
    low, high = percent(min(shares)), percent(max(shares))
    return low if low == high else f"{low} to {high}"


def _growth(ensemble: Sequence[Metric], single: Sequence[Metric]) -> Markup:
    every = [end for found in [*ensemble, *single] for end in _ends(found)]
    count = len(ensemble)

    def line(title: str, found: Sequence[Metric], shift: float) -> Line:
        points = [(n + shift, each["value"]) for n, each in enumerate(found, start=1)]
        return Line(title, points, [_ends(each) for each in found], dots=True)

    x = Axis("number of members", 0.5, count + 0.5, "{:.0f}".format, at=range(1, count + 1))
    return charts.chart(
        "Accuracy on the test images",
        f"Accuracy of ensembles of 1 to {count} members, from {ensemble[0]['value']:.1%} to "
        f"{ensemble[-1]['value']:.1%}, and of each member alone; the table has the numbers.",
        x,
        charts.shares("accuracy", every),
        [line("ensemble of 1 … n", ensemble, -0.06), line("member n alone", single, 0.06)],
    )


def _metrics(numbers: Numbers) -> Markup:
    """The ensemble's other metrics, raw and, where there is a calibration, calibrated."""
    found = metrics.of_ensemble(numbers)
    rows = [
        {
            "words": f"{name.words}, nats" if name.unit == "nats" else name.words,
            "about": name.about,
            "cells": [interval(each, name.unit == "%") for each in cells],
        }
        for _, name, cells in metrics.named(found.values())
    ]
    return render(
        "metrics.html",
        kinds=list(found),
        rows=rows,
        alone=len(numbers["metrics"]["ensemble"]) == 1,
        calibrated=_calibrated(numbers),
    )


def _calibrated(numbers: Numbers) -> list[str]:
    """What people should know of the calibration, or why there is none."""
    if numbers["calibration"]:
        return calibrated(numbers["calibration"])
    if numbers["images"].get("validation"):
        return [
            "not calibrated: a calibration is told of all members of a run together (--members 0), "
            "where their answers for its validation part are kept"
        ]
    return ["not calibrated, which needs a validation part: train with --data.validation 0.1"]


def interval(found: Metric | None, is_share: bool) -> Interval:
    """A metric in words; a share in percent."""
    if found is None:
        return Interval("-")
    digits, unit, scale = (1, "%", 100) if is_share else (3, "", 1)
    numbers = (found["value"], found["low"], found["high"])
    rounded = (round(scale * n, digits) + 0.0 for n in numbers if n is not None)  # no -0.0
    value, *ends = (f"{number:.{digits}f}" for number in rounded)
    return Interval(f"{value}{unit}", " – ".join(ends))


def families(numbers: Numbers) -> Markup:
    """Accuracy at every level of the taxonomy, and the tree with where errors stay inside; empty
    without a taxonomy."""
    found = numbers["families"]
    if not found:
        return Markup()
    coarsened, levels = found["coarsened"], found["levels"]
    given = coarsened and coarsened["error_answered"]
    return render(
        "families.html",
        levels=levels,
        rows=[
            {"level": level, "groups": groups, "accuracy": interval(accuracy, True)}
            for level, groups, accuracy in zip(
                levels, found["groups"], found["accuracy"], strict=True
            )
        ],
        height=found["height"] and interval(found["height"], False),
        errors=found["errors"],
        coarsened=coarsened,
        wrong=coarsened and interval(coarsened["error"], True),
        given=given and interval(given, True),
        tree=found["tree"],
    )


def unknown(numbers: Numbers) -> Markup:
    """How images of other classes are told from known ones; empty where nobody asked."""
    found = numbers["unknown"]
    if not found:
        return Markup()
    at = found["at"]
    return render(
        "unknown.html",
        source=found["source"],
        images=found["images"],
        at=at
        and {"rate": at["rate"]}
        | {"found": interval(at["found"], True), "alarms": interval(at["alarms"], True)},
        rows=[
            {
                "words": WORDS[name],
                "taken": name == found["score"],
                "auroc": interval(each["auroc"], True),
                "fpr95": interval(each["fpr95"], True),
            }
            for name, each in found["scores"].items()
        ],
        about=found["about"],
    )


def curves(numbers: Numbers) -> Markup:
    """Charts of what was recorded in training, by epoch, or by photographs of a class where a head
    was solved; empty where nothing was."""
    recorded: dict[Curve, str] = {
        "test_accuracy": "Accuracy on the test images",
        "validation_accuracy": "Accuracy on the validation images",
        "loss": "Loss in training",
        "orthogonal": "Orthogonal loss in training",
    }
    drawn = []
    for key, title in recorded.items():
        lines = [
            Line(f"member {n}", [(e["epoch"], e[key]) for e in epochs if key in e])
            for n, epochs in zip(numbers["numbers"], numbers["learning"], strict=True)
        ]
        values = [y for line in lines for _, y in line.points]
        last = int(max((x for line in lines for x, _ in line.points), default=0))
        if last < 2 or not any(values):
            continue
        y = charts.shares if key.endswith("accuracy") else charts.amounts
        ends = ", ".join(
            f"{line.name} {y(title, values).written(line.points[-1][1])}"
            for line in lines
            if line.points
        )
        x = charts.epochs(last)
        words = f"{title} by epoch; after the last one: {ends}."
        drawn.append(charts.chart(title, words, x, y(title, values), lines))
    if curve := numbers["learning_curve"]:
        drawn.append(learning_curve(curve))
    return charts.side_by_side(drawn)


def sureness(numbers: Numbers) -> Markup:
    """Reliability, and risk by coverage."""
    bins = charts.put_together(numbers["reliability"], IN_A_BIN)
    curve = [(answered, risk) for answered, risk in numbers["risk_coverage"]]
    whole = Axis("confidence", 0, 1)
    found = numbers["metrics"]["ensemble"][-1]
    risk_axis = charts.shares("error rate", [0.0, *(risk for _, risk in curve)])
    reliable = charts.chart(
        "How often it is right, by how sure it is",
        f"In {len(bins)} bins, from the least sure, how often it is right against how sure it "
        f"is; the calibration error is {found['ece']['value']:.1%}. The dashed diagonal is ideal.",
        whole,
        Axis("right", 0, 1),
        [Line("raw", [(b["confidence"], b["accuracy"]) for b in bins], dots=True)],
        ideal=True,
        reading=calibration_reading(bins),
        term="reliability diagram",
    )
    risky = charts.chart(
        "Error rate among those answered",
        "Error rate where only the most confident answers are given: "
        f"{found['coverage_at_5_risk']['value']:.0%} of images are answered at 5% seen risk; "
        f"all images at {curve[-1][1]:.1%}.",
        Axis("share of images answered", 0, 1),
        risk_axis,
        [Line("raw", curve)],
        reading=risk_reading(curve, sum(b["images"] for b in bins)),
        term="risk and coverage",
    )
    return charts.side_by_side([reliable, risky])


def calibration_reading(bins: Sequence[Bin]) -> str:
    """Whether confidence means what it says: by the difference of its mean from the accuracy, where
    it is larger than noise; that images are too few where a large one may be noise."""
    images = np.array([each["images"] for each in bins])
    sure, right = (
        float(np.average([each[key] for each in bins], weights=images))
        for key in ("confidence", "accuracy")
    )
    count = int(images.sum())
    low, high = proportion(right * count, count)
    word = "surer than it should be" if sure > right else "right more often than it says"
    by_chance, apart = low <= sure <= high, abs(sure - right)
    if by_chance and apart > FAR:
        word = f"{count:,} test images are too few to tell whether it is {word}"
    else:
        word = "good" if by_chance or apart <= 0.01 else word  # a point matters to nobody
        word = f"as far as {count} test images can tell, {word}" if count < FEW else word
    said = f"on average it says {percent(sure, 0)} and is right for {percent(right, 0)}"
    return f"{word[0].upper()}{word[1:]}: {said}."


def risk_reading(curve: Sequence[tuple[float, float]], images: int) -> str:
    """Whether errors are among the answers that are least sure: how many a fifth of these holds."""
    errors = round(curve[-1][1] * images)
    if not errors:
        return "Nothing is named wrongly."
    if errors < LEAST_ERRORS:
        return (
            f"Only {errors} of {images:,} test images {'is' if errors == 1 else 'are'} named "
            "wrongly: too few to tell whether errors are among the answers that are least sure."
        )
    answered, risk = min(curve, key=lambda each: abs(each[0] - 0.8))
    out = errors - round(risk * answered * images)
    share = out / errors
    word = "Good" if share >= 0.5 else "Fair" if share >= 0.3 else "Poor"  # by chance a fifth
    return (
        f"{word}: leaving the least sure fifth unanswered leaves out {out:,} of {errors:,} errors."
    )


def overlap_reading(numbers: Sequence[int], overlap: Sequence[Sequence[float]]) -> str:
    """Which members look at the same places most and least; empty below three, and of flat maps."""
    if len(overlap) < 3 or is_flat(overlap):
        return ""
    pairs = {
        (numbers[i], numbers[j]): (overlap[i][j] + overlap[j][i]) / 2
        for i in range(len(overlap))
        for j in range(i)
    }
    least, most = (choose(pairs, key=lambda pair: pairs[pair]) for choose in (min, max))
    return (
        f"Members {most[1]} and {most[0]} look most at the same places, "
        f"{least[1]} and {least[0]} least."
    )


def looks(numbers: Numbers, show: Pictures) -> Markup:
    """Overlap of the members' attention, and a few images in the light of each member's map."""
    return render(
        "looks.html",
        reading=overlap_reading(numbers["numbers"], numbers["attention_overlap"]),
        numbers=numbers["numbers"],
        overlap=numbers["attention_overlap"],
        flat=is_flat(numbers["attention_overlap"]),
        looks=numbers["looks"],
        classes=numbers["class_names"],
        show=show,
    )
