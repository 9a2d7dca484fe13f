"""What of a finished run is read and refused; tests/commands/test_report.py trains some."""

import dataclasses

import numpy as np
import pytest
from conftest import tiny

from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import Record, Workdir, predictions, storage
from fgvc_jax.workdir.finished import FinishedRun

CLASSES, LABELS = ("a", "b"), np.array([0, 1, 1], np.int32)
TEST = {"names": "t", "contents": None}


class Source:
    names, labels, ids = ("x", "y", "z"), LABELS, np.arange(3)


def finished(folder, **changes):
    """A run of two members, of which the first is right and the second always says "b"."""
    workdir = Workdir(folder)
    record = Record(tiny(folder, **changes), CLASSES, {"test": TEST}, False)
    workdir.claim(record)
    view = record.experiment.data.view
    part = predictions.part_of(
        workdir.path, "test", Source(), classes=CLASSES, view=view, images="i" * 64
    )
    for identity, says in (("1" * 64, LABELS), ("2" * 64, [1, 1, 1])):
        answers = np.full((3, 2), -9, np.float16)
        answers[np.arange(3), says] = 0
        storage.write_array(part.path(identity, "log_probabilities"), answers)
    return workdir, part


def test_without_results_or_predictions_a_run_is_not_finished(tmp_path):
    workdir, _ = finished(tmp_path)
    with pytest.raises(UserError, match="has no results yet: the command that trains it finishes"):
        FinishedRun.of(str(tmp_path))
    storage.write_json(workdir.results, {"digests": {"members": ["1" * 64]}})
    with pytest.raises(UserError, match="tells of no predictions .'predictions'.: the command"):
        FinishedRun.of(str(tmp_path))


def made(tmp_path, numbers=(1, 2), labels=LABELS, **digests):
    workdir, part = finished(tmp_path)
    record = workdir.record()
    record = dataclasses.replace(record, digests={"test": TEST | digests})
    part = dataclasses.replace(part, labels=labels)
    identities = tuple(f"{n}" * 64 for n in numbers)
    return FinishedRun(workdir, record, {}, part, identities, numbers, "final", True, None)


def test_members_answer_together_and_by_themselves(tmp_path):
    assert made(tmp_path, numbers=(1,)).right().tolist() == [True, True, True]
    second = made(tmp_path, numbers=(2,))
    assert second.right().tolist() == [False, True, True]
    assert second.of_each("xy") == ["y"] and not second.first
    counted = []
    assert made(tmp_path).first and made(tmp_path).right(counted.append)[1:].all()
    assert sum(counted) == len(LABELS)


def test_only_runs_on_the_same_images_are_compared(tmp_path):
    run, same = made(tmp_path / "a"), made(tmp_path / "b")
    run.check_comparable(same)
    for other in (
        made(tmp_path / "c", names="others"),
        made(tmp_path / "d", labels=LABELS[::-1]),
    ):
        with pytest.raises(UserError, match="was judged on other test images or classes .3 images"):
            run.check_comparable(other)
