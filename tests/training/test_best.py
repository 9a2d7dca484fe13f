"""The best epoch stays the best, whatever is met again."""

from types import SimpleNamespace

import pytest

from fgvc_jax.training.best import Best
from fgvc_jax.training.evaluator import BEST_ON_TEST, Epochs
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import storage


@pytest.fixture
def best(tmp_path):
    return lambda: Best(tmp_path / "selected.json", "validation_accuracy")


def meet(best, step, accuracy):
    """Whether an epoch is kept."""
    scores = {"validation_accuracy": accuracy}
    if kept := best.improves(scores):
        best.keep({"step": step, "epoch": step // 10}, scores)
    return kept


def test_only_better_replaces(best):
    first = best()
    assert [meet(first, *each) for each in ((10, 0.5), (20, 0.5), (30, 0.7))] == [True, False, True]
    assert best().record == {"step": 30, "epoch": 3, "validation_accuracy": 0.7}


@pytest.mark.parametrize("content", ["[]", "null", "{}", '{"validation_accuracy": "0.5"}'])
def test_a_record_of_something_else_is_told(best, tmp_path, content):
    """It was a traceback where it was compared or printed."""
    (tmp_path / "selected.json").write_text(content)
    with pytest.raises(UserError, match="selected.json' is damaged .*: remove it"):
        best()


def test_a_step_that_is_repeated_with_less_luck_replaces_nothing(best):
    """On a GPU 0.82 at step 100 was 0.76 when it came again after a kill, and 0.78 was kept."""
    meet(best(), 100, 0.82)
    again = best()
    assert [meet(again, *each) for each in ((100, 0.76), (110, 0.78))] == [False, False]
    assert best().record["validation_accuracy"] == 0.82
    assert meet(again, 120, 0.83)


@pytest.mark.parametrize(("images", "better"), [(4, False), (3, True)])
def test_what_was_best_on_other_test_images_is_forgotten(tmp_path, images, better):
    """One of four was broken and is gone: its answers have a row too many."""
    scores = {"test_accuracy": 0.9, "test_images": 4}
    storage.write_json(tmp_path / f"{BEST_ON_TEST}.json", scores)
    splits = SimpleNamespace(test=range(images), validation=None)
    judged = Epochs(SimpleNamespace(splits=splits), 1, tmp_path)
    assert judged._on_test.improves({"test_accuracy": 0.5}) is better
