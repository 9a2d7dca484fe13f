"""Judging members while they train: after every epoch, and at the end."""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.typing import VariableDict

from fgvc_jax.config import Experiment
from fgvc_jax.data import feed, whole
from fgvc_jax.data.feed import Images
from fgvc_jax.evaluation import tallies
from fgvc_jax.inference.answers import keep_answers, keep_nearest, keep_photographs
from fgvc_jax.inference.architecture import Member
from fgvc_jax.inference.model import Model
from fgvc_jax.training.best import Best
from fgvc_jax.training.run import Run
from fgvc_jax.utils import digests, processes
from fgvc_jax.utils.devices import Packed
from fgvc_jax.utils.progress import Reporter
from fgvc_jax.utils.text import printable
from fgvc_jax.workdir import (
    begun,
    checkpoint,
    columns,
    journal,
    predictions,
    remembered,
    storage,
    taxonomy,
)
from fgvc_jax.workdir.calibration import (
    CalibrationStore,
    judge_columns,
    judge_families,
    judge_frequency,
    judge_kept,
)
from fgvc_jax.workdir.finished import FinishedRun
from fgvc_jax.workdir.folder import Workdir

BEST_ON_TEST = "best_on_test"
log = logging.getLogger(__name__)


class Epochs:
    """Judges a member after an epoch, and keeps of the best epochs what cannot be had later.

    The epoch that did best on the validation part keeps its weights (members/NN/selected). Of the
    one that did best on *test*, which is what most publications report, the log-probabilities of
    the test images are kept, so that the ensemble of such members is known, too. A kill at any
    moment leaves what is kept and its record of one epoch, or has them so at the next start.

    Args:
        run: whose members are judged.
        number: of the member, from 1.
        folder: of the member.
    """

    def __init__(self, run: Run, number: int, folder: Path):
        self._run = run
        self._number = number
        self._folder = folder
        self._on_test = Best(folder / f"{BEST_ON_TEST}.json", "test_accuracy")
        if jax.process_index() == 0:
            self._put_answers()
        of_these = (self._on_test.record or {}).get("test_images") == len(run.splits.test)
        if not of_these or not storage.exists(folder / f"{BEST_ON_TEST}.npy"):
            self._on_test.record = None  # of other images: one was broken, and is gone
        self._selected = None
        if run.splits.validation is not None:
            self._selected = Best(folder / "selected.json", "validation_accuracy")
            weights = folder / "selected"
            if not storage.exists(weights):
                self._selected.record = None
            elif jax.process_index() == 0 and (known := checkpoint.about(weights)):
                self._selected.restore(known)
        self.last: dict[str, Any] | None = None  # scores of the last epoch that was judged

    def __call__(self, variables: VariableDict, position: dict[str, int]) -> dict[str, Any]:
        """Counts and accuracies of `variables` at {"step", "epoch"}."""
        member = self._run.member(self._number, variables)
        if jax.process_index() == 0:
            shape = len(self._run.splits.test), len(self._run.splits.classes)
            path = self._folder / f"{BEST_ON_TEST}.{position['step']}.npy"
            scores: dict[str, Any] = {}
            with storage.new_array(
                path, shape, np.float16, keep=lambda: self._on_test.improves(scores)
            ) as kept:
                scores |= evaluate_member(self._run, member, {"test": kept})
            if self._on_test.improves(scores):
                self._on_test.keep(position, scores)
                self._put_answers()
        else:
            scores = evaluate_member(self._run, member)
        if self._selected is not None:
            better = bool(processes.of_first(np.bool_(self._selected.improves(scores))))
            if better:
                known = {**position, **scores}
                checkpoint.save_final(self._folder / "selected", variables, known)
                self._selected.keep(position, scores, write=jax.process_index() == 0)
        self.last = scores
        return scores

    def _put_answers(self) -> None:
        """Give the answers that were kept at the step of the record their name; those of other
        steps, which no record was written of, go."""
        step = (self._on_test.record or {}).get("step")
        for path in storage.matching(self._folder, f"{BEST_ON_TEST}.*.npy"):
            if path.name == f"{BEST_ON_TEST}.{step}.npy":
                storage.rename(path, self._folder / f"{BEST_ON_TEST}.npy")
            else:
                storage.remove(path)


def evaluate_member(
    run: Run, member: Member, keep: dict[str, np.ndarray] | None = None
) -> dict[str, Any]:
    """Exact counts and accuracies of a member on the test set and, if there is one, the validation
    set.

    Args:
        run: whose member it is.
        member: to judge.
        keep: arrays (N, K) float16 by part, to fill in with the log-probabilities.
    """
    scores: dict[str, Any] = {}
    model = run.model([member], ["in training"])
    for name, images in run.cache.judged.items():
        total = len(images.source)
        answers = model.answers(batches_of(run, images), images.store)
        arrays = [(keep[name],)] if keep and name in keep else []
        (counts,) = predictions.fill(answers, arrays)
        scores[f"{name}_images"] = total
        scores[f"{name}_accuracy"] = counts.pop("prediction") / total
        if len(counts) > 1:
            scores |= {f"{name}_accuracy_{head}": n / total for head, n in counts.items()}
    return scores


def is_tested(run: Run, names: Sequence[str]) -> bool:
    """Whether one of some images is of the test part; by their names or files."""
    test, known = run.splits.test, set(names)
    files = (whole.file_of(test, row) for row in range(len(test)))
    return not known.isdisjoint(test.names) or not known.isdisjoint(files)


def batches_of(run: Run, images: Images) -> Iterator[Packed]:
    """Every image of a set once, on the devices of a run."""
    most = run.experiment.evaluation_batch_size
    return feed.evaluation_batches(images, most, run.mesh)


def judge_run(
    run: Run,
    workdir: Workdir,
    frozen: Sequence[tuple[str, Member]],
    environment: dict[str, Any],
    report: Reporter,
    *,
    compared: bool = False,
) -> dict[str, Any]:
    """Judge all members of a run; the content of results.json. Unless it is only `compared`, see
    `members.train`, keep what they see of some training photographs."""
    identities = [identity for identity, _ in frozen]
    model = run.model([member for _, member in frozen], identities)
    photographs = None if compared else _keep_photographs(run, workdir, model, report)
    parts = {}
    for name, images in run.cache.judged.items():
        parts[name] = _part(run, workdir, name)
        decoded = run.images[name]
        keep_answers(
            model,
            parts[name],
            partial(batches_of, run, images),
            decoded.store,
            pictures=partial(batches_of, run, decoded) if images.lookups else None,
            photographs=photographs,
        )
    if photographs:
        keep_nearest(model, photographs, parts["test"], partial(_some, run, "test"))
    kept = CalibrationStore.of(workdir.path, run.record, identities, run.experiment.fusion)
    families = taxonomy.kept(workdir.path, run.splits.classes)
    told = columns.kept(workdir.path, parts["test"].names)
    first = jax.process_index() == 0
    found = judge_kept(parts["test"], kept, families, write=first, advise=first and not compared)
    counts = np.bincount(run.splits.train.labels, minlength=len(run.splits.classes))
    histories = [history(workdir.member(n)) for n in range(1, len(frozen) + 1)]
    splits, known = run.splits, run.record.digests
    return {
        "source": run.experiment.data.source,
        "classes": len(splits.classes),
        "class_names": list(splits.classes),
        "digests": {
            "weights": known["weights"],
            "teacher": known["teacher"],
            "data": known["data"],
            "training": [each["training"] for each in histories],
            "members": identities,
        },
        "images": {
            "train": len(splits.train),
            "validation": len(splits.validation) if splits.validation is not None else 0,
            "test": found["images"],
        },
        "left_out": [each._asdict() for each in run.left_out],
        "seen_by_teachers": run.seen_by_teachers,
        "members": [
            {"final": final, **each["scores"]}
            for final, each in zip(found["single"], histories, strict=True)
        ],
        "ensemble": found["ensemble"],
        "attention_overlap": found["attention_overlap"],
        "response_overlap": found["response_overlap"],
        "metrics": found["metrics"],
        "families": found["families"],
        "by_frequency": judge_frequency(parts["test"], kept, counts),
        "by": judge_columns(parts["test"], kept, told),
        "calibration": found["calibration"],
        "published_protocol": published_protocol(run, workdir, len(frozen)),
        "predictions": {name: part.folder.name for name, part in parts.items()},
        "environment": environment,
        "seconds": {"members": [each["seconds"] for each in histories]},
    }


def _part(run: Run, workdir: Workdir, name: str) -> predictions.Part:
    """Where members' answers for a part are kept."""
    return predictions.part_of(
        workdir.path,
        name,
        run.splits.parts[name],
        classes=run.splits.classes,
        view=run.experiment.data.view,
        images=digests.best(run.record.digests[name]),
    )


def _keep_photographs(
    run: Run, workdir: Workdir, model: Model, report: Reporter
) -> predictions.Part:
    """Keep some training photographs of a run, and what its members see of them, see
    `workdir.remembered`."""
    most = remembered.fitting(sum(model.widths()))
    part, rows = remembered.part_of(workdir.path, run.splits.train, run.record, most)
    known = run.cache.seen_at_test(rows)
    keep_photographs(model, part, rows, partial(_some, run, "train"), report, known)
    return part


def _some(run: Run, name: str, rows: np.ndarray) -> tuple[Iterator[Packed], jax.Array | None]:
    """A pass over some images of a part, in batches as all test images are shown in, for which the
    programs are compiled; and the images on the devices."""
    images = run.images.at_test(name, rows)
    count, most = len(run.splits.test), run.experiment.evaluation_batch_size
    return feed.batches(images, feed.evaluation_size(count, most, run.mesh), run.mesh), images.store


def judge_families_anew(workdir: Workdir, results: dict[str, Any], experiment: Experiment) -> str:
    """Judge a finished run by another taxonomy than its own, where one is asked for, from what its
    members answered; a line that says so, empty where there is nothing to do.

    Args:
        workdir: of the run.
        results: its results.json, to which what is found is added.
        experiment: may name a taxonomy.

    Raises:
        UserError: when it is none of the run's classes, or the answers are not kept.
    """
    classes = workdir.record().classes
    wanted = taxonomy.asked(workdir.path, experiment, classes)
    if wanted is None or (results.get("families") and taxonomy.is_kept(workdir.path, wanted)):
        return ""
    with workdir.lock():
        run = FinishedRun.of(workdir.address)
        found = judge_families(run.part, run.calibration_store, wanted)
        results["families"] = found
        storage.write_json(workdir.results, results)
        taxonomy.keep(workdir.path, experiment, wanted)
    return f"{workdir.path}: judged at the levels {printable(', '.join(wanted.levels))}"


def history(folder: Path) -> dict[str, Any]:
    """What is recorded of a member's training: its digest, scores and seconds; None where lost."""
    try:
        record = storage.read_json(folder / begun.FILE)
    except FileNotFoundError:
        record = {}
    record = record if isinstance(record, dict) else {}
    scores: dict[str, float | None] = {}
    for name in ("selected", "best_on_test"):
        best = Best(folder / f"{name}.json", "test_accuracy").record
        scores[name] = best["test_accuracy"] if best else None
    heads = {k: v for k, v in record.get("scores", {}).items() if k.startswith("test_accuracy_")}
    return {
        "training": record.get("training"),
        "seconds": record.get("seconds"),
        "scores": scores | heads,
    }


def published_protocol(run: Run, workdir: Workdir, members: int) -> dict[str, Any] | None:
    """What most publications report: every member at the epoch that is best on the *test* set.

    Chosen on the test set, hence labelled as such. None where an answer is not kept.
    """
    folders = [workdir.member(n) for n in range(1, members + 1)]
    try:
        kept = [storage.map_array(folder / f"{BEST_ON_TEST}.npy") for folder in folders]
    except (FileNotFoundError, ValueError):
        return None
    labels = run.splits.test.labels
    if any(answers.shape != (len(labels), len(run.splits.classes)) for answers in kept):
        return None
    found = tallies.tallies(labels, kept, how=run.experiment.fusion).accuracies()
    return {
        "selected_by": "test accuracy",
        "members": found["single"],
        "ensemble": found["ensemble"],
    }


def seconds(folder: Path) -> float:
    """Seconds of training that a member's journal tells of."""
    return sum(line.get("seconds", 0.0) for line in journal.read(folder / "metrics.jsonl"))
