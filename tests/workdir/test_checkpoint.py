import errno
import shutil
import signal
from collections import namedtuple
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from fgvc_jax.utils import devices, watchdog
from fgvc_jax.utils.errors import Interrupted, UserError
from fgvc_jax.workdir import checkpoint
from fgvc_jax.workdir.checkpoint import Checkpoints, load_final, save_final


def tree(value):
    return {"step": jnp.int32(value), "w": jnp.full((3, 2), value, jnp.float32), "memory": ()}


@pytest.fixture
def saved(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", devices.create_mesh())
    for step in (1, 2, 3):
        checkpoints.save(step, tree(step))
    checkpoints.close()
    return tmp_path / "checkpoints"


def restore(folder):
    return Checkpoints(folder, devices.create_mesh()).restore(tree(0))


def damage(folder):
    for path in folder.rglob("*"):
        if path.is_file() and "d" in path.parent.name:
            path.write_bytes(b"damaged")


def test_the_newest_comes_back_exactly(saved):
    restored = restore(saved)
    assert jax.tree.structure(restored) == jax.tree.structure(tree(3))
    assert all(map(np.array_equal, jax.tree.leaves(restored), jax.tree.leaves(tree(3))))


def test_only_the_newest_two_are_kept(saved):
    assert sorted(path.name for path in saved.iterdir() if path.name.isdigit()) == ["2", "3"]


def test_nothing_saved_restores_nothing(tmp_path):
    assert restore(tmp_path / "empty") is None


def test_a_damaged_newest_falls_back_to_the_one_before(saved):
    damage(saved / "3")
    assert restore(saved)["step"] == 2
    assert (saved / "3.damaged").exists()  # put aside, not thrown away


def test_nothing_readable_is_told(saved):
    damage(saved / "2")
    damage(saved / "3")
    with pytest.raises(UserError, match="all checkpoints in .* are damaged"):
        restore(saved)


@pytest.mark.parametrize(
    ("like", "words"),
    [
        ({"w": jnp.zeros((3, 5))}, "w is .3, 2. there and .3, 5. here"),
        ({"w": None}, "w is .3, 2. there and not here"),
        ({"v": jnp.zeros(2)}, "v is not there and .2,. here"),
    ],
)
def test_a_checkpoint_of_another_tree_is_told_and_left_alone(saved, like, words):
    """A class folder added set healthy checkpoints aside."""
    before = sorted(path.name for path in saved.iterdir())
    wanted = {name: leaf for name, leaf in {**tree(0), **like}.items() if leaf is not None}
    with pytest.raises(UserError, match=words) as error:
        Checkpoints(saved, devices.create_mesh()).restore(wanted)
    assert "remove" not in str(error.value)
    assert sorted(path.name for path in saved.iterdir()) == before


def test_a_signal_during_a_restore_sets_nothing_aside(saved, monkeypatch):
    def interrupted(*_, **__):
        raise Interrupted(signal.SIGTERM, "now")

    checkpoints = Checkpoints(saved, devices.create_mesh())
    monkeypatch.setattr(checkpoints._manager, "restore", interrupted)
    with pytest.raises(Interrupted):
        checkpoints.restore(tree(0))
    assert sorted(path.name for path in saved.iterdir()) == ["2", "3"]


def test_a_process_that_dies_during_a_restore_sets_nothing_aside(saved, monkeypatch):
    """The others of its run, whose collective breaks then, leave before they judge a checkpoint."""

    def broken(*_, **__):
        raise RuntimeError("Gloo AllGather failed: Connection closed by peer")

    def leave():
        raise SystemExit(1)

    checkpoints = Checkpoints(saved, devices.create_mesh())
    monkeypatch.setattr(checkpoints._manager, "restore", broken)
    monkeypatch.setattr(watchdog, "leave_if_one_is_gone", leave)
    with pytest.raises(SystemExit):
        checkpoints.restore(tree(0))
    assert sorted(path.name for path in saved.iterdir()) == ["2", "3"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        RuntimeError("Gloo AllGather failed: Connection closed by peer"),
        MemoryError("too large"),
        ValueError("UNAVAILABLE: try again"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failure_of_the_system_is_no_damage(saved, tmp_path, monkeypatch, error):
    """Nothing is set aside, and no removal is advised."""

    def failing(*_, **__):
        raise error

    save_final(tmp_path / "final", tree(1))
    checkpoints = Checkpoints(saved, devices.create_mesh())
    monkeypatch.setattr(checkpoints._manager, "restore", failing)
    monkeypatch.setattr(ocp.StandardCheckpointer, "restore", failing)
    for read in (
        lambda: checkpoints.restore(tree(0)),
        lambda: load_final(tmp_path / "final", tree(0), devices.create_mesh()),
    ):
        with pytest.raises(UserError, match="could not be read .*nothing was changed") as told:
            read()
        assert "remove" not in str(told.value)
    assert sorted(path.name for path in saved.iterdir()) == ["2", "3"]
    assert (tmp_path / "final").exists()


def test_a_state_saved_in_the_background_is_the_state_at_that_step(tmp_path):
    """Donated buffers are overwritten by the next steps while the save is under way."""
    step = jax.jit(lambda x: x + 1, donate_argnums=0)
    checkpoints = Checkpoints(tmp_path / "c", devices.create_mesh(), keep=10)
    x = jnp.zeros((512, 512))
    for number in range(1, 6):
        x = step(x)
        checkpoints.save(number, {"x": x})
        for _ in range(20):
            x = step(x)
        x = step(x - 20 - 1)
    checkpoints.close()
    again = Checkpoints(tmp_path / "c", devices.create_mesh(), keep=10)
    for number in again._manager.all_steps():
        restored = again._manager.restore(number)["x"]
        assert np.all(restored == number), number


def test_a_full_disk_is_told_before_anything_is_written(saved, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(9, 9, 2**19))
    with pytest.raises(UserError, match="no space left on the disk.*0.5 are free"):
        Checkpoints(saved, devices.create_mesh()).save(4, tree(4))
    with pytest.raises(UserError, match="no space left on the disk"):
        save_final(tmp_path / "final", tree(4))
    assert not (tmp_path / "final").exists()
    assert restore(saved)["step"] == 3


def test_final_is_written_whole_and_of_one_network(tmp_path):
    variables = {"params": {"w": jnp.arange(6.0).reshape(2, 3)}}
    save_final(tmp_path / "final", variables)
    mesh = devices.create_mesh()
    restored = load_final(tmp_path / "final", variables, mesh)
    assert np.array_equal(restored["params"]["w"], variables["params"]["w"])
    for other in ({"other": jnp.zeros(2)}, {"w": jnp.zeros((9, 9))}):
        with pytest.raises(UserError, match="is of another network") as error:
            load_final(tmp_path / "final", {"params": other}, mesh)
        assert "remove" not in str(error.value)
    for path in (tmp_path / "final").rglob("*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"is damaged \(.*: remove that folder"):
        load_final(tmp_path / "final", variables, mesh)
    with pytest.raises(UserError, match="is missing: python -m fgvc_jax.train trains it again"):
        load_final(tmp_path / "gone", variables, mesh)


def test_a_training_has_begun_once_there_is_a_checkpoint(tmp_path, monkeypatch):
    """Not by one that is damaged, or that a kill left half written; in a bucket each start has a
    folder of its own."""
    assert not checkpoint.begun(tmp_path / "checkpoints")
    for name, found in (("4.damaged", False), ("8.orbax-checkpoint-tmp-1", False), ("8", True)):
        (tmp_path / name).mkdir()
        assert checkpoint.begun(tmp_path) is found
    for names, found in ((["2/.keep", "2"], False), (["2/.keep", "3/16/default/d/0"], True)):
        there = SimpleNamespace(below=lambda _, names=names: names)
        monkeypatch.setattr(checkpoint.mirror, "of", lambda _, there=there: there)
        assert checkpoint.begun(tmp_path) is found
