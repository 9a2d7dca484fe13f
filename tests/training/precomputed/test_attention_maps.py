"""Attention of the members before: summed once, gone on with, equal to the teachers in the step."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny

from fgvc_jax.config import Optimizer, Transfer
from fgvc_jax.data.feed import Images
from fgvc_jax.inference.architecture import Member
from fgvc_jax.training.members import attention_before
from fgvc_jax.training.precomputed import OutputCache, SummedAttention
from fgvc_jax.training.run import Run
from fgvc_jax.utils import devices, digests

COUNT, GRID, BATCH = 10, (2, 3), 4
NETWORK, VIEW = "a network", tiny().data.view
MESH = devices.create_mesh(BATCH)


def attention(member, view):
    """Of a stand-in for a member, a plain number: (images, h, w)."""
    return np.random.default_rng([member, view]).random((COUNT, *GRID), np.float32)


class Source:
    """Ten images that nobody decodes."""

    labels = np.zeros(COUNT, np.int32)
    ids = np.arange(COUNT, dtype=np.int32)

    def __len__(self):
        return COUNT


class Data(dict):
    """A dataset of a training part only."""

    splits = SimpleNamespace(parts=["train"])
    judged = {}
    place = "host"


def make(folder, members, calls=None, *, grid=GRID, images="images", parts=(), **data):
    """(cache with the attention of members on three views, what was told)."""

    def step(variables, batch, store):
        number, view = int(variables["params"]["backbone"]), int(batch["view"][0])
        if calls is not None and (number, view) not in calls:
            calls.append((number, view))
        return jnp.asarray(attention(number, view)[np.asarray(batch["row"])])

    spec = tiny(folder, batch_size=BATCH)
    spec = dataclasses.replace(spec, data=dataclasses.replace(spec.data, views=3, **data))
    part = Images(Source(), None, None, None)
    known = {"train": {"contents": images, "names": "names"}}
    cache = OutputCache(spec, Data(train=part), lambda: known, trunk=None, teacher=None, mesh=MESH)
    before = [
        (f"member {number}", Member(NETWORK, {"params": {"backbone": number}}, VIEW))
        for number in members
    ]
    own = [parts] * len(before)
    found = SummedAttention(before, own, grid, [grid], VIEW, 0, None, BATCH, MESH)
    vars(found)["_steps"] = [step] * len(before)  # in place of the compiled ones
    said = []
    cache.prepare(1, found, said.append)
    return cache, said


def mean(cache, view, rows):
    """What the step is given for rows of a view."""
    rows = np.array(rows, np.int32)
    batch = {"row": rows, "view": np.full(len(rows), view, np.int32)}
    batch |= {name: look(view, rows) for name, look in cache.train.lookups.items()}
    return np.asarray(cache.complete(devices.shard_batch(MESH, batch))["attention"])


def expected(members, view):
    """The sum is rounded after each member."""
    total = np.zeros((COUNT, *GRID), np.float16)
    for member in members:
        total = (total.astype(np.float32) + attention(member, view)).astype(np.float16)
    return total.astype(np.float32) / len(members)


def assert_right(cache, members):
    rows = [4, 0, 9, 0]
    for view in range(3):
        np.testing.assert_array_equal(mean(cache, view, rows), expected(members, view)[rows])


def files(folder):
    return sorted(path.name for path in (folder / "precomputed").iterdir())


def test_mean_over_the_members_of_a_view(tmp_path):
    cache, said = make(tmp_path, [1, 2])
    assert_right(cache, [1, 2])
    assert "attention maps of 10 train images in 3 views, 0.00 GiB, in" in said[0]


@pytest.mark.parametrize("members", [[1], [1, 2, 3]])
def test_the_same_bits_without_room(tmp_path, members):
    cache, said = make(tmp_path, members, cache_gib=0.0)
    assert "are more than is left" in said[0] and "the members before are asked" in said[0]
    assert not (tmp_path / "precomputed").exists() and not cache.train.lookups
    assert_right(cache, members)


def test_a_new_member_is_added_to_what_is_there(tmp_path):
    make(tmp_path, [1, 2])
    calls = []
    assert_right(make(tmp_path, [1, 2, 3], calls)[0], [1, 2, 3])
    assert calls == [(3, 0), (3, 1), (3, 2)]
    assert len(files(tmp_path)) == 3  # one file per view, whatever the members


def test_what_is_computed_otherwise_now_is_made_again(tmp_path, monkeypatch):
    """Where a member computes with the part that was raised, and nowhere else."""
    part = "bfloat16 depthwise"
    make(tmp_path / "plain", [1])
    make(tmp_path / "part", [1], parts=(part,))
    monkeypatch.setitem(digests.NUMERICS, part, digests.NUMERICS[part] + 1)
    plain, raised = [], []
    make(tmp_path / "plain", [1], plain)
    make(tmp_path / "part", [1], raised, parts=(part,))
    assert not plain and raised == [(1, 0), (1, 1), (1, 2)]


def test_nothing_is_computed_twice(tmp_path):
    make(tmp_path, [1, 2])
    calls = []
    assert make(tmp_path, [1, 2], calls)[1] == [] and calls == []


def test_no_member_is_no_attention(tmp_path):
    cache, said = make(tmp_path, [])
    found = mean(cache, 0, [1, 2, 3, 4])
    assert not found.any() and found.shape == (BATCH, *GRID) and said == []


def test_a_damaged_file_is_made_again(tmp_path):
    make(tmp_path, [1, 2])
    path = next((tmp_path / "precomputed").glob("*.view00001.*"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    calls = []
    assert_right(make(tmp_path, [1, 2], calls)[0], [1, 2])
    assert calls == [(1, 1), (2, 1)]


def test_another_member_of_the_same_number_is_not_served(tmp_path):
    """A member that was trained again left the old map in use: files were known by a number."""
    make(tmp_path, [1, 2])
    calls = []
    assert_right(make(tmp_path, [1, 3], calls)[0], [1, 3])
    assert calls and all(member in (1, 3) for member, _ in calls)
    assert_right(make(tmp_path, [2, 3])[0], [2, 3])  # nor where only an earlier one is another


def test_maps_of_other_images_or_numerics_are_not_served(tmp_path, monkeypatch):
    make(tmp_path, [1])
    every = [(1, 0), (1, 1), (1, 2)]
    calls = []
    make(tmp_path, [1], calls, images="other images")
    assert calls == every
    monkeypatch.setitem(digests.NUMERICS, "step", digests.NUMERICS["step"] + 1)
    calls.clear()
    make(tmp_path, [1], calls, images="other images")
    assert calls == every


def test_maps_have_the_same_bits_from_any_start(tmp_path):
    for count in (1, 2, 3):
        make(tmp_path / "one by one", [1, 2, 3][:count])
    make(tmp_path / "at once", [1, 2, 3])
    # The checksum is part of the name.
    assert files(tmp_path / "one by one") == files(tmp_path / "at once")


def test_fewer_members_than_a_file_holds_are_computed_for_themselves(tmp_path):
    make(tmp_path, [1, 2, 3])
    assert_right(make(tmp_path, [1])[0], [1])


def test_what_an_older_version_stored_is_computed_again(tmp_path):
    """One line says so; nothing of it is touched."""
    old = tmp_path / "attention" / "view00000.0123456789abcdef.crc00000000.npy"
    old.parent.mkdir()
    np.save(old, np.zeros((COUNT, *GRID), np.float16))
    cache, said = make(tmp_path, [1])
    assert said[0].startswith(f"attention in {tmp_path}: of an older version and not read")
    assert_right(cache, [1])
    assert old.exists() and not [line for line in make(tmp_path, [1])[1] if "GiB" in line]


def test_maps_of_a_run_stay_in_its_workdir(tmp_path):
    """A newer sum removes older ones, which another run might be at."""
    make(tmp_path / "run", [1], cache=str(tmp_path / "shared"))
    assert len(files(tmp_path / "run")) == 3 and not (tmp_path / "shared").exists()


def losses(run, teachers, steps=20):
    state = run.state(3, teachers)
    batches = run.train_batches(3, 0)
    for _ in range(steps):
        batch = run.cache.complete(devices.shard_batch(run.mesh, next(batches)))
        state, metrics = run.plan(3).train_step(state, batch, None)
        yield {name: float(metrics[name]) for name in ("loss", "orthogonal")}


@pytest.mark.sampled(1)
@pytest.mark.slow
@pytest.mark.parametrize("views", [0, 2])
def test_precomputed_equals_online_for_twenty_steps(tmp_path, views):
    def run(maps):
        return Run(
            tiny(
                tmp_path,
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
    precomputed.cache.prepare(3, attention_before(precomputed, 3, named), print)
    pairs = zip(losses(online, teachers), losses(precomputed, teachers), strict=True)
    for one, other in pairs:
        assert one["orthogonal"] > 0.05
        for name in one:
            assert other[name] == pytest.approx(one[name], rel=1e-3)
    assert len(files(tmp_path)) == (views or 5)
