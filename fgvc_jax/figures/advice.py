"""What a report says that people may do next."""

import numpy as np
from markupsafe import Markup

from fgvc_jax.evaluation import error_analysis
from fgvc_jax.figures import charts
from fgvc_jax.figures.charts import Axis, Line
from fgvc_jax.figures.numbers import LearningCurve, Numbers
from fgvc_jax.figures.page import percent, render

NAMED = 8  # classes, at the most
FEW = 100  # test images, below which a number is a hint
TRUSTED = 0.5  # accuracy, from which an error may be the label's and not the network's
HARDLY = 0.02  # what a doubling certainly stays below where more photographs hardly help


def advice(numbers: Numbers) -> Markup:
    """What people may do next: labels and files to look at, whether more photographs would help and
    of which classes, those to look at, whether one network would be enough."""
    training = numbers["doubted_training_labels"]
    ensemble, single = (numbers["metrics"][key] for key in ("ensemble", "members"))
    best = max(each["accuracy"]["value"] for each in single)
    overall = ensemble[-1]["accuracy"]["value"]
    images, right = (np.array([c[key] for c in numbers["classes"]]) for key in ("images", "right"))
    weak = error_analysis.weak(images, right, overall)
    doubted = numbers["doubted_labels"] if overall >= TRUSTED else ()
    gain = 100 * (overall - best)
    curve = numbers["learning_curve"]
    words = more_photographs(curve) if curve else ""
    return render(
        "next.html",
        weak_network=overall < TRUSTED,
        check=[
            *({"name": each["name"], "part": "training"} for each in training),
            *({"name": each["name"], "part": "test"} for each in doubted),
        ],
        several_parts=bool(training and doubted),
        left_out=numbers["left_out"],
        more=words,
        help=curve and curve["gain"]["low"] > 0,
        gaining=[
            {
                "class": numbers["class_names"][each["label"]],
                "half": f"{each['photographs'][-2]:.0f}",
                "photographs": f"{each['photographs'][-1]:.0f}",
                "before": percent(each["accuracy"][-2], 0),
                "now": percent(each["accuracy"][-1], 0),
            }
            for each in (curve["classes"][:NAMED] if curve and words else ())
        ],
        weak=[numbers["classes"][i] for i in np.flatnonzero(weak)[:NAMED]],
        members=numbers["members"],
        few=images.sum() if images.sum() < FEW else 0,
        each=round(images.sum() / max(np.count_nonzero(images), 1)),
        enough=(
            f"The {numbers['members']} networks together are {gain:.1f} points better than the "
            "best of them alone."
            if gain > 0
            else f"One network is enough: the {numbers['members']} together name no more images "
            "rightly than the best of them alone."
        ),
    )


def more_photographs(curve: LearningCurve) -> str:
    """What a doubling brought, and what another one may, in sentences; empty where the interval
    leaves open whether it is much or nothing."""
    before, now = (f"{count:.0f}" for count in curve["photographs"][-2:])
    gain = curve["gain"]
    low, high = gain["low"], gain["high"]
    if low <= 0 and high >= HARDLY:
        return ""
    brought = (
        f"From {before} to {now} a class brought {_points(gain['value'])} points here "
        f"({_points(low)} to {_points(high)}): {percent(curve['accuracy'][-2])} of training "
        f"photographs that were held out were named rightly, then {percent(curve['accuracy'][-1])}."
    )
    if low <= 0:
        return brought
    return (
        f"{brought} Twice as many as now would probably bring about {100 * curve['next']:.1f} "
        "points or somewhat less."
    )


def learning_curve(curve: LearningCurve) -> Markup:
    """A chart of accuracy by photographs of a class."""
    counts, accuracy = curve["photographs"], curve["accuracy"]
    told = ", ".join(
        f"{percent(value)} from {count:.0f}" for count, value in zip(counts, accuracy, strict=True)
    )
    return charts.chart(
        "Right by photographs of a class",
        f"Training photographs that were held out, named rightly: {told} of each class.",
        Axis("photographs learned from", 0, max(counts), "{:.0f}".format, at=[0, *counts]),
        charts.shares("right, of those held out", accuracy),
        [Line("", list(zip(counts, accuracy, strict=True)), dots=True)],
        reading=_more_or_not(curve),
    )


def _more_or_not(curve: LearningCurve) -> str:
    """Whether more photographs would help, in a sentence."""
    gain = curve["gain"]
    if gain["low"] > 0:
        return "Still rising: more photographs help."
    if gain["high"] < HARDLY:
        return "Flat: more photographs of the same kind will hardly help."
    return (
        f"Too few to tell whether more would help: the last doubling brought "
        f"{_points(gain['value'])} points ({_points(gain['low'])} to {_points(gain['high'])})."
    )


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"
