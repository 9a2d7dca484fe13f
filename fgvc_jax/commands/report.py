"""One page on what a run learned and where it is wrong."""

import contextlib
import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from fgvc_jax.commands import named
from fgvc_jax.commands.asked import Report
from fgvc_jax.evaluation import error_analysis, families, statistics
from fgvc_jax.evaluation.error_analysis import Predictions
from fgvc_jax.figures import pictures
from fgvc_jax.figures.numbers import Numbers
from fgvc_jax.figures.pictures import Pictures
from fgvc_jax.figures.report import report_page
from fgvc_jax.published import card
from fgvc_jax.utils import paths, progress
from fgvc_jax.utils.errors import UserError
from fgvc_jax.utils.text import no_formula, printable
from fgvc_jax.workdir import calibration, columns, finished, mirror, remembered, storage, taxonomy
from fgvc_jax.workdir.calibration import judge_families
from fgvc_jax.workdir.finished import FinishedRun
from fgvc_jax.workdir.predictions import Part
from fgvc_jax.workdir.remembered import Nearest
from fgvc_jax.workdir.thumbnails import Thumbnails

Progress = Callable[[int], Any]  # is told how many images were read

PICTURES = 5 * 2**20  # bytes of pictures in a page
NEAR = 2**20  # likewise of training photographs
LOOKED = 8  # images that are shown with the members' attention
PAIRS = 1000  # confused pairs that are kept
MATRIX = 1000  # classes up to which the confusion matrix is written whole; 10,000 make 196 MB
EXAMPLES = 2  # photographs of each class of a pair


def main(arguments: list[str]) -> None:
    options = named.read(Report, "report", arguments)
    written = report(options)
    print("written: " + ", ".join(printable(str(path)) for path in written))


def report(options: Report) -> list[Path]:
    """Write the page and what goes beside it; the paths.

    Raises:
        UserError: when a run has not kept what is needed, another was judged on other images, or
            the output cannot be written.
    """
    page, numbers, matrix = _outputs(options.output)
    options = named.of_a_run(options)
    read = partial(FinishedRun.of, members=options.members, which=options.which, select=_selected)
    run = read(options.workdir)
    others = [read(other, what="--against") for other in options.against]
    for other in others:
        run.check_comparable(other)
    seeds = finished.seeds(run) if others else {}
    pairs = [_pairs_of_seeds(seeds, finished.seeds(other)) for other in others]
    with _progress(run, 2 * len([run, *others]) + 2 * sum(map(len, pairs))) as seen:
        answers = Predictions.of(run.fused(seen))
        found = _numbers(run, answers)
        found["against"] = [
            _against(run, answers, other, seen) | {"seeds": _over_seeds(paired, seen)}
            for other, paired in zip(others, pairs, strict=True)
        ]
    storage.write_text(page, report_page(cast(Numbers, found), _pictures(run), _photographs(run)))
    storage.write_text(numbers, json.dumps(found | {"report": 1}, indent=1) + "\n")
    _write_confusion(matrix, answers, run.part.classes, safe=options.csv_safe)
    return [page, numbers, matrix]


def _selected(folder: str, members: Sequence[int]) -> Sequence[str]:
    """Digests of the selected members of a workdir."""
    from fgvc_jax.inference import model  # few reports wait for networks' imports

    return model.open_model(folder, which="selected", members=members).identities


@contextlib.contextmanager
def _progress(run: FinishedRun, passes: int) -> Iterator[Progress]:
    """A bar of so many passes over the test images; what is to be told of images that are read."""
    total = passes * len(run.part.labels)
    with progress.bar(desc="read", total=total, unit=" images", leave=False) as shown:
        yield shown.update


def _outputs(text: str) -> tuple[Path, Path, Path]:
    """The page, its numbers and the confusion matrix."""
    page = paths.output(text)
    if page.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--output {text!r}: end it in .html")
    numbers = page.with_suffix(".json")
    if numbers.exists():
        there = storage.read_json(numbers)
        if not isinstance(there, dict) or "report" not in there:
            raise UserError(
                f"--output {text!r} would replace {str(numbers)!r}, which is no report: name "
                "another"
            )
    return page, numbers, page.with_suffix(".confusion.csv")


# -- the numbers -----------------------------------------------------------------------------------


def _numbers(run: FinishedRun, answers: Predictions) -> dict[str, Any]:
    """The content of report.json, but for the comparison with other runs."""
    results, count, classes = run.results, len(run.identities), len(run.part.classes)
    published = results["published_protocol"]
    made = card(run.record.experiment, run.which)
    known, nearest = results["digests"], _nearest(run)
    return {
        "workdir": mirror.by_url(str(run.workdir.path)),
        "source": results["source"],
        "images": results["images"],
        "left_out": [each["name"] for each in results.get("left_out", ())],
        "class_names": list(run.part.classes),
        "members": count,
        "numbers": list(run.numbers),
        "which": run.which,
        "fusion": run.record.experiment.fusion,
        "card": asdict(made)
        | {
            "paper": made.paper,
            "rows": [asdict(row) | {"deviates": row.deviates} for row in made.rows],
        },
        "single": run.of_each(results["members"]),
        **run.judged,
        "published_protocol": (
            published | {kind: published[kind][:count] for kind in ("members", "ensemble")}
            if published and run.first
            else None
        ),
        "learning": run.learning,
        "learning_curve": run.learning_curve,
        "reliability": error_analysis.reliability(answers.tally),
        "risk_coverage": error_analysis.risk_coverage(answers.tally),
        "looks": _looks(run),
        "families": _families(run, answers),
        "by": _by(run, answers),
        "unknown": calibration.unknown(run.workdir.path, run.identities),
        "confused_pairs": _pairs(answers, classes),
        "errors": [
            _image(run.part, i)
            | {"predicted": int(answers.predicted[i]), "confidence": _confidence(answers, i)}
            | nearest.get(int(i), {})
            for i in answers.errors()
        ],
        "doubted_labels": _doubts(run.part, answers, run.held_out is not None),
        "doubted_training_labels": _implausible(run),
        "classes": _classes(answers, run.part.classes),
        "environment": results["environment"],
        "seconds": run.of_each(results["seconds"]["members"]),
        "digests": {
            "data": known["data"],
            "weights": known["weights"],
            **{f"member {n}": each for n, each in zip(run.numbers, run.identities, strict=True)},
        },
    }


def _families(run: FinishedRun, answers: Predictions) -> dict[str, Any] | None:
    """What is said at every level of the taxonomy, and "tree", see `families.tree`; None without a
    taxonomy."""
    found = taxonomy.kept(run.workdir.path, run.part.classes)
    if found is None:
        return None
    tree = families.tree(found, answers.labels, answers.predicted)
    return judge_families(run.part, run.calibration_store, found) | {"tree": tree}


def _by(run: FinishedRun, answers: Predictions) -> list[dict[str, Any]]:
    """What is right at each site and date that the run's list told."""
    right = answers.predicted == answers.labels
    found = columns.kept(run.workdir.path, run.part.names)
    return [column.judge(run.part.names, right) for column in found]


def _nearest(run: FinishedRun) -> dict[int, dict[str, Any]]:
    """{image: {"nearest": training photographs}} of the most confident errors, where that is kept
    of these members."""
    part = remembered.find(run.workdir.path, run.record)
    kept = part and Nearest.read(part, run.identities)
    if not (part and kept and kept.is_of(run.identities, run.part)):
        return {}
    return {
        image: {
            "nearest": [
                {
                    "row": row,
                    "name": part.names[row],
                    "label": int(part.labels[row]),
                    "similarity": round(similarity, 4),
                }
                for row, similarity in rows
            ]
        }
        for image, rows in kept.found.items()
    }


def _implausible(run: FinishedRun) -> list[dict[str, Any]]:
    """Training images with an implausible label, the least plausible first, where some were held
    out; with their row among the photographs that are kept."""
    part = run.held_out
    if part is None:
        return []
    answers = Predictions.of(run.fused(part=part))
    kept = remembered.find(run.workdir.path, run.record)
    rows = {name: {"row": row} for row, name in enumerate(kept.names if kept else [])}
    return [doubt | rows.get(doubt["name"], {}) for doubt in _doubts(part, answers, True)]


def _doubts(part: Part, answers: Predictions, meant: bool) -> list[dict[str, Any]]:
    """Images of a part whose label is doubted, with the class that is said instead; `meant` as for
    `Predictions.doubts`: what is solved is calibrated by itself."""
    images, said = answers.doubts(meant)
    return [
        _image(part, i) | {"suggested": int(said[i]), "probability": _confidence(answers, i)}
        for i in images
    ]


def _confidence(answers: Predictions, i: int) -> float:
    return round(float(answers.tally.confidence[i]), 6)


def _image(part: Part, i: int) -> dict[str, Any]:
    return {"image": int(i), "name": part.names[i], "label": int(part.labels[i])}


def _looks(run: FinishedRun) -> list[dict[str, Any]]:
    """Images at even distances, with what each member says of them."""
    chosen = np.unique(np.linspace(0, len(run.part.labels) - 1, LOOKED).astype(int))
    members = [run.part.log_probabilities(identity) for identity in run.identities]
    return [
        _image(run.part, i) | {"predicted": [int(member[i].argmax()) for member in members]}
        for i in chosen
    ]


def _classes(answers: Predictions, names: Sequence[str]) -> list[dict[str, Any]]:
    """Every class with its accuracy, the worst first; those without test images last."""
    images, right = error_analysis.of_classes(answers, len(names))
    present, first = np.unique(answers.labels, return_index=True)
    examples = dict(zip(present.tolist(), first.tolist(), strict=True))
    entries = []
    for label, title in enumerate(names):
        count, correct = int(images[label]), int(right[label])
        entries.append(
            {
                "class": title,
                "label": label,
                "images": count,
                "right": correct,
                "accuracy": correct / count if count else None,
                "example": examples.get(label),
            }
        )
    return sorted(
        entries, key=lambda e: (e["accuracy"] is None, e["accuracy"], -e["images"], e["label"])
    )


def _pairs(answers: Predictions, classes: int) -> list[dict[str, Any]]:
    """Confused pairs, with images of both classes: those confused, then the surest."""
    images, _ = error_analysis.of_classes(answers, classes)
    surest = np.argsort(-answers.tally.confidence, kind="stable")
    labels, predicted = answers.labels[surest], answers.predicted[surest]

    def examples(ours: int, other: int) -> list[int]:
        confused, right = (surest[(labels == ours) & (predicted == c)] for c in (other, ours))
        return [int(i) for i in [*confused[:EXAMPLES], *right[:EXAMPLES]][:EXAMPLES]]

    return [
        pair
        | {
            "images": [int(images[c]) for c in pair["classes"]],
            "examples": [examples(*pair["classes"]), examples(*reversed(pair["classes"]))],
        }
        for pair in error_analysis.confused_pairs(answers)[:PAIRS]
    ]


def _against(
    run: FinishedRun, answers: Predictions, other: FinishedRun, seen: Progress
) -> dict[str, Any]:
    """Two runs, image by image."""
    theirs = Predictions.of(other.fused(seen))
    ours_right, theirs_right = answers.tally.right, theirs.tally.right
    images, ours = error_analysis.of_classes(answers, len(run.part.classes))
    gained = ours - error_analysis.of_classes(theirs, len(run.part.classes))[1]

    def changed(which: np.ndarray, wrong: Predictions) -> list[dict[str, Any]]:
        chosen = np.flatnonzero(which)
        order = np.argsort(-wrong.tally.confidence[chosen], kind="stable")
        return [
            _image(run.part, i)
            | {"predicted": int(wrong.predicted[i]), "confidence": _confidence(wrong, i)}
            for i in chosen[order]
        ]

    return {
        "workdir": mirror.by_url(str(other.workdir.path)),
        "members": len(other.identities),
        **statistics.compare_runs(ours_right, theirs_right),
        "classes": [
            {
                "class": int(label),
                "gained": int(gained[label]),
                "difference": float(gained[label] / images[label]) if images[label] else 0.0,
            }
            for label in np.argsort(-gained, kind="stable")
        ],
        "fixed": changed(ours_right & ~theirs_right, theirs),
        "broken": changed(theirs_right & ~ours_right, answers),
    }


def _pairs_of_seeds(
    ours: Mapping[int, FinishedRun], theirs: Mapping[int, FinishedRun]
) -> dict[int, tuple[FinishedRun, FinishedRun]]:
    """Two rows of a study, seed by seed; none where they have fewer than two in common."""
    common = {seed: (one, theirs[seed]) for seed, one in ours.items() if seed in theirs}
    return common if len(common) > 1 else {}


def _over_seeds(
    pairs: Mapping[int, tuple[FinishedRun, FinishedRun]], seen: Progress
) -> dict[str, Any] | None:
    """Accuracies of two rows of a study by seed, and their difference: `statistics.paired`, for new
    trainings on these images; `statistics.crossed`, on new images, too."""
    if not pairs:
        return None
    right = np.array([[run.right(seen) for run in pair] for pair in pairs.values()], float)
    ours, theirs = right.mean(-1).T.tolist()
    return {
        "seeds": list(pairs),
        "ours": ours,
        "theirs": theirs,
        "paired": statistics.paired(
            dict(zip(pairs, ours, strict=True)),
            dict(zip(pairs, theirs, strict=True)),
            share=True,
        ),
        "on_new_images": statistics.crossed(right[:, 0] - right[:, 1]),
    }


# -- files -----------------------------------------------------------------------------------------


def _pictures(run: FinishedRun) -> Pictures:
    """The kept thumbnails and attention maps."""
    maps = [run.part.attention(identity) for identity in run.identities]
    view = run.record.experiment.data.view
    return Pictures(
        _encoded(run.part),
        lambda image, member: maps[member - 1][image],
        share=view.crop / view.test_side,
        budget=PICTURES,
    )


def _photographs(run: FinishedRun) -> Pictures | None:
    """The kept training photographs."""
    part = remembered.find(run.workdir.path, run.record)
    return pictures.without_maps(_encoded(part), NEAR) if part else None


def _encoded(part: Part) -> Callable[[int], bytes]:
    try:
        return Thumbnails(part.folder, len(part.labels)).__getitem__
    except (FileNotFoundError, ValueError):
        return lambda image: b""


def _write_confusion(
    path: Path, answers: Predictions, classes: Sequence[str], *, safe: bool = False
) -> None:
    """A row for each true class, a column for each that is said, with the classes' names; of more
    than `MATRIX` classes a row for each pair that occurs."""
    names = [no_formula(name) for name in classes] if safe else classes
    whole = len(names) <= MATRIX
    with storage.new_text(path) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["true class", *names] if whole else ["true class", "named", "images"])
        for name, row in zip(names, error_analysis.confusion(answers, len(names)), strict=True):
            if whole:
                table.writerow([name, *row.tolist()])
            else:
                named = np.flatnonzero(row).tolist()
                table.writerows([name, names[said], row[said]] for said in named)
