"""The loop with a step that only counts: what is saved, told and gone on from."""

import json
import signal

import jax.numpy as jnp
import numpy as np
import pytest

from fgvc_jax.training import loop
from fgvc_jax.training.state import State, Teachers
from fgvc_jax.utils import devices
from fgvc_jax.utils.errors import Interrupted, UserError
from fgvc_jax.utils.signals import Deferred
from fgvc_jax.workdir import journal

PER_EPOCH, EPOCHS = 3, 2


def step(state, batch):
    """Adds up what the batches hold."""
    total = state.params["total"] + batch["row"].sum()
    metrics = {"loss": batch["loss"][0], "accuracy": jnp.float32(0.5)}
    return state.replace(step=state.step + 1, params={"total": total}), metrics


def batches(start, loss):
    for number in range(start, 99):
        yield {"row": np.int32([number]), "loss": np.float32([loss])}


def train(folder, *, asked=None, loss=1.0, told=None, evaluate=lambda variables, position: {}):
    zero = jnp.int32(0)
    return loop.train_loop(
        State(jnp.int32(1), zero, {"total": zero}, {}, (), {}, Teachers(zero, ())),
        folder=folder,
        title="member 1/1",
        train_step=step,
        train_batches=lambda start: batches(start, loss),
        evaluate=evaluate,
        mesh=devices.create_mesh(1),
        pace=loop.Pace(EPOCHS, PER_EPOCH, 1, evaluate_every=1, save_every=2, log_every=1),
        report=lambda line, **numbers: None if told is None else told.append(line),
        asked=asked or Deferred(),
    )


def lines(folder):
    written = journal.read(folder / "metrics.jsonl")
    return [{k: v for k, v in line.items() if "second" not in k} for line in written]


def test_a_training_that_is_stopped_and_continued_is_one_that_was_not(tmp_path):
    whole = train(tmp_path / "whole")
    asked, told = Deferred(), []

    def stop(variables, position):  # after the first epoch
        asked.number = signal.SIGTERM
        return {}

    with pytest.raises(Interrupted, match="is saved at step 4 of 6") as stopped:
        train(tmp_path / "halves", asked=asked, evaluate=stop)
    assert stopped.value.signal_number == signal.SIGTERM and asked.number == 0
    again = train(tmp_path / "halves", told=told)
    assert told[0] == "member 1/1: continues at step 4 of 6"
    assert int(again.params["total"]) == int(whole.params["total"]) == sum(range(6))
    assert int(again.step) == PER_EPOCH * EPOCHS
    assert lines(tmp_path / "halves") == lines(tmp_path / "whole")


def test_members_are_judged_at_the_end_of_an_epoch(tmp_path):
    seen = []
    train(tmp_path, evaluate=lambda variables, position: seen.append(position) or {"n": 1})
    assert seen == [{"step": 3, "epoch": 1}, {"step": 6, "epoch": 2}]
    assert [line["step"] for line in lines(tmp_path) if "n" in line] == [3, 6]


def test_a_loss_that_is_not_finite_is_not_saved(tmp_path):
    with pytest.raises(UserError, match="loss is not finite at step 1: the last good checkpoint"):
        train(tmp_path, loss=np.nan)
    assert not [path for path in (tmp_path / "checkpoints").iterdir() if path.name.isdecimal()]
    assert all("NaN" not in json.dumps(line) for line in lines(tmp_path))


def test_a_signal_in_the_last_step_leaves_the_end_to_the_caller(tmp_path):
    asked = Deferred()

    def stop(variables, position):
        asked.number = signal.SIGINT if position["epoch"] == EPOCHS else 0
        return {}

    assert int(train(tmp_path, asked=asked, evaluate=stop).step) == PER_EPOCH * EPOCHS
    assert asked.number == signal.SIGINT
