"""Which outputs are stored: by a budget, by the disk's free space, the most important first."""

import dataclasses
import os
import time
from types import SimpleNamespace

import pytest
from conftest import tiny

from fgvc_jax.training.precomputed.requests import RESERVE, Budget, Stores, shared_folder
from fgvc_jax.training.precomputed.store import Output
from fgvc_jax.workdir import space

COUNT = 2**18  # images, of 2 KiB each: half a GiB
KNOWN = {"train": {"names": "n", "contents": "c"}, "test": {"names": "t", "contents": None}}
FROZEN = SimpleNamespace(what="features", broken="", instead="the trunk runs in every step")


def output(**changes):
    return Output("features", None, {"map": (1024,)}, known=[1], parts=())._replace(**changes)


@pytest.fixture
def stores(tmp_path, monkeypatch):
    monkeypatch.setattr(space, "free_space", lambda folder: RESERVE + 2**30)
    return Stores(tiny(tmp_path / "run"), lambda: KNOWN)


def request(stores, views=range(1), in_all=1, part="train", **changes):
    return stores.request(FROZEN, part, {"features": output(**changes)}, COUNT, views, in_all)


def test_what_fits_is_stored_and_the_rest_is_told(stores):
    told = []
    first, second = request(stores), request(stores, views=range(2), in_all=2, known=[2])
    assert Budget(1.2, told.append).afford([first, second]) == [first]
    assert told[0].startswith(f"features of {COUNT:,} train images, 0.50 GiB, in ")
    assert told[1].endswith(
        "in 2 views, 1.00 GiB, are more than is left of --data.cache-gib 1.2, 1.5 would do: "
        "the trunk runs in every step instead"
    )
    assert Budget(1.2, told.append).afford([second, first]) == [second]


def test_views_that_come_later_count_in_the_budget_and_not_on_the_disk(stores):
    told = []
    later = request(stores, views=range(1), in_all=4)
    assert Budget(2.0, told.append).afford([later]) == [later] and later.bytes == 2 * 2**30
    now = request(stores, views=range(4), in_all=4)
    assert Budget(2.0, told.append).afford([now]) == []
    assert "do not fit the disk" in told[-1]


def test_one_content_is_one_store_and_any_other_is_another(stores, monkeypatch):
    one = stores.open(FROZEN, "train", output(), COUNT)
    assert stores.open(FROZEN, "train", output(), COUNT) is one
    others = [
        stores.open(FROZEN, "test", output(), COUNT),
        stores.open(FROZEN, "train", output(known=[2]), COUNT),
        stores.open(FROZEN, "train", output(name="second"), COUNT),
    ]
    monkeypatch.setitem(KNOWN, "train", {"names": "n", "contents": "other"})
    others.append(stores.open(FROZEN, "train", output(), COUNT))
    assert len({id(each) for each in (one, *others)}) == 5
    stores.close_others([one])
    assert stores.open(FROZEN, "test", output(), COUNT) not in others


def test_sums_that_grow_stay_in_the_workdir_where_others_share_a_folder(tmp_path):
    shared = dataclasses.replace(tiny().data, cache=str(tmp_path / "shared"))
    stores = Stores(tiny(tmp_path / "run", data=shared), lambda: KNOWN)
    assert stores.open(FROZEN, "train", output(), 1).folder == tmp_path / "shared"
    own = stores.open(FROZEN, "train", output(name="attention", earlier=[]), 1).folder
    assert own == tmp_path / "run/precomputed"


@pytest.fixture
def users(tmp_path, monkeypatch):
    """The user's caches, and an experiment that keeps there what is computed once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    experiment = tiny(tmp_path / "run")
    data = dataclasses.replace(experiment.data, cache="auto", cache_gib=2 / 2**10)
    return tmp_path / "user/fgvc_jax/precomputed", dataclasses.replace(experiment, data=data)


def test_runs_of_one_machine_share_the_users_cache(users):
    folder, experiment = users
    assert Stores(experiment, lambda: KNOWN).shared == folder and folder.is_dir()
    assert folder.stat().st_mode & 0o077 == 0
    elsewhere = dataclasses.replace(experiment, workdir=experiment.workdir + "2")
    assert Stores(elsewhere, lambda: KNOWN).shared == folder


@pytest.mark.parametrize("changes", [{"distributed": True}, {"workdir": "gs://bucket/run"}])
def test_the_users_cache_is_not_that_of_several_machines(users, changes):
    assert shared_folder(dataclasses.replace(users[1], **changes)) is None


def test_without_a_cache_that_can_be_written_a_run_has_its_own(users, tmp_path, monkeypatch):
    folder, experiment = users
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "below"))
    (tmp_path / "file").write_text("no folder")
    assert shared_folder(experiment) is None
    own = Stores(experiment, lambda: KNOWN)
    assert own.shared == tmp_path / "run/precomputed"
    own.make_room()


def test_of_the_users_cache_stays_what_was_used_last_and_what_is_in_use(users):
    folder, experiment = users
    stores = Stores(experiment, lambda: KNOWN)
    (folder / "squares").mkdir()
    now = time.time()
    days = {"oldest": 9, "squares/old": 8, "used": 7, "today": 0.5, "now": 0}
    for name, ago in days.items():
        (folder / name).write_bytes(bytes(2**20))
        os.utime(folder / name, (now - ago * 86400, now - 9 * 86400))
    stores.make_room()  # 2 MiB
    assert {name for name in days if (folder / name).exists()} == {"today", "now"}
    (folder / "more").write_bytes(bytes(2**20))
    stores.make_room()
    assert (folder / "today").exists() and (folder / "more").exists()


def test_a_folder_that_was_named_is_never_tidied(users, tmp_path):
    named = dataclasses.replace(users[1].data, cache=str(tmp_path / "mine"), cache_gib=0.0)
    (tmp_path / "mine").mkdir()
    file = tmp_path / "mine/file"
    file.write_bytes(bytes(8))
    os.utime(file, (0, 0))
    Stores(dataclasses.replace(users[1], data=named), lambda: KNOWN).make_room()
    assert file.exists()
