"""The parts of a report on what was trained and how well it is judged."""

from collections.abc import Mapping, Sequence
from typing import Any

from fgvc_jax.figures import charts
from fgvc_jax.figures.charts import Axis, Line
from fgvc_jax.figures.page import escape, name
from fgvc_jax.figures.pictures import Pictures
from fgvc_jax.utils.text import calibrated

Show = Pictures

STYLE = """
table.plain th:first-child, table.plain td:first-child { width: auto; }
.deviates { color: var(--look); font-weight: 600; }
.looks { display: grid; gap: .9rem 1.6rem; margin-top: .9rem;
  grid-template-columns: repeat(auto-fill, minmax(min(29rem, 100%), 1fr)); }
.look-row { display: flex; gap: .6rem; overflow-x: auto; padding-bottom: .3rem; }
.look-row figure { flex: none; width: 6.8rem; } .look-row img { height: 6.8rem; }
.overlap td { text-align: center; font-variant-numeric: tabular-nums; }
.overlap { width: auto; } .overlap th, .overlap td { padding: .35rem .7rem; }
td .soft { white-space: nowrap; }
@media (max-width: 34rem) { .scroll table { font-size: .8rem; } .scroll td .soft { display: block; }
  .look-row figure { width: 5.6rem; } .look-row img { height: 5.6rem; } }
"""

# Names of the metrics for people, and whether they are shown in percent.
METRICS = {
    "accuracy": ("accuracy", True),
    "mean_class_accuracy": ("mean accuracy per class", True),
    "nll": ("negative log-likelihood, nats", False),
    "brier": ("Brier score", False),
    "ece": ("calibration error", True),
    "aurc": ("area under risk and coverage", True),
    "coverage_at_5_risk": ("answered at 5% risk", True),
    "disagreement": ("members disagree", True),
    "mutual_information": ("mutual information, nats", False),
    "set_coverage": ("truth in the set", True),
    "set_size": ("classes in a set", False),
}


def headline(numbers: Mapping[str, Any]) -> str:
    """The number that the run is known by, and tiles of what it is of."""
    count, images = numbers["members"], numbers["images"]
    found = numbers["metrics"]["ensemble"][-1]["accuracy"]
    who = "The network names" if count == 1 else f"The ensemble of {count} names"
    best = max(each["accuracy"]["value"] for each in numbers["metrics"]["members"])
    epoch = ", each at the epoch that was best on validation" if numbers["which"] != "final" else ""
    tiles = {
        "of test images named rightly": f"{found['value']:.1%}",
        "95% interval over images": f"{100 * found['low']:.1f} – {found['high']:.1%}",
        **({"the best member alone": f"{best:.1%}"} if count > 1 else {}),
        "test images": f"{images['test']:,}",
        "classes": f"{len(numbers['class_names']):,}",
    }
    cells = "".join(f'<div class="tile"><b>{v}</b><span>{k}</span></div>' for k, v in tiles.items())
    right = round(found["value"] * images["test"])
    return (
        f'<p class="verdict">{who} {right:,} of {images["test"]:,} test images rightly{epoch}.</p>'
        f'<div class="tiles">{cells}</div>'
    )


# -- what was trained ------------------------------------------------------------------------------


def card(numbers: Mapping[str, Any]) -> str:
    """The paper, the authors' code and this run, with every deviation."""
    found = numbers["card"]
    parts = [f"<p>{escape(found['paper'])}.</p>"]
    if found["rows"]:
        lines = "".join(
            f"<tr><td>{escape(row['what'])}</td><td>{escape(row['paper'])}</td>"
            f"<td>{escape(row['code'])}</td>"
            f"<td{' class=deviates' if row['deviates'] else ''}>{escape(row['run'])}"
            f"{' *' if row['deviates'] else ''}</td></tr>"
            for row in found["rows"]
        )
        parts.append(
            '<div class="scroll"><table class="plain"><thead><tr><th></th><th>paper</th>'
            "<th>authors’ code</th><th>this run (* deviates)</th></tr></thead>"
            f"<tbody>{lines}</tbody></table></div>"
        )
    if found["recipe"]:
        deviations = "".join(f"<li>{name(each)}</li>" for each in found["deviations"])
        parts.append(
            f"<details><summary>{len(found['deviations'])} deviations from the published recipe, "
            f'{escape(found["recipe"])}</summary><ul class="plain">{deviations}</ul></details>'
        )
    else:
        parts.append('<p class="soft">No published recipe is of this method on these data.</p>')
    return "".join([*parts, _provenance(numbers)])


def _provenance(numbers: Mapping[str, Any]) -> str:
    environment, images = numbers["environment"], numbers["images"]
    rows = {
        "images": ", ".join(f"{count:,} {part}" for part, count in images.items() if count),
        "hours of training": _hours(numbers["seconds"]),
        "machine": ", ".join(environment.get("devices", [])),
        "software": ", ".join(
            f"{key} {environment[key]}" for key in ("jax", "flax", "python") if key in environment
        ),
        "commit": environment.get("commit") or "-",
        **{f"digest of {key}": value or "-" for key, value in numbers["digests"].items()},
    }
    lines = "".join(f"<tr><td>{key}</td><td>{name(str(v))}</td></tr>" for key, v in rows.items())
    return (
        "<details><summary>data, machine and digests</summary>"
        f'<table class="plain"><tbody>{lines}</tbody></table></details>'
    )


def _hours(seconds: Sequence[float | None]) -> str:
    known = [each for each in seconds if each is not None]
    return f"{sum(known) / 3600:.2f}" if known else "-"


# -- how well --------------------------------------------------------------------------------------


def members(numbers: Mapping[str, Any]) -> str:
    """Accuracy by the number of members, and all metrics of the ensemble."""
    ensemble = [found["accuracy"] for found in numbers["metrics"]["ensemble"]]
    single = [found["accuracy"] for found in numbers["metrics"]["members"]]
    drawn = _growth(ensemble, single) if len(ensemble) > 1 else ""
    told = _accuracies(numbers, ensemble, single)
    return f'<div class="charts">{drawn}<div>{told}</div></div>' + _metrics(numbers)


def _growth(ensemble: Sequence[Mapping], single: Sequence[Mapping]) -> str:
    every = [found[end] for found in [*ensemble, *single] for end in ("low", "high")]
    count = len(ensemble)

    def line(title: str, found: Sequence[Mapping], shift: float) -> Line:
        points = [(n + shift, each["value"]) for n, each in enumerate(found, start=1)]
        ends = [(each["low"], each["high"]) for each in found]
        return Line(title, points, ends, dots=True)

    x = Axis("number of members", 0.5, count + 0.5, "{:.0f}".format, at=range(1, count + 1))
    return charts.chart(
        "Accuracy on the test images",
        f"Accuracy of ensembles of 1 to {count} members, from {ensemble[0]['value']:.1%} to "
        f"{ensemble[-1]['value']:.1%}, and of each member alone; the table has the numbers.",
        x,
        charts.shares("accuracy", every),
        [line("ensemble of 1 … n", ensemble, -0.06), line("member n alone", single, 0.06)],
    )


def _accuracies(
    numbers: Mapping[str, Any], ensemble: Sequence[Mapping], single: Sequence[Mapping]
) -> str:
    other, words = {
        "final": ("selected", "selected epoch"),
        "selected": ("final", "last epoch"),
    }[numbers["which"]]
    known = any(member[other] is not None for member in numbers["single"])
    heads = ["n", "member n alone", *([words] if known else []), "ensemble of 1 … n"]
    rows = []
    for n, found, alone, fused in zip(
        numbers["numbers"], numbers["single"], single, ensemble, strict=True
    ):
        apart = [_percent(found[other])] if known else []
        rows.append([str(n), interval(alone, True), *apart, interval(fused, True)])
    published = numbers["published_protocol"]
    foot = ""
    if published:
        foot = (
            f"<p><b>{published['ensemble'][-1]:.2%}</b> under the published protocol: every member "
            "at the epoch that is best on the <em>test</em> images. Chosen by what it is judged "
            "by, it promises too much; it is for comparison with publications only.</p>"
        )
    if numbers["card"]["published"]:
        foot += f'<p class="soft">Published: {escape(numbers["card"]["published"])}.</p>'
    return _table(heads, rows) + foot


def _metrics(numbers: Mapping[str, Any]) -> str:
    """The ensemble's other metrics, raw and, where there is a calibration, calibrated."""
    found = {"raw": numbers["metrics"]["ensemble"][-1]}
    fitted = numbers["calibration"]
    if fitted:
        found["calibrated"] = fitted["metrics"]
    rows = [
        [words, *(interval(each.get(key), percent) for each in found.values())]
        for key, (words, percent) in METRICS.items()
        if any(key in each for each in found.values())
    ]
    note = (
        escape(" ".join(f"{line[0].upper()}{line[1:]}." for line in calibrated(fitted)))
        if fitted
        else "Not calibrated, which needs a validation part: train with --data.validation 0.1."
    )
    return (
        "<h3>The ensemble, with 95% bootstrap intervals over images</h3>"
        + _table(["", *found], rows)
        + f'<p class="soft">{note}</p>'
    )


def interval(found: Mapping[str, float] | None, percent: bool) -> str:
    """value (low – high) as HTML."""
    if found is None:
        return "-"
    digits, unit, scale = (1, "%", 100) if percent else (3, "", 1)
    ends = (round(scale * found[end], digits) + 0.0 for end in ("value", "low", "high"))  # no -0.0
    value, low, high = (f"{end:.{digits}f}" for end in ends)
    return f'{value}{unit} <span class="soft">({low} – {high})</span>'


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML of ours; the first column is words, the others numbers."""
    head = "".join(f"<th{' class=number' if n else ''}>{cell}</th>" for n, cell in enumerate(heads))
    lines = "".join(
        "<tr>"
        + "".join(f"<td{' class=number' if n else ''}>{cell}</td>" for n, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return (
        '<div class="scroll"><table class="plain"><thead>'
        f"<tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def curves(numbers: Mapping[str, Any]) -> str:
    """Charts of what was recorded in training, by epoch; empty where nothing was."""
    recorded = {
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
        if not values or not any(values):
            continue
        last = max(x for line in lines for x, _ in line.points)
        y = charts.shares if key.endswith("accuracy") else charts.amounts
        ends = ", ".join(
            f"{line.name} {y(title, values).written(line.points[-1][1])}"
            for line in lines
            if line.points
        )
        x = charts.epochs(last)
        words = f"{title} by epoch; after the last one: {ends}."
        drawn.append(charts.chart(title, words, x, y(title, values), lines))
    return f'<div class="charts">{"".join(drawn)}</div>' if drawn else ""


def sureness(numbers: Mapping[str, Any]) -> str:
    """Reliability, and risk by coverage."""
    bins, curve = numbers["reliability"], numbers["risk_coverage"]
    whole = Axis("confidence", 0, 1)
    found = numbers["metrics"]["ensemble"][-1]
    risk_axis = charts.shares("error rate", [0.0, *(risk for _, risk in curve)])
    reliable = charts.chart(
        "Right by confidence (reliability)",
        f"In {len(bins)} bins of equal size, how often the ensemble is right against how sure it "
        f"is; the calibration error is {found['ece']['value']:.1%}. The dashed diagonal is ideal.",
        whole,
        Axis("right", 0, 1),
        [Line("raw", [(b["confidence"], b["accuracy"]) for b in bins], dots=True)],
        ideal=True,
    )
    risky = charts.chart(
        "Error rate among those answered (risk and coverage)",
        "Error rate where only the most confident answers are given: "
        f"{found['coverage_at_5_risk']['value']:.0%} of images can be answered at 5% errors; "
        f"all images at {curve[-1][1]:.1%}.",
        Axis("share of images answered", 0, 1),
        risk_axis,
        [Line("raw", curve)],
    )
    return f'<div class="charts">{reliable}{risky}</div>'


# -- attention -------------------------------------------------------------------------------------


def looks(numbers: Mapping[str, Any], show: Show) -> str:
    """Overlap of the members' attention, and a few images in the light of each member's map."""
    return _overlap(numbers["attention_overlap"]) + _lit(numbers, show)


def _overlap(matrix: Sequence[Sequence[float]]) -> str:
    if len(matrix) < 2:
        return ""
    numbers = range(1, len(matrix) + 1)
    rows = "".join(
        f'<tr><th scope="row">{i}</th>' + "".join(f"<td>{x:.3f}</td>" for x in row) + "</tr>"
        for i, row in zip(numbers, matrix, strict=True)
    )
    heads = "".join(f'<th scope="col">{n}</th>' for n in numbers)
    return (
        '<p class="soft">Overlap of attention, the orthogonal loss of member (row) as teacher and '
        "member (column) as student: the smaller, the less they look at the same places.</p>"
        f'<div class="scroll"><table class="overlap"><thead><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _lit(numbers: Mapping[str, Any], show: Show) -> str:
    classes, rows = numbers["class_names"], []
    for entry in numbers["looks"]:
        label = classes[entry["label"]]
        figures = [
            f"<figure>{show.show(entry['image'], f'an image of {label}')}<figcaption>"
            f'<b class="clamp">{name(label)}</b></figcaption></figure>'
        ]
        for n, said in enumerate(entry["predicted"], start=1):
            right = said == entry["label"]
            words = f"where member {n} looks in an image of {label}"
            told = "right" if right else f"says {name(classes[said])}"
            figures.append(
                f"<figure>{show.spotlight(entry['image'], n, words)}<figcaption>member {n}"
                f'<span class="clamp {"fine" if right else "stops"}">{told}</span>'
                "</figcaption></figure>"
            )
        rows.append(f'<div class="look-row" data-item>{"".join(figures)}</div>')
    if not rows:
        return ""
    return (
        '<p class="soft">Coloured is where a member looks, by its attention map; outlined, where '
        "the map is above half of its largest value. The images are "
        f'taken at even distances, not chosen.</p><div class="looks">{"".join(rows)}</div>'
    )
