"""What processes agree on, of one that is alone or told of others; tests/utils/test_devices.py has
two that run together."""

import contextlib
import dataclasses
import json

import jax
import numpy as np
import pytest
from conftest import tiny

from fgvc_jax.config import Optimizer
from fgvc_jax.utils import processes
from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir.record import ELSEWHERE


@pytest.fixture
def second_of_two(monkeypatch):
    """This process is the second; `first` is what the first one says."""
    first = {}
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    of_both = processes.multihost_utils
    monkeypatch.setattr(of_both, "process_allgather", lambda own: np.array([first["value"], own]))
    monkeypatch.setattr(of_both, "broadcast_one_to_all", lambda own: first["value"])
    monkeypatch.setattr(of_both, "sync_global_devices", lambda what: None)
    return first


def test_who_is_alone_decides_and_waits_for_nobody():
    value = np.arange(3)
    assert processes.of_first(value) is value
    assert processes.largest(3) == processes.total(3) == 3
    assert processes.processes_here() == 1 and processes.gathered([1]) == [1]
    processes.wait_for_all("nobody else")
    processes.check_shared(lambda: pytest.fail("nobody else need see it"), "--workdir run")


def test_the_first_decides_and_all_are_counted(second_of_two):
    second_of_two["value"] = np.int32(5)
    assert processes.of_first(np.int32(3)) == 5
    assert processes.largest(3) == 5 and processes.total(3) == 8


def test_a_folder_that_the_first_does_not_see_is_not_shared(second_of_two):
    second_of_two["value"] = np.int32(1)
    with pytest.raises(UserError, match="--workdir 'run' is not the same folder for all"):
        processes.check_shared(lambda: True, "--workdir 'run'")


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ({}, ""),
        ({"workdir": "/mnt/run"}, ""),
        ({"epochs": 3}, "--epochs is 3 in process 0 and 1 in process 1"),
        ({"optimizer": Optimizer(learning_rate=0.7)}, r"--optimizer\.learning-rate is 0\.7 in pro"),
        ({"save_every": 7}, "--save-every is 7 in process 0"),
        ({"program": "e" * 64}, r"fgvc_jax is \S+ \(e{12}\) in process 0 and "),
    ],
)
def test_processes_that_were_not_started_alike_are_told(second_of_two, monkeypatch, there, told):
    """Another learning rate went on without a word: each process made its own program of it."""
    asked = tiny(epochs=1)
    own = []
    monkeypatch.setattr(processes, "gathered", lambda mine: [*own, *mine])
    program = there.pop("program", "")
    with monkeypatch.context() as patch:
        if program:
            patch.setattr(processes, "of_program", lambda: program)
        patch.setattr(processes, "gathered", lambda mine: own.extend(mine) or mine)
        processes.check_alike(dataclasses.replace(asked, **there), ELSEWHERE)
    with pytest.raises(UserError, match=told) if told else contextlib.nullcontext():
        processes.check_alike(asked, ELSEWHERE)


def test_a_lock_is_taken_by_the_first_alone_and_refused_to_all(second_of_two, monkeypatch):
    @contextlib.contextmanager
    def lock():
        raise UserError("in use by process 7")
        yield

    second_of_two["value"] = np.bool_(False)
    with processes.held_by_first(lock):  # which is not asked here
        pass
    second_of_two["value"] = np.bool_(True)
    refused = "the first process could not have the workdir"
    with pytest.raises(UserError, match=refused), processes.held_by_first(lock):
        pytest.fail("nobody has the lock")
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    with pytest.raises(UserError, match="in use by process 7"), processes.held_by_first(lock):
        pytest.fail("nobody has the lock")


@pytest.fixture
def joins(monkeypatch):
    """Has this process, one of two, join the other by what stands for JAX's way to do it."""

    def join(number, initialize):
        variables = {"COORDINATOR_ADDRESS": "a:1", "NUM_PROCESSES": 2, "PROCESS_ID": number}
        for name, value in variables.items():
            monkeypatch.setenv(f"JAX_{name}", str(value))
        monkeypatch.setattr(jax.config, "update", lambda *_: None)
        monkeypatch.setattr(jax.distributed, "initialize", initialize)
        monkeypatch.setattr(processes.watchdog, "await_others", lambda: None)
        processes.join_processes()

    return join


def test_the_variables_that_join_processes_are_named(joins):
    def refuse(**given):
        assert given["process_id"] == 1 and given["num_processes"] == 2
        raise RuntimeError("nobody is there\nand a long story")

    with pytest.raises(UserError, match=r"\(nobody is there\).*set JAX_COORDINATOR_ADDRESS, JAX_"):
        joins(1, refuse)


def test_a_port_that_is_in_use_is_told(joins):
    def refuse(**_):
        raise RuntimeError("UNKNOWN: Failed to start RPC server")

    with pytest.raises(UserError, match=r"at the port of a:1, which is in use, or may not: name"):
        joins(0, refuse)


def test_lists_of_all_processes_are_one_in_their_order(second_of_two, monkeypatch):
    rows = [[["test", 3, "image '\u00e9\udcff'"]], [["train", 1, "x" * 90], ["test", 0, ""]]]
    texts = [json.dumps(row).encode() for row in rows]
    width = max(map(len, texts))

    def gather(own):
        if own.ndim == 0:
            return np.array([len(text) for text in texts])
        assert own.tobytes() == texts[1].ljust(width)
        return np.stack([np.frombuffer(text.ljust(width), np.uint8) for text in texts])

    monkeypatch.setattr(processes.multihost_utils, "process_allgather", gather)
    assert processes.gathered(rows[1]) == rows[0] + rows[1]
