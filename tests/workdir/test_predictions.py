"""What members answered: put in place by row, known by what it is of, whole or not there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgvc_jax.data.view import View
from fgvc_jax.evaluation import learning_curve
from fgvc_jax.inference.passes import kept_answers
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import predictions, storage
from fgvc_jax.workdir.folder import Workdir

CLASSES = ("a", "b", "c")


class Source:
    names = ("one", "two", "three", "four", "five")
    labels = np.array([0, 1, 2, 0, 1], np.int32)
    ids = np.arange(5, dtype=np.int32)

    def __len__(self):
        return 5


def part(folder, images="digest", view=None):
    return predictions.part_of(
        folder, "test", Source(), classes=CLASSES, view=view or View(), images=images
    )


def answer(rows, mask, member):
    """As `answer_pass` gives it: the rows in any order, some of them padding."""
    rows = np.array(rows)
    values = np.float16(rows[:, None] * 10 + np.arange(3) + 100 * member)
    return {
        "row": rows, "mask": np.array(mask), "log_probabilities": values, "finite": np.True_,
        "attention": np.float16(np.ones((len(rows), 2, 2)) * rows[:, None, None]),
        "correct": {"prediction": np.int32(sum(mask))},
    }  # fmt: skip


def batches(members=1):
    for rows, mask in (([3, 0], [1, 1]), ([4, 1], [1, 1]), ([2, 0], [1, 0])):
        yield [answer(rows, np.bool_(mask), member) for member in range(members)]


def test_answers_go_where_their_row_says(tmp_path):
    """Not where they come in the batch: devices may stand in any order in a mesh."""
    kept = part(tmp_path)
    with predictions.keep(kept, ["m" * 64, "n" * 64], [(2, 2), (2, 2)]) as arrays:
        counts = predictions.fill(batches(2), arrays)
    assert counts == [{"prediction": 5}] * 2
    again = predictions.read(kept.folder)
    assert (again.names, again.classes, again.images) == (Source.names, CLASSES, "digest")
    for number, member in enumerate(("m" * 64, "n" * 64)):
        expected = np.arange(5)[:, None] * 10 + np.arange(3) + 100 * number
        np.testing.assert_array_equal(again.log_probabilities(member), expected)
        np.testing.assert_array_equal(again.attention(member)[:, 0, 0], np.arange(5))
        assert again.has(member)
    assert not again.has("o" * 64)


def test_other_images_or_another_view_are_another_part(tmp_path):
    folders = {
        part(tmp_path, images, view).folder
        for images in ("x", "y")
        for view in (View(), View(crop=70), View(test_view="whole"), View(normalize="imagenet"))
    }
    assert len(folders) == 8
    # What matters in training alone does not change what is answered at test.
    assert part(tmp_path, view=View(flip=False, pad=0)).folder == part(tmp_path).folder


def test_a_failure_on_the_way_keeps_nothing_of_a_member(tmp_path):
    kept = part(tmp_path)
    with (
        pytest.raises(KeyboardInterrupt),
        predictions.keep(kept, ["m" * 64], [(2, 2)]) as arrays,
    ):
        predictions.fill(batches(), arrays)
        raise KeyboardInterrupt
    assert not list(kept.folder.glob("*.npy*"))


def test_a_damaged_file_is_not_served(tmp_path):
    kept = part(tmp_path)
    with predictions.keep(kept, ["m" * 64], [(2, 2)]) as arrays:
        predictions.fill(batches(), arrays)
    path = kept.path("m" * 64, "log_probabilities")
    path.write_bytes(path.read_bytes()[:-3])
    assert not kept.has("m" * 64)
    with pytest.raises(UserError, match="is damaged"):
        kept.log_probabilities("m" * 64)


def test_answers_that_are_not_finite_are_told():
    bad = answer([0], np.array([True]), 0) | {"finite": np.False_}
    with pytest.raises(UserError, match="not finite numbers: its training has diverged"):
        predictions.fill([[bad]], [])


def test_no_predictions_are_told(tmp_path):
    with pytest.raises(UserError, match="holds no predictions: python -m fgvc_jax.evaluate"):
        predictions.read(tmp_path)


def test_what_is_kept_has_the_same_highest_class():
    """Rounding to float16 makes near classes equal; the one that won still does."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 1)) + rng.normal(size=(500, 40)) * 1e-4
    logits = jnp.float32(np.concatenate([logits, [[0.0, 1e6] + [0.0] * 38]]))
    kept = jax.jit(kept_answers)(logits)
    assert kept.dtype == jnp.float16 and bool(jnp.all(jnp.isfinite(kept)))
    np.testing.assert_array_equal(kept.argmax(-1), logits.argmax(-1))
    plain = jax.nn.log_softmax(logits).astype(jnp.float16)
    assert np.any(plain.argmax(-1) != logits.argmax(-1))
    np.testing.assert_allclose(kept[:-1], jax.nn.log_softmax(logits)[:-1], rtol=3e-3)


def test_what_cannot_be_kept_there_is_advised_of_a_copy(tmp_path, monkeypatch):
    """A read-only workdir was told to have evaluate keep answers, which it does not there."""
    with pytest.raises(UserError, match="python -m fgvc_jax.evaluate keeps them"):
        predictions.read(tmp_path / "predictions/test-0")
    monkeypatch.setattr(storage, "writable", lambda folder: False)
    with pytest.raises(UserError, match="nothing can be written there; of a copy .* COPY keeps"):
        predictions.read(tmp_path / "predictions/test-0")


def test_a_hubs_folder_is_no_workdir_and_may_be_all_there_is(tmp_path):
    (tmp_path / "config.json").write_text('{"fgvc_jax": {"format": 1}}')
    with pytest.raises(UserError, match="is an export, which predict and .* read; for anything"):
        Workdir(tmp_path).record()


def test_a_learning_curve_is_of_its_member_and_whole_or_none(tmp_path):
    held_out = predictions.part_of(
        tmp_path, predictions.HELD_OUT, Source(), classes=CLASSES, view=View(), images="digest"
    )
    member, found = "a" * 64, dict.fromkeys(learning_curve.FIELDS, 0.5)
    assert predictions.curve(tmp_path, member) is None
    predictions.keep_curve(held_out, member, found)
    assert predictions.curve(tmp_path, member) == found
    assert predictions.curve(tmp_path, "b" * 64) is None
    for nothing in (None, {}, "text"):
        predictions.keep_curve(held_out, member, nothing)
        assert predictions.curve(tmp_path, member) is None
