"""Which images calibrate a run: its validation part, what a solver held out, or none."""

from types import SimpleNamespace

import numpy as np
import pytest

from fgvc_jax.data.view import View
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import predictions
from fgvc_jax.workdir.calibration_set import CalibrationSet

VIEW = View()


def record_of(digests, solves=False):
    method = SimpleNamespace(solves=solves)
    experiment = SimpleNamespace(method=method, data=SimpleNamespace(view=VIEW))
    return SimpleNamespace(digests=digests, experiment=experiment, held_out="held-out digest")


def kept(folder, part, images):
    """Two members' answers for four images."""
    source = SimpleNamespace(names=list("abcd"), labels=np.array([0, 1, 2, 0]), ids=np.arange(4))
    made = predictions.part_of(folder, part, source, classes="xyz", view=VIEW, images=images)
    with predictions.keep(made, ["m1", "m2"], [(1, 1)] * 2) as arrays:
        for number, (answers, maps) in enumerate(arrays):
            answers[:], maps[:] = np.log([0.6, 0.3, 0.1][number:] + [0.6, 0.3, 0.1][:number]), 0


def test_a_validation_part_comes_before_what_was_held_out(tmp_path):
    known = {"validation": {"contents": "v"}, "train": {"contents": "t"}}
    of = CalibrationSet.of
    assert of(tmp_path, record_of(known, True), ["m1"], "logits").part == "validation"
    held_out = of(tmp_path, record_of({"train": {}}, True), ["m1"], "logits")
    assert (held_out.part, held_out.images) == (predictions.HELD_OUT, "held-out digest")
    with pytest.raises(UserError, match="has no validation part, which calibration needs"):
        _ = of(tmp_path, record_of({}), ["m1"], "logits").fitted_to


def test_the_part_is_read_where_all_members_answered(tmp_path):
    kept(tmp_path, "validation", "d")
    found = CalibrationSet(tmp_path, ("m1", "m2"), "probabilities", VIEW, "validation", "d")
    assert found.fitted_to.labels.tolist() == [0, 1, 2, 0]
    other = CalibrationSet(tmp_path, ("m1", "m3"), "probabilities", VIEW, "validation", "d")
    with pytest.raises(UserError, match="does not keep what these members answer on its valid"):
        _ = other.fitted_to


def test_of_listed_classes_their_images_and_columns_are_taken(tmp_path):
    kept(tmp_path, "validation", "d")
    found = CalibrationSet(
        tmp_path, ("m1", "m2"), "probabilities", VIEW, "validation", "d", listed=(0, 2)
    )
    chosen = found._chosen
    assert len(chosen.labels) == 3 and set(chosen.labels.tolist()) == {0, 1}  # of the two
    assert len(chosen.classes) == 2
