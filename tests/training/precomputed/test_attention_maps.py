"""Precomputed attention equals the teachers in the step, and its files survive kills and damage."""

import dataclasses
import resource
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import tiny

from fgvc_jax.config import Optimizer, Transfer
from fgvc_jax.training.precomputed.attention import AttentionMaps
from fgvc_jax.training.run import Run
from fgvc_jax.utils import devices, digests

SHAPE = (5, 2, 3)


def attention(member, view):
    """Of a stand-in for a member, a plain number."""
    return np.random.default_rng([member, view]).random(SHAPE, np.float32)


def expected(members, view):
    return np.mean([attention(member, view) for member in members], axis=0)


def make(folder, members, calls=None, write=True, content="images"):
    maps = AttentionMaps(folder, views=3, shape=SHAPE, content=content)

    def counted(member, view):
        if calls is not None:
            calls.append((member, view))
        return attention(member, view)

    named = [(f"member {member}", member) for member in members]
    maps.add(named, counted, write=write, progress=lambda line: None)
    return maps


def assert_right(maps, members):
    rows = np.array([4, 0, 2])
    for view in range(3):
        np.testing.assert_allclose(maps.mean(view, rows), expected(members, view)[rows], rtol=2e-3)


def test_mean_over_the_members_of_a_view(tmp_path):
    assert_right(make(tmp_path, [1, 2]), [1, 2])


def test_a_new_member_is_added_to_what_is_there(tmp_path):
    make(tmp_path, [1, 2])
    calls = []
    assert_right(make(tmp_path, [1, 2, 3], calls), [1, 2, 3])
    assert calls == [(3, 0), (3, 1), (3, 2)]
    assert len(list(tmp_path.iterdir())) == 3  # one file per view, whatever the members


def test_nothing_is_computed_twice(tmp_path):
    make(tmp_path, [1, 2])
    calls = []
    make(tmp_path, [1, 2], calls)
    assert calls == []


def test_no_member_is_no_attention(tmp_path):
    maps = make(tmp_path, [])
    assert not np.any(maps.mean(0, np.array([1, 2])))
    assert maps.mean(0, np.array([1, 2])).shape == (2, 2, 3)


def test_a_damaged_file_is_made_again(tmp_path):
    make(tmp_path, [1, 2])
    path = next(tmp_path.glob("view00001.*"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    calls = []
    assert_right(make(tmp_path, [1, 2], calls), [1, 2])
    assert calls == [(1, 1), (2, 1)]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"not an array at all"])
def test_a_file_that_is_no_array_is_made_again(tmp_path, content):
    make(tmp_path, [1])
    next(tmp_path.glob("view00002.*")).write_bytes(content)
    assert_right(make(tmp_path, [1]), [1])


def test_a_kill_while_writing_leaves_the_older_file(tmp_path, monkeypatch):
    make(tmp_path, [1])

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path, [1, 2])
    assert_right(make(tmp_path, [1]), [1])
    assert_right(make(tmp_path, [1, 2]), [1, 2])
    assert len(list(tmp_path.iterdir())) == 3


def test_another_member_of_the_same_number_is_not_served(tmp_path):
    """A member that was trained again left the old map in use: files were known by a number."""
    make(tmp_path, [1, 2])
    calls = []
    assert_right(make(tmp_path, [1, 3], calls), [1, 3])
    assert calls and all(member in (1, 3) for member, _ in calls)
    assert_right(make(tmp_path, [2, 3]), [2, 3])  # nor where only an earlier one is another


def test_maps_of_other_images_or_views_are_not_served(tmp_path):
    make(tmp_path, [1], content="images")
    calls = []
    make(tmp_path, [1], calls, content="other images")
    assert calls == [(1, 0), (1, 1), (1, 2)]


def test_maps_have_the_same_bits_from_any_start(tmp_path):
    for count in (1, 2, 3):
        make(tmp_path / "one by one", [1, 2, 3][:count])
    make(tmp_path / "at once", [1, 2, 3])
    names = [sorted(p.name for p in (tmp_path / f).iterdir()) for f in ("one by one", "at once")]
    assert names[0] == names[1]  # the checksum is part of the name


def test_many_views_need_few_descriptors(tmp_path):
    maps = AttentionMaps(tmp_path, views=40, shape=SHAPE, content="images")
    maps.add([("member 1", 1)], attention, write=True, progress=lambda line: None)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(list(Path("/proc/self/fd").iterdir()))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 16, hard))
        for view in range(40):
            maps.mean(view, np.array([0]))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_fewer_members_than_a_file_holds_are_computed_for_themselves(tmp_path):
    make(tmp_path, [1, 2, 3])
    assert_right(make(tmp_path, [1]), [1])


def losses(run, teachers, maps, steps=20):
    state = run.state(3, teachers)
    batches = run.train_batches(3, 0, maps)
    for _ in range(steps):
        state, metrics = run.plan(3).train_step(
            state, devices.shard_batch(run.mesh, next(batches)), None
        )
        yield {name: float(metrics[name]) for name in ("loss", "orthogonal")}


@pytest.mark.slow
@pytest.mark.parametrize("views", [0, 2])
def test_precomputed_equals_online_for_twenty_steps(tmp_path, views):
    def run(maps):
        return Run(
            tiny(
                members=3,
                epochs=5,
                data=dataclasses.replace(tiny().data, views=views, view_sharing="shared"),
                transfer=Transfer(maps=maps, alpha=0.5),
                optimizer=Optimizer(learning_rate=0.001, head_learning_rate=0.01),
            )
        )

    online, precomputed = run("online"), run("precomputed")
    teachers = [jax.device_put(online.start.variables(number)) for number in (1, 2)]
    named = [
        (digests.of_arrays(teacher), precomputed.member(number, teacher))
        for number, teacher in enumerate(teachers, start=1)
    ]
    grid = precomputed.plan(3).architecture.grid
    maps = precomputed.lookups.attention_maps(tmp_path, precomputed.record, named, grid, print)
    pairs = zip(losses(online, teachers, None), losses(precomputed, teachers, maps), strict=True)
    for one, other in pairs:
        assert one["orthogonal"] > 0.05
        for name in one:
            assert other[name] == pytest.approx(one[name], rel=1e-3)
    assert len(list(tmp_path.iterdir())) == (views or 5)
