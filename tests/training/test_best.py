"""The best epoch stays the best, whatever is met again."""

from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from buckets import Memory

from fgvc_jax.training import evaluator
from fgvc_jax.training.best import Best
from fgvc_jax.training.evaluator import BEST_ON_TEST, Epochs
from fgvc_jax.utils import devices
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import bucket, checkpoint, mirror, storage
from fgvc_jax.workdir.folder import Workdir


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
    storage.write_array(tmp_path / f"{BEST_ON_TEST}.npy", np.zeros((4, 2), np.float16))
    splits = SimpleNamespace(test=range(images), validation=None)
    judged = Epochs(SimpleNamespace(splits=splits), 1, tmp_path)
    assert judged._on_test.improves({"test_accuracy": 0.5}) is better


# -- kills -----------------------------------------------------------------------------------------

# What gives names: the writes between which a kill may come.
NAMING = [(Path, "replace"), (Path, "rename"), (storage, "_swap")]


class Killed(BaseException):
    """No handler knows it, as no handler knows a kill."""


class Training:
    """Epochs of one member, whose accuracy is what its only variable says."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        splits = SimpleNamespace(test=range(4), validation=range(4), classes=range(2))
        self.run = SimpleNamespace(splits=splits, member=lambda number, variables: variables)

        def judged(run, member, keep=None):
            value = float(member["params"]["w"])
            if keep:
                keep["test"][:] = value
            told = {"test_images": 4, "test_accuracy": value}
            return told | {"validation_images": 4, "validation_accuracy": value}

        monkeypatch.setattr(evaluator, "evaluate_member", judged)

    def start(self, *epochs):
        """What is known after a start that meets (step, accuracy) one after the other: by the
        records, and by what is kept."""
        judged = Epochs(self.run, 1, self.folder)
        for step, value in epochs:
            judged({"params": {"w": jnp.float32(value)}}, {"step": step, "epoch": step // 10})
        records = [storage.read_json(self.folder / f"{n}.json") for n in ("selected", BEST_ON_TEST)]
        like = {"params": {"w": jnp.float32(0)}}
        weights = checkpoint.load_final(self.folder / "selected", like, devices.own(1))
        answers = storage.map_array(self.folder / f"{BEST_ON_TEST}.npy")
        told = [(record["step"], round(record["test_accuracy"], 3)) for record in records]
        return told, [round(float(v), 3) for v in (weights["params"]["w"], answers[0, 0])]


def kill_at(patch, folder, number, *, done):
    """Have the process killed as the name of that number is given in a folder, once that is `done`
    or before."""
    given = 0

    def cut(call, path, to, *rest):
        nonlocal given
        if Path(to).parent != folder:
            return call(path, to, *rest)
        given += 1
        is_it = given == number
        if is_it and not done:
            raise Killed
        found = call(path, to, *rest)
        if is_it:
            raise Killed
        return found

    def cutting(call):
        return lambda path, to, *rest: cut(call, path, to, *rest)

    for owner, name in NAMING:
        patch.setattr(owner, name, cutting(getattr(owner, name)))


@pytest.mark.parametrize("done", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("first", [True, False], ids=["the first epoch", "a better epoch"])
def test_a_kill_between_two_writes_leaves_one_epoch(tmp_path, monkeypatch, first, done):
    """What is kept of the best epoch and its record were of two after a kill between them, and a
    second start with less luck let them be."""
    for number in range(1, 9):
        folder = tmp_path / str(number)
        folder.mkdir()
        training = Training(folder, monkeypatch)
        if not first:
            training.start((100, 0.5))
        try:
            with monkeypatch.context() as patch:
                kill_at(patch, folder, number, done=done)
                training.start((200, 0.82))
        except Killed:
            pass
        else:
            break
        # The same step with less luck, and one that is better than that only.
        told, kept = training.start((200, 0.4), (300, 0.45))
        assert [value for _, value in told] == kept, number
        known = (300, 0.45) if first else (100, 0.5)
        assert all(each in ((200, 0.82), known) for each in told), (number, told)
        assert [path.name for path in sorted(folder.glob("*.npy"))] == [f"{BEST_ON_TEST}.npy"]
    assert 5 <= number < 8


@pytest.mark.parametrize("number", range(1, 11))
def test_a_bucket_that_refuses_in_the_middle_leaves_one_epoch(tmp_path, monkeypatch, number):
    """A permission that is taken away at the request of that number; the next start, on another
    machine, has it again."""
    client, asked = Memory(), 0
    monkeypatch.setattr(bucket, "connect", lambda name: client)
    monkeypatch.setattr(mirror, "_held", [])

    def machine(name):
        monkeypatch.setattr(mirror, "_mirrors", {})
        monkeypatch.setenv(mirror.PLACE, str(tmp_path / name))
        return Training(Workdir("gs://birds/run").member(1), monkeypatch)

    def refuse(*_):
        nonlocal asked
        asked += 1
        if asked >= number:
            raise UserError("gs://birds refuses (403 no)")

    training = machine("first")
    training.start((100, 0.5))
    client.before = dict.fromkeys(("store", "rename", "remove"), refuse)
    if number < 10:  # of nine
        with pytest.raises(UserError, match="403 no"):
            training.start((200, 0.82))
    else:
        training.start((200, 0.82))
    client.before = {}
    told, kept = machine("second").start((200, 0.4), (300, 0.45))
    assert [value for _, value in told] == kept
    assert all(each in ((200, 0.82), (100, 0.5)) for each in told)
    names = sorted(name for name in client.objects if name.endswith(".npy"))
    assert names == [f"run/members/01/{BEST_ON_TEST}.npy"]
