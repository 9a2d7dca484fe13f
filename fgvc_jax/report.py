"""python -m fgvc_jax.report: one page on what a run learned and where it is wrong."""

from fgvc_jax import command

if __name__ == "__main__":
    command.prepare()

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fgvc_jax import analysis, card, config, digests, paths, predictions, storage
from fgvc_jax.analysis import Answers
from fgvc_jax.calibration import Fused
from fgvc_jax.engine import journal
from fgvc_jax.errors import UserError
from fgvc_jax.figures.pictures import Pictures
from fgvc_jax.figures.report import report_page
from fgvc_jax.options import option
from fgvc_jax.predictions import Part
from fgvc_jax.text import printable
from fgvc_jax.thumbnails import Thumbnails
from fgvc_jax.workdir import Record, Workdir

PICTURES = 5 * 2**20  # bytes of pictures in a page
LOOKED = 8  # images that are shown with the members' attention
PAIRS = 1000  # confused pairs that are kept
EXAMPLES = 2  # photographs of each class of a pair


@dataclass(frozen=True)
class Report:
    """Make a page of a run, from what was kept of it: nothing is inferred, and the dataset may be
    gone. Beside the page go its numbers (.json) and the confusion matrix (.confusion.csv)."""

    workdir: str = "runs/sketchbirds"
    """A finished run of python -m fgvc_jax.train."""
    output: str = "report.html"
    """The page to write."""
    against: tuple[str, ...] = ()
    """Workdirs of other runs on the same test images, to compare with image by image."""
    members: int = option(0, at_least=0)
    """Report on the first so many members, of this run and the others; 0: on all."""


def main(arguments: list[str]) -> None:
    options = config.command_line(
        Report, arguments, program="python -m fgvc_jax.report", default=Report()
    )
    config.options.check(options)
    written = report(options)
    print("written: " + ", ".join(printable(str(path)) for path in written))


def report(options: Report) -> list[Path]:
    """Write the page and what goes beside it; the paths.

    Raises:
        UserError: when a run has not kept what is needed, another was judged on other images, or
            the output cannot be written.
    """
    page, numbers, matrix = _outputs(options.output)
    run = Kept.of(options.workdir, options.members)
    others = [Kept.of(other, options.members) for other in options.against]
    for other in others:
        run.check_comparable(other)
    answers = Answers.of(run.fused)
    found = _numbers(run, answers)
    found["against"] = [_against(run, answers, other) for other in others]
    storage.write_text(page, report_page(found, _pictures(run)))
    storage.write_text(numbers, json.dumps(found | {"report": 1}, indent=1) + "\n")
    _write_confusion(matrix, answers, run.part.classes)
    return [page, numbers, matrix]


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


# -- what was kept ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """A finished run, or its first members: what it is, its results, and its test answers."""

    workdir: Workdir
    record: Record
    results: dict[str, Any]
    part: Part
    identities: tuple[str, ...]

    @classmethod
    def of(cls, folder: str, members: int) -> "Kept":
        """Read a run; of all its members where `members` is 0."""
        workdir = Workdir(folder)
        record, results = workdir.record(), workdir.read_results()
        if results is None:
            raise UserError(
                f"workdir {folder!r} has no results yet: the command that trains it finishes it"
            )
        try:
            identities = results["digests"]["members"]
            part = predictions.read(workdir.predictions / results["predictions"]["test"])
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{str(workdir.results)!r} tells of no predictions ({error}): the command that "
                "trained it writes it anew, once the file is removed"
            ) from error
        if members > len(identities):
            raise UserError(
                f"--members is {members}: workdir {folder!r} has results of {len(identities)}"
            )
        identities = tuple(identities[: members or None])
        if not all(part.has(identity) for identity in identities):
            raise UserError(
                f"workdir {folder!r} no longer keeps what its members answer: "
                "python -m fgvc_jax.evaluate keeps it again"
            )
        return cls(workdir, record, results, part, identities)

    @property
    def fused(self) -> Fused:
        return Fused(self.part, self.identities, self.record.experiment.fusion)

    def check_comparable(self, other: "Kept") -> None:
        """Refuse a run on other test images."""
        images, theirs = len(self.part.labels), len(other.part.labels)
        same = not digests.differ(self.record.digests["test"], other.record.digests["test"])
        if not same or not np.array_equal(self.part.labels, other.part.labels):
            raise UserError(
                f"--against {str(other.workdir.path)!r} was judged on other test images or classes "
                f"({theirs:,} images of {len(other.part.classes):,} classes, here {images:,} of "
                f"{len(self.part.classes):,}): only runs on the same ones can be compared"
            )


def _numbers(run: Kept, answers: Answers) -> dict[str, Any]:
    """The content of report.json, but for the comparison with other runs."""
    results, count, classes = run.results, len(run.identities), len(run.part.classes)
    metrics = {kind: found[:count] for kind, found in results["metrics"].items()}
    complete = count == len(results["digests"]["members"])
    published = results["published_protocol"]
    made = card.card(run.record.experiment)
    known = results["digests"]
    return {
        "workdir": str(run.workdir.path),
        "source": results["source"],
        "images": results["images"],
        "class_names": list(run.part.classes),
        "members": count,
        "fusion": run.record.experiment.fusion,
        "card": asdict(made)
        | {
            "paper": made.paper,
            "rows": [asdict(row) | {"deviates": row.deviates} for row in made.rows],
        },
        "single": results["members"][:count],
        "metrics": metrics,
        "published_protocol": published
        and published | {kind: published[kind][:count] for kind in ("members", "ensemble")},
        "calibration": results["calibration"] if complete else None,
        "learning": [
            learning(journal.read(run.workdir.member(n) / "metrics.jsonl"))
            for n in range(1, count + 1)
        ],
        "reliability": analysis.reliability(answers.tally),
        "risk_coverage": analysis.risk_coverage(answers.tally),
        "attention_overlap": [row[:count] for row in results["attention_overlap"][:count]],
        "looks": _looks(run),
        "confused_pairs": _pairs(answers, classes),
        "errors": [
            _image(run.part, i)
            | {"predicted": int(answers.predicted[i]), "confidence": _confidence(answers, i)}
            for i in answers.errors()
        ],
        "doubted_labels": [
            _image(run.part, i)
            | {"suggested": int(answers.suggested[i]), "probability": _confidence(answers, i)}
            for i in answers.doubted()
        ],
        "classes": _classes(answers, run.part.classes),
        "environment": results["environment"],
        "seconds": results["seconds"]["members"][:count],
        "digests": {
            "data": known["data"],
            "weights": known["weights"],
            **{f"member {n}": each for n, each in enumerate(run.identities, start=1)},
        },
    }


def _confidence(answers: Answers, i: int) -> float:
    return round(float(answers.tally.confidence[i]), 6)


def _image(part: Part, i: int) -> dict[str, Any]:
    return {"image": int(i), "name": part.names[i], "label": int(part.labels[i])}


def learning(lines: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """The journal of a member by epoch: accuracies after it, means over the steps that are logged
    of the losses in it.

    Args:
        lines: of metrics.jsonl.
    """
    by_epoch: dict[int, dict[str, list[float]]] = {}
    for line in lines:
        epoch = by_epoch.setdefault(line["epoch"], {})
        for key in ("loss", "orthogonal", "test_accuracy", "validation_accuracy"):
            if isinstance(line.get(key), (int, float)):
                epoch.setdefault(key, []).append(line[key])
    return [
        {"epoch": epoch, **{key: float(np.mean(values)) for key, values in found.items()}}
        for epoch, found in sorted(by_epoch.items())
    ]


def _looks(run: Kept) -> list[dict[str, Any]]:
    """Images at even distances, with what each member says of them."""
    chosen = np.unique(np.linspace(0, len(run.part.labels) - 1, LOOKED).astype(int))
    members = [run.part.log_probabilities(identity) for identity in run.identities]
    return [
        _image(run.part, i) | {"predicted": [int(member[i].argmax()) for member in members]}
        for i in chosen
    ]


def _classes(answers: Answers, names: Sequence[str]) -> list[dict[str, Any]]:
    """Every class with its accuracy, the worst first; those without test images last."""
    images, right = analysis.of_classes(answers, len(names))
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


def _pairs(answers: Answers, classes: int) -> list[dict[str, Any]]:
    """Confused pairs, with images of both classes: those confused, then the surest."""
    images, _ = analysis.of_classes(answers, classes)
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
        for pair in analysis.confused_pairs(answers)[:PAIRS]
    ]


def _against(run: Kept, answers: Answers, other: Kept) -> dict[str, Any]:
    """Two runs, image by image."""
    theirs = Answers.of(other.fused)
    ours_right, theirs_right = answers.tally.right, theirs.tally.right
    images, ours = analysis.of_classes(answers, len(run.part.classes))
    gained = ours - analysis.of_classes(theirs, len(run.part.classes))[1]

    def changed(which: np.ndarray, wrong: Answers) -> list[dict[str, Any]]:
        chosen = np.flatnonzero(which)
        order = np.argsort(-wrong.tally.confidence[chosen], kind="stable")
        return [
            _image(run.part, i)
            | {"predicted": int(wrong.predicted[i]), "confidence": _confidence(wrong, i)}
            for i in chosen[order]
        ]

    return {
        "workdir": str(other.workdir.path),
        "members": len(other.identities),
        **analysis.compare(ours_right, theirs_right),
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


# -- files -----------------------------------------------------------------------------------------


def _pictures(run: Kept) -> Pictures:
    """The kept thumbnails and attention maps."""
    try:
        encoded = Thumbnails(run.part.folder, len(run.part.labels)).__getitem__
    except (FileNotFoundError, ValueError):
        encoded = _no_picture
    maps = [run.part.attention(identity) for identity in run.identities]
    view = run.record.experiment.data.view
    return Pictures(
        encoded,
        lambda image, member: maps[member - 1][image],
        share=view.crop / view.test_side,
        budget=PICTURES,
    )


def _no_picture(_image: int) -> bytes:
    return b""


def _write_confusion(path: Path, answers: Answers, classes: Sequence[str]) -> None:
    """A row for each true class, a column for each that is said, with the classes' names."""
    with storage.new_text(path) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["true class", *classes])
        for name, row in zip(classes, analysis.confusion(answers, len(classes)), strict=True):
            table.writerow([name, *row.tolist()])


if __name__ == "__main__":
    command.run(main)
