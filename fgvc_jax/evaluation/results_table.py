"""Results as text, the table that a command ends with, and as records for a table of one's own."""

from collections.abc import Mapping
from typing import Any

from fgvc_jax.evaluation import metrics
from fgvc_jax.evaluation.metrics import Metric
from fgvc_jax.evaluation.novelty import WORDS
from fgvc_jax.evaluation.tallies import is_flat, mean_overlap
from fgvc_jax.utils import text

MOST_PLACES = 20


def results_table(results: dict[str, Any]) -> str:
    """Members and ensembles as text, accuracies in percent of all test images."""

    def percent(accuracy: float | None) -> str:
        return "-" if accuracy is None else f"{100 * accuracy:.2f}"

    columns = "final", "selected", "best_on_test"
    first = list(range(1, len(results["members"]) + 1))
    numbers = results.get("numbers", first)
    together = "ensemble of 1..n" if numbers == first else "ensemble up to it"
    several = [together] if len(first) > 1 else []
    header = "member", *(column.replace("_", " ") for column in columns), *several
    rows = [
        [number, *(percent(member.get(column)) for column in columns)]
        + [percent(fused) for _ in several]
        for number, member, fused in zip(
            numbers, results["members"], results["ensemble"], strict=True
        )
    ]
    lines = ["", f"test accuracy (%) on {text.counted(results['images']['test'], 'image')}"]
    lines.append(text.table(header, rows, labels=0))
    for tta, seen in results.get("tta", {}).items():
        told = _interval(seen["metrics"]["ensemble"][-1]["accuracy"], percent=True)
        each = ", ".join(percent(member["final"]) for member in seen["members"])
        lines.append(f"--tta {tta}: {told} together; the members {each}")
    overlap = mean_overlap(results["attention_overlap"])
    if overlap is not None:
        lines.append(
            "attention: the members' maps are flat, as behind a trunk of random weights: none "
            "looks anywhere in particular, so that no overlap is told"
            if is_flat(results["attention_overlap"])
            else f"mean attention overlap between members: {overlap:.3f}"
        )
    return "\n".join(
        lines
        + metrics_table(results)
        + families_table(results)
        + frequency_table(results)
        + places_table(results)
        + unknown_table(results)
    )


def records(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What results.json measures on the test images, one number a record.

    Returns:
        "of": "member" or "ensemble"; "number": of the member, or how many the ensemble has, from 1;
        "which": "final", "selected" or "best_on_test"; "calibrated": whether probabilities are;
        "metric": as results.json calls it; "value", "low", "high": with the ends of its 95 %
        interval over images, None where there is none.
    """
    found: list[dict[str, Any]] = []

    def add(of: str, number: int, which: str, calibrated: bool, each: Mapping[str, Metric]) -> None:
        start = {"of": of, "number": number, "which": which, "calibrated": calibrated}
        found.extend(start | {"metric": name, **metric} for name, metric in each.items())

    kinds = {"member": "members", "ensemble": "ensemble"}
    for of, key in kinds.items():
        for number, each in enumerate(results["metrics"][key], start=1):
            add(of, number, "final", False, each)
    if fitted := results["calibration"]:
        add("ensemble", len(results["ensemble"]), "final", True, fitted["metrics"])
    if judged := results.get("families"):
        levels = zip(judged["levels"], judged["accuracy"], strict=True)
        named = {f"accuracy at {level}": each for level, each in levels}
        named |= {"height of errors": judged["height"]} if judged["height"] else {}
        add("ensemble", len(results["ensemble"]), "final", False, named)
    for each in results.get("by_frequency") or ():
        of_kind = {f"accuracy on classes of {each['name']} images": each["accuracy"]}
        add("ensemble", len(results["ensemble"]), "final", False, of_kind)
    for judged in results.get("by") or ():
        column, there = judged["column"], judged["places"]
        at = {f"accuracy at {column} {each['name']}": each["accuracy"] for each in there}
        add("ensemble", len(results["ensemble"]), "final", False, at)
    for number, member in enumerate(results["members"], start=1):
        for which in ("selected", "best_on_test"):
            if (value := member.get(which)) is not None:
                alone: Metric = {"value": value, "low": None, "high": None}
                add("member", number, which, False, {"accuracy": alone})
    return found


def metrics_table(results: dict[str, Any]) -> list[str]:
    """The ensemble's other metrics with their 95 % intervals over images, if they have one, raw and
    calibrated."""
    if "metrics" not in results:
        return []
    found, fitted = metrics.of_ensemble(results), results["calibration"]
    for tta, seen in results.get("tta", {}).items():
        found |= {f"{tta}, {how}": each for how, each in metrics.of_ensemble(seen).items()}
    rows = [
        [
            f"{name.words} ({name.unit})" if name.unit else name.words,
            *(_interval(each, percent=name.unit == "%") for each in cells),
        ]
        for key, name, cells in metrics.named(found.values())
        if key != "accuracy"
    ]
    count = len(results["ensemble"])
    who = _who(results) if count == 1 else f"{_who(results)} of {count}"
    lines = ["", f"{who}, with 95 % intervals over images"]
    lines.append(text.table(["", *found], rows))
    lines += [name.about for _, name, _ in metrics.named(found.values()) if name.about]
    return lines + (text.calibrated(fitted) if fitted else [])


def families_table(results: Mapping[str, Any]) -> list[str]:
    """Accuracy at every level of the taxonomy, how far errors are from the truth, and how much is
    answered at each level; nothing where there is no taxonomy."""
    judged = results.get("families")
    if not judged:
        return []
    coarsened, levels = judged["coarsened"], judged["levels"]
    shares = coarsened["answered"] if coarsened else [None] * (len(levels) + 1)
    rows: list[list[object]] = [
        [level, groups, _interval(accuracy, percent=True), _answered(share)]
        for level, groups, accuracy, share in zip(
            levels, judged["groups"], judged["accuracy"], shares, strict=False
        )
    ]
    if coarsened:
        rows.append(["left open", "", "", _answered(shares[-1])])
    risk = f" at {coarsened['risk']:.0%} promised risk" if coarsened else ""
    lines = ["", f"{_who(results)} at the levels of the taxonomy"]
    lines.append(text.table(["", "groups", "accuracy (%)", f"answered (%){risk}"], rows))
    if judged["height"]:
        height = _interval(judged["height"], percent=False)
        lines.append(f"mean height of the lowest common ancestor of errors: {height}")
    if coarsened:
        error = _interval(coarsened["error"], percent=True)
        lines.append(f"answered so and wrong: {error} % of the images, which is what is promised")
        if given := coarsened.get("error_answered"):  # which earlier versions did not tell
            given = _interval(given, percent=True)
            lines.append(f"wrong among those that are not left open: {given} %")
    return lines


def frequency_table(results: Mapping[str, Any]) -> list[str]:
    """Accuracy on classes of many, some and few training images; nothing where they are alike."""
    judged = results.get("by_frequency")
    if not judged:
        return []
    rows = [
        [
            f"{each['name']} ({each['least']} to {each['most']})",
            each["classes"],
            each["images"],
            _interval(each["accuracy"], percent=True),
        ]
        for each in judged
    ]
    lines = ["", f"{_who(results)} by training images of a class"]
    return [*lines, text.table(["", "classes", "test images", "accuracy (%)"], rows)]


def places_table(results: Mapping[str, Any]) -> list[str]:
    """Accuracy at each site, or date, or what else a column of a list tells of images; nothing
    where there is none. Of many only the worst `MOST_PLACES`."""
    lines = []
    found = results.get("by") or []
    for judged in found:
        rows = [
            [text.printable(place["name"]), place["images"], place["groups"]]
            + [_interval(place["accuracy"], percent=True)]
            for place in judged["places"]
        ]
        column = text.printable(judged["column"])
        lines += ["", f"{_who(results)} by {column}, the worst first"]
        lines.append(text.table(["", "images", "groups", "accuracy (%)"], rows[:MOST_PLACES]))
        if len(rows) > MOST_PLACES:
            lines.append(f"and {len(rows) - MOST_PLACES} more, which --json and the report have")
        together = _interval(judged["accuracy"], percent=True)
        lines.append(f"together, with an interval for the mean of many like these: {together} %")
        told, count = sum(place["images"] for place in judged["places"]), results["images"]["test"]
        if told < count:
            lines.append(f"of {told:,} of {count:,} images: of the others no {column} is told")
    return lines


def unknown_table(results: Mapping[str, Any]) -> list[str]:
    """How well images of other classes are told from known ones; nothing where nobody asked."""
    judged = results.get("unknown")
    if not judged:
        return []
    rows = [
        [
            f"{WORDS[name]} *" if name == judged["score"] else WORDS[name],
            _interval(each["auroc"], percent=True),
            _interval(each["fpr95"], percent=True),
        ]
        for name, each in judged["scores"].items()
    ]
    count = judged["images"]
    others = text.counted(count["unknown"], "image")
    lines = ["", f"{others} of other classes against {count['known']:,} known"]
    header = "strange by", "AUROC (%)", "taken for known where 95 % of known are (%)"
    lines.append(text.table(header, rows))
    lines.append("AUROC: how often one of another class is stranger than a known one; 50 is chance")
    if at := judged["at"]:
        found, alarms = (_interval(at[name], percent=True) for name in ("found", "alarms"))
        lines.append(
            f"--unknown-rate {at['rate']:g} finds {found} % of them, and {alarms} % of known ones"
        )
    return [*lines, f"* {judged['about']}"]


def _who(results: Mapping[str, Any]) -> str:
    """Who answered: one network is no ensemble."""
    return "the network" if len(results["ensemble"]) == 1 else "the ensemble"


def _answered(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def _interval(found: Metric | None, *, percent: bool) -> str:
    if found is None:
        return "-"
    digits, scale = (2, 100) if percent else (3, 1)
    numbers = (found["value"], found["low"], found["high"])
    value, *ends = (f"{scale * number:.{digits}f}" for number in numbers if number is not None)
    return f"{value} ({'-'.join(ends)})" if ends else value
