"""Where groups look at runs: Weights & Biases, and MLflow.

Both are asked where they are by their own variables alone (WANDB_MODE, WANDB_PROJECT,
MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, ...), keys and tokens among them.
"""

import importlib.util
import logging
import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from fgvc_jax.utils.errors import UserError

PROJECT = "fgvc_jax"  # of runs, unless a variable says otherwise
_TAG = "fgvc_jax.run"  # MLflow's runs are found again by it
_MOST = 1000  # numbers that MLflow takes at a time


class LoggedStep(NamedTuple):
    """What a member's journal says of a step: numbers by name."""

    member: int
    step: int
    values: dict[str, float]

    @property
    def named(self) -> dict[str, float]:
        """The numbers by names that tell members apart."""
        return {f"member_{self.member}/{name}": value for name, value in self.values.items()}


class Tracker(Protocol):
    """A run in somebody's tracker. Anything may raise anything."""

    def last(self, member: int) -> int:
        """The last step of a member that the tracker has for good; 0 where there is none."""

    def send(self, rows: Sequence[LoggedStep]) -> None:
        """Add steps, in order."""

    def attach(self, files: Sequence[Path]) -> None:
        """Keep files with the run."""

    def end(self, *, finished: bool) -> None:
        """Say that nothing more comes for now."""


def check(name: str) -> None:
    """Raise a UserError where the package of a tracker is not installed."""
    if importlib.util.find_spec(name) is None:
        raise UserError(
            f"--track {name} needs the package {name}: pip install {name} (in a checkout "
            f"pip install -e '.[{name}]'), or leave it out: --track none"
        )


class Wandb:
    """A run of Weights & Biases.

    Args:
        identity: what the run is called, of our own making, so that it is found again.
        name: for people.
        config: options by name.
        folder: where its files go.
    """

    def __init__(self, identity: str, name: str, config: Mapping[str, Any], folder: Path):
        import wandb

        self._files = sorted(folder.glob(f"wandb/offline-run-*/run-{identity}.wandb"))
        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            id=identity,
            name=name,
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=str(folder),
            config=dict(config),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", save_code=False),
        )
        self._artifact: Callable[..., Any] = wandb.Artifact
        self._axes: set[int] = set()

    def last(self, member: int) -> int:
        """As the server says, or the files of earlier starts that were offline: a killed one has
        lost what it had not written yet."""
        name = f"member_{member}/step"
        here = (
            int(values[name])
            for file in self._files
            for values in offline_steps(file)
            if name in values
        )
        return max(int(self._run.summary.get(name) or 0), *here, 0)

    def send(self, rows: Sequence[LoggedStep]) -> None:
        for row in rows:
            if row.member not in self._axes:
                axis = f"member_{row.member}/step"
                self._run.define_metric(f"member_{row.member}/*", step_metric=axis)
                self._axes.add(row.member)
            self._run.log({**row.named, f"member_{row.member}/step": row.step})

    def attach(self, files: Sequence[Path]) -> None:
        artifact = self._artifact(f"run-{self._run.id}", type="results")
        for file in files:
            artifact.add_file(str(file), policy="mutable")  # which is not copied first
        self._run.log_artifact(artifact)

    def end(self, *, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)


def offline_steps(file: Path) -> Iterator[dict[str, float]]:
    """The numbers of each step that a file of an offline run of Weights & Biases holds; what a kill
    has torn is left out."""
    import json

    from wandb.proto import wandb_internal_pb2

    for content in _records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        if record.HasField("history"):
            yield {
                "/".join(item.nested_key) or item.key: json.loads(item.value_json)
                for item in record.history.item
            }


def _records(data: bytes) -> Iterator[bytes]:
    """The records of LevelDB's log format, which such a file has after 7 bytes of its own: blocks
    of 32 KiB, in which a part of a record has a checksum, its length, and whether it is the whole
    (1), the first (2), a middle (3) or the last (4) of one."""
    at, parts = 7, b""
    while at + 7 <= len(data):
        left = 2**15 - at % 2**15
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        part = data[at + 7 : at + 7 + length]
        if kind not in (1, 2, 3, 4) or len(part) < length:
            return
        at += 7 + length
        parts = part if kind in (1, 2) else parts + part
        if kind in (1, 4):
            yield parts


class Mlflow:
    """A run of MLflow: arguments as for `Wandb`."""

    def __init__(self, identity: str, name: str, config: Mapping[str, Any], folder: Path):
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of each table it makes
        self._metric: Callable[..., Any] = Metric
        self._client = client = MlflowClient()
        project = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        there = client.get_experiment_by_name(project)
        where = there.experiment_id if there else client.create_experiment(project)
        runs = client.search_runs([where], f"tags.`{_TAG}` = '{identity}'", max_results=1)
        if runs:
            self._id = runs[0].info.run_id
            client.update_run(self._id, status="RUNNING")
            return
        self._id = client.create_run(where, tags={_TAG: identity}, run_name=name).info.run_id
        params = [Param(key, str(value)[:6000]) for key, value in config.items()]
        for start in range(0, len(params), 100):
            client.log_batch(self._id, params=params[start : start + 100])

    def last(self, member: int) -> int:
        history = self._client.get_metric_history(self._id, f"member_{member}/epoch")
        return max((each.step for each in history), default=0)

    def send(self, rows: Sequence[LoggedStep]) -> None:
        batch: list[Any] = []
        now = int(1000 * time.time())
        for row in rows:
            numbers = [self._metric(key, v, now, row.step) for key, v in row.named.items()]
            if len(batch) + len(numbers) > _MOST:  # a step is sent whole
                self._client.log_batch(self._id, metrics=batch)
                batch = []
            batch += numbers
        if batch:
            self._client.log_batch(self._id, metrics=batch)

    def attach(self, files: Sequence[Path]) -> None:
        for file in files:
            self._client.log_artifact(self._id, str(file))

    def end(self, *, finished: bool) -> None:
        self._client.set_terminated(self._id, "FINISHED" if finished else "KILLED")


TRACKERS: dict[str, Callable[..., Tracker]] = {"wandb": Wandb, "mlflow": Mlflow}
