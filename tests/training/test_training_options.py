"""Options of today alone, and two by two.

A run that goes on is the uninterrupted one, maps that are looked up are the teacher's in the step,
and two devices train as one. The pairs were drawn once (see `CASES`); the images of the classes are
3, 5, 8 and 12, so that balance and weights have something to do.
"""

import itertools
import json
import random
from functools import cache

import jax
import numpy as np
import pytest
from conftest import command, finish, tiny
from PIL import Image
from stepping import trained

from fgvc_jax.data.sources import open_source
from fgvc_jax.study.definition import change
from fgvc_jax.training.members import attention_before
from fgvc_jax.training.run import Run
from fgvc_jax.utils import devices, digests

OPTIONS = {
    "crops": {"data.scale": 0.3},
    "jitter": {"data.jitter": 0.4},
    "trivial": {"data.trivial": 0.5},
    "blur": {"data.blur": 0.5},
    "erase": {"data.erase": 0.5},
    "mixup": {"data.mixup": 0.4},
    "cutmix": {"data.cutmix": 1.0},
    "fit": {"data.fit": "pad"},
    "balance": {"data.balance": "sqrt"},
    "weights": {"ce.class_weights": "effective"},
    "adjusted": {"ce.logit_adjustment": 1.0},
    "ema": {"optimizer.ema": 0.5},
    "accumulate": {"optimizer.accumulate": 2},
}
# Alone, since csdnet refuses what mixes images and has a cross entropy of its own.
QUEUES = {"objective": "csdnet", "csdnet.queue": 16, "csdnet.queues": "both"}
PAIRS = random.Random(7).sample(list(itertools.combinations(OPTIONS, 2)), 8)
# First the pair that has no pictures to do with it.
CASES = [("ema", "accumulate"), *((name,) for name in OPTIONS), ("queues",), *PAIRS]
STEPS = 4
pytestmark = [pytest.mark.slow, pytest.mark.sampled(3)]


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    root = tmp_path_factory.mktemp("birds")
    drawn = open_source("sketchbirds")
    for part, counts in (("train", (3, 5, 8, 12)), ("test", (3, 3, 3, 3))):
        source = getattr(drawn, part)
        for label, count in enumerate(counts):
            (root / part / str(label)).mkdir(parents=True)
            for row in np.flatnonzero(source.labels == label)[:count]:
                image = Image.fromarray(source[int(row)]["image"]).resize((48, 36))
                image.save(root / part / str(label) / f"{row}.png")
    return root


def changes(birds, case):
    """The fields of the options of a case, and of what all runs here have."""
    common = {
        "data.source": f"folder:{birds}",
        "data.classes": 0,
        "data.images_per_class": 0,
        "data.view_sharing": "shared",
    }
    for name in case:
        common |= QUEUES if name == "queues" else OPTIONS[name]
    return common


def run_of(birds, case, workdir="unused", maps="online"):
    return Run(change(tiny(workdir), changes(birds, case) | {"transfer.maps": maps}))


@cache
def online(birds, case):
    return run_of(birds, case)


@cache
def uninterrupted(birds, case):
    run = online(birds, case)
    return trained(run, [run.start.variables(1)], steps=STEPS)


@pytest.mark.parametrize("case", CASES, ids="+".join)
def test_a_run_that_goes_on_is_the_uninterrupted_one(birds, case):
    run, whole = online(birds, case), uninterrupted(birds, case)
    teacher = run.start.variables(1)
    half, _ = trained(run, [teacher], steps=2)
    saved = jax.tree.map(np.array, half.saved())
    begun = run.state(2, [teacher]).replace(**devices.replicate(run.mesh, saved))
    ended, metrics = trained(run, steps=2, state=begun, start=2)
    assert metrics == whole[1][2:]
    same = jax.tree.map(np.array_equal, ended.variables, whole[0].variables)
    assert all(jax.tree.leaves(same))


@pytest.mark.parametrize("case", CASES, ids="+".join)
def test_maps_that_are_looked_up_are_the_teachers_in_the_step(birds, case, tmp_path):
    run = run_of(birds, case, tmp_path, "precomputed")
    teacher = jax.device_put(online(birds, case).start.variables(1))
    named = [(digests.of_arrays(teacher), run.member(1, teacher))]
    run.cache.prepare(2, attention_before(run, 2, named), print)
    for one, other in zip(uninterrupted(birds, case)[1], trained(run, steps=STEPS)[1], strict=True):
        assert one["orthogonal"] > 0.02
        for name in one:
            assert other[name] == pytest.approx(one[name], rel=3e-3)


@pytest.mark.exhaustive
@pytest.mark.parametrize("case", CASES, ids="+".join)
def test_two_devices_train_as_one(birds, case, tmp_path):
    """By the command, two members under KT: the losses that are logged first, up to rounding."""
    given = {"epochs": 1, "log_every": 1} | changes(birds, case)
    words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    found = []
    for count in (1, 2):
        workdir = tmp_path / str(count)
        process = command("train", "--config", "tiny", *words, "--workdir", workdir, devices=count)
        code, _, err = finish(process)
        assert code == 0, err
        lines = (workdir / "members/02/metrics.jsonl").read_text().splitlines()
        found.append([json.loads(line)["loss"] for line in lines[:2]])
    assert found[1] == pytest.approx(found[0], rel=2e-3)
