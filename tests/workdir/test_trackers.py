"""How trackers are spoken to; the trackers themselves are in tests/training/test_tracking.py."""

import struct
import sys
from types import ModuleType, SimpleNamespace

import pytest

from fgvc_jax.utils.errors import UserError
from fgvc_jax.workdir import trackers
from fgvc_jax.workdir.trackers import LoggedStep


def framed(*records, header=b":W&B\xe1\xbe\0"):
    """Records in LevelDB's log format, whose checksums nobody looks at."""
    data = bytearray(header)
    for record in records:
        first = True
        while True:
            left = 2**15 - len(data) % 2**15
            if left < 7:
                data += bytes(left)
                left = 2**15
            part, record = record[: left - 7], record[left - 7 :]
            kind = {(1, 0): 1, (1, 1): 2, (0, 1): 3, (0, 0): 4}[int(first), int(bool(record))]
            data += struct.pack("<IHB", 0, len(part), kind) + part
            first = False
            if not record:
                break
    return bytes(data)


@pytest.mark.parametrize("sizes", [[3, 0, 5], [2**15 - 14 - 3, 4], [100_000, 7], [2**15 - 14, 1]])
def test_records_come_back_as_they_were_written(sizes):
    records = [bytes([65 + i]) * size for i, size in enumerate(sizes)]
    assert list(trackers._records(framed(*records))) == records


@pytest.mark.parametrize("cut", [1, 5, 9, 40])
def test_a_torn_record_is_left_out(cut):
    data = framed(b"whole", b"torn" * 10)
    assert list(trackers._records(data[:-cut])) == [b"whole"]
    assert list(trackers._records(b"")) == list(trackers._records(b":W&B")) == []


def test_garbage_ends_it():
    assert list(trackers._records(framed(b"whole") + b"\xff" * 50)) == [b"whole"]


def test_a_package_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install mlflow .in a checkout .* '.\[mlflow\]'"):
        trackers.check("mlflow")


class Client:
    """What we use of mlflow.MlflowClient."""

    def __init__(self):
        self.batches = []

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id=name)

    def search_runs(self, where, filter_string, max_results):
        return []

    def create_run(self, where, tags, run_name):
        return SimpleNamespace(info=SimpleNamespace(run_id="r"))

    def log_batch(self, run, metrics=(), params=()):
        self.batches.append([*metrics, *params])


def test_a_step_is_never_cut_in_two_by_what_mlflow_takes_at_a_time(monkeypatch, tmp_path):
    client, entities = Client(), ModuleType("mlflow.entities")
    entities.Metric = lambda key, value, when, step: (key, value, step)
    entities.Param = lambda key, value: (key, value)
    package = ModuleType("mlflow")
    package.MlflowClient = lambda: client
    monkeypatch.setitem(sys.modules, "mlflow", package)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    tracker = trackers.Mlflow("id", "name", {"seed": 0, "long": "x" * 9000}, tmp_path)
    assert client.batches.pop() == [("seed", "0"), ("long", "x" * 6000)]
    monkeypatch.setattr(trackers, "_MOST", 5)
    tracker.send([LoggedStep(1, step, {"loss": 0.5, "epoch": 1}) for step in (1, 2, 3)])
    assert [len(batch) for batch in client.batches] == [4, 2]
    assert client.batches[1] == [("member_1/loss", 0.5, 3), ("member_1/epoch", 1, 3)]
