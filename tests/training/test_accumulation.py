"""Batches in parts, and the moving average of the weights: by hand, and in steps."""

import dataclasses
from functools import cache
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny

from fgvc_jax import config
from fgvc_jax.config import Network, Optimizer, Transfer
from fgvc_jax.training import loop, members, step
from fgvc_jax.training.members import attention_before
from fgvc_jax.training.precomputed import OutputCache
from fgvc_jax.training.run import Run
from fgvc_jax.utils import devices, digests
from fgvc_jax.utils.errors import UserError

# Its batch norms are in inference mode while it trains, so that they see no batch.
WITHOUT_NORM = Network(name="resnet_micro", head="linear", frozen_norm=True)


def run_of(workdir="unused", network=None, maps="online", transfer="none", **optimizer):
    spec = tiny(workdir, transfer=Transfer(name=transfer, maps=maps))
    data = dataclasses.replace(spec.data, view_sharing="shared")
    rates = dataclasses.replace(spec.optimizer, **optimizer)
    return Run(
        dataclasses.replace(spec, data=data, optimizer=rates, network=network or spec.network)
    )


def trained(run, number=1, frozen=(), steps=2, state=None, start=0):
    """(states after each step on the host, metrics of each)."""
    state = run.state(number, frozen) if state is None else state
    batches, states, metrics = run.train_batches(number, start), [], []
    for _ in range(steps):
        batch = run.cache.complete(devices.shard_batch(run.mesh, next(batches)))
        state, logged = run.plan(number).train_step(state, batch, None)
        states.append(jax.device_get(state))
        metrics.append({name: float(logged[name]) for name in logged})
    return states, metrics


def close(one, other, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), one, other)


# -- parts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("unroll", [True, False])
def test_parts_are_every_kth_row_one_after_the_other(unroll):
    """Gradients and what is logged are means; what a step changes goes on from part to part."""

    def gradients(state, arrays, store, part):
        memory = state.memory * 10 + arrays["id"][0]
        logged = {"first": arrays["id"][0].astype(jnp.float32)}
        return {"w": arrays["x"]["of"].sum(0) + part}, (state.batch_stats, memory), logged

    class Two(SimpleNamespace):
        def replace(self, **changes):
            return Two(**vars(self) | changes)

    state = Two(params={"w": jnp.zeros(2)}, batch_stats={}, memory=jnp.int32(0))
    x = np.arange(12.0, dtype=np.float32).reshape(6, 2)
    arrays = {"id": jnp.arange(1, 7), "x": {"of": jnp.asarray(x)}}
    found, (_, memory), logged = step.in_parts(gradients, 3, unroll=unroll)(state, arrays, None)
    assert int(memory) == 123  # rows 0 and 3, 1 and 4, 2 and 5
    assert float(logged["first"]) == 2
    np.testing.assert_allclose(found["w"], x.sum(0) / 3 + 1)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_without_batch_norm_it_is_the_whole_batch():
    whole, parts = (run_of(network=WITHOUT_NORM, accumulate=k) for k in (1, 2))
    (states, metrics), (others, more) = trained(whole), trained(parts)
    close(states[-1].params, others[-1].params, rtol=1e-4, atol=2e-6)
    for one, other in zip(metrics, more, strict=True):
        for name in ("loss", "accuracy", "gradient_norm", "learning_rate"):
            assert other[name] == pytest.approx(one[name], rel=1e-4), name


@cache
def in_two():
    return run_of(transfer="orthogonal", accumulate=2)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_precomputed_maps_are_the_teachers_in_the_step(tmp_path):
    run = run_of(tmp_path, transfer="orthogonal", maps="precomputed", accumulate=2)
    teacher = jax.device_put(in_two().start.variables(1))
    run.cache.prepare(
        2, attention_before(run, 2, [(digests.of_arrays(teacher), run.member(1, teacher))]), print
    )
    _, online = trained(in_two(), 2, [teacher])
    _, looked_up = trained(run, 2, [teacher])
    for one, other in zip(online, looked_up, strict=True):
        assert one["orthogonal"] > 0.05
        for name in ("loss", "orthogonal"):
            assert other[name] == pytest.approx(one[name], rel=2e-3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accumulate": 3}, "--batch-size 8 is not divisible by --optimizer.accumulate 3"),
        ({"accumulate": 4, "groups": 4}, "--batch-size 8 / --optimizer.accumulate 4 is not div"),
    ],
)
def test_what_does_not_divide_is_told(changes, words):
    groups = changes.pop("groups", 1)
    network = dataclasses.replace(tiny().network, batch_norm_groups=groups)
    with pytest.raises(UserError, match=words):
        members.train(tiny(batch_size=8, network=network, optimizer=Optimizer(**changes)))


def full(*_, **__):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")


def test_no_memory_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "train_loop", full)
    spec = tiny(tmp_path, batch_size=8, optimizer=Optimizer(accumulate=2))
    words = (
        "no memory for a step on --batch-size 8 / --optimizer.accumulate 2 images of 32 px: take "
        "--optimizer.accumulate 4, or a smaller --batch-size, or a --data.crop below 32, in a new"
    )
    with pytest.raises(UserError, match=words):
        members.train(spec)


def test_no_memory_for_what_is_computed_once_is_one_line(tmp_path, monkeypatch):
    """A solved head has no steps that could go through a batch in parts."""
    monkeypatch.setattr(OutputCache, "prepare", full)
    spec = config.solved(tiny(tmp_path, batch_size=8), "linear")
    words = "images of 32 px: take a smaller --batch-size, or a --data.crop below 32"
    with pytest.raises(UserError, match=words):
        members.train(spec)


# -- the average -----------------------------------------------------------------------------------


def test_the_average_by_hand():
    """Decays 1/10, 2/11, then the largest."""
    average, seen = {"w": jnp.float32(1)}, [2.0, 3.0, 4.0]
    expected = 1.0
    for number, value in enumerate(seen):
        average = step.averaged(average, {"w": jnp.float32(value)}, number, 0.15)
        decay = (1 / 10, 0.15, 0.15)[number]
        expected = decay * expected + (1 - decay) * value
    assert float(average["w"]) == pytest.approx(expected)


@cache
def averaging():
    return run_of(ema=0.5)


@pytest.mark.slow
def test_it_is_of_weights_and_statistics_and_is_what_is_judged():
    run = averaging()
    states, _ = trained(run, steps=3)
    plain, _ = trained(run_of(), steps=3)
    close(states[-1].params, plain[-1].params, rtol=1e-5, atol=1e-7)
    expected = jax.device_get(run.start.variables(1))
    for number, state in enumerate(states):
        now = {"params": state.params, "batch_stats": state.batch_stats}
        expected = jax.device_get(step.averaged(expected, now, number, 0.5))
    assert states[-1].variables is states[-1].average
    close(states[-1].average, expected, rtol=1e-5, atol=1e-7)
    assert plain[-1].average == {} and "average" not in plain[-1].saved()


@pytest.mark.slow
def test_a_run_that_goes_on_has_the_same_average():
    run = averaging()
    whole, _ = trained(run, steps=4)
    half, _ = trained(run, steps=2)
    begun = run.state(1, []).replace(**devices.replicate(run.mesh, half[-1].saved()))
    rest, _ = trained(run, steps=2, state=begun, start=2)
    same = jax.tree.map(np.array_equal, rest[-1].variables, whole[-1].variables)
    assert all(jax.tree.leaves(same))
