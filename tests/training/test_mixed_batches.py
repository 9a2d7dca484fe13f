"""Steps on mixed images: what teachers say is mixed after, so that both ways to it are one."""

import dataclasses
from functools import cache

import jax
import numpy as np
import pytest
from conftest import tiny
from stepping import trained

from fgvc_jax import transfer
from fgvc_jax.config import Transfer
from fgvc_jax.data import mixing
from fgvc_jax.training.members import attention_before
from fgvc_jax.training.run import Run
from fgvc_jax.utils import devices, digests

STEPS = 6


def mixed_run(workdir="unused", maps="online", objective="ce", **numbers):
    data = dataclasses.replace(
        tiny().data, view_sharing="shared", augment="strong", trivial=0.0, **numbers
    )
    return Run(tiny(workdir, objective=objective, data=data, transfer=Transfer(maps=maps)))


@cache
def online():
    return mixed_run()


@cache
def uninterrupted():
    return trained(online(), [online().start.variables(1)], steps=STEPS)


def kinds(run):
    """Whether CutMix mixes the batch of each step."""
    numbers = {name: run.experiment.data.amount(name) for name in ("mixup", "cutmix")}
    return [bool(mixing.draw(0, 2, step, side=32, **numbers).cut) for step in range(STEPS)]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_precomputed_maps_are_the_teachers_in_the_step(tmp_path):
    """Of steps of mixup and of CutMix."""
    assert set(kinds(online())) == {False, True}
    run = mixed_run(tmp_path, "precomputed")
    teacher = jax.device_put(online().start.variables(1))
    named = [(digests.of_arrays(teacher), run.member(1, teacher))]
    run.cache.prepare(2, attention_before(run, 2, named), print)
    for one, other in zip(uninterrupted()[1], trained(run, steps=STEPS)[1], strict=True):
        assert one["orthogonal"] > 0.05
        for name in one:
            assert other[name] == pytest.approx(one[name], rel=2e-3)


@pytest.mark.slow
def test_a_step_that_is_taken_again_mixes_as_it_did():
    """A run that goes on from what a checkpoint holds ends where the uninterrupted one does."""
    run, teacher = online(), online().start.variables(1)
    half, _ = trained(run, [teacher], steps=3)
    saved = jax.tree.map(np.array, half.saved())
    begun = run.state(2, [teacher]).replace(**devices.replicate(run.mesh, saved))
    ended, metrics = trained(run, steps=3, state=begun, start=3)
    assert metrics == uninterrupted()[1][3:]
    same = jax.tree.map(np.array_equal, ended.params, uninterrupted()[0].params)
    assert all(jax.tree.leaves(same))


@pytest.mark.slow
def test_the_orthogonal_loss_is_linear_in_maps_that_are_mixed():
    """Mixed maps of two teachers, and their mean mixed: the same, so that a sum is enough."""
    features, one, other = np.random.default_rng(0).random((3, 4, 5, 5, 6), np.float32)
    maps = [transfer.teacher_attention(each) for each in (one, other)]
    for step in range(STEPS):
        mixed = mixing.draw(0, 2, step, mixup=0.5, cutmix=1.0, side=32)
        apart = [transfer.overlap(features, mixed.of_places(each)) for each in maps]
        together = transfer.overlap(features, mixed.of_places((maps[0] + maps[1]) / 2))
        np.testing.assert_allclose(np.mean(apart), together, rtol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("numbers", [{"cutmix": 0.0}, {"mixup": 0.0}, {}])
def test_every_supervised_head_of_hsd_learns_mixed_labels(numbers):
    run = mixed_run(objective="hsd", **numbers)
    _, metrics = trained(run, [run.start.variables(1)], steps=2)
    assert all(np.isfinite(value) for step in metrics for value in step.values())


def test_published_views_are_not_mixed():
    data = tiny().data
    assert not data.mixes and data.amount("mixup") == data.amount("cutmix") == 0
    assert dataclasses.replace(data, augment="strong").mixes
    assert not dataclasses.replace(data, augment="strong", mixup=0.0, cutmix=0.0).mixes
    assert dataclasses.replace(data, mixup=0.2).mixes
    assert dataclasses.replace(data, augment="strong", jitter=0.5).plain == data
