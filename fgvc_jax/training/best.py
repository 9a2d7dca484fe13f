"""The epoch that did best so far by one accuracy."""

from pathlib import Path
from typing import Any

from fgvc_jax.workdir import storage


class Best:
    """Record of the best epoch of a member, in a file beside what is kept of it.

    Of equal accuracies the earliest epoch counts. A training that repeats steps after a kill meets
    its best epoch again and keeps it anew.

    Args:
        path: of the record, a JSON file.
        metric: the accuracy that decides, by its name in an evaluation's scores.
    """

    def __init__(self, path: Path, metric: str):
        self._path = path
        self._metric = metric
        try:
            self.record: dict[str, Any] | None = storage.read_json(path)
        except FileNotFoundError:
            self.record = None

    def improves(self, step: int, scores: dict[str, Any]) -> bool:
        """Whether the epoch that ends at `step` is better than all before, or is the best one."""
        if self.record is None or self.record["step"] == step:
            return True
        return scores[self._metric] > self.record[self._metric]

    def keep(self, position: dict[str, int], scores: dict[str, Any], *, write: bool = True) -> None:
        """Make this epoch the best; call it once what belongs to it is kept."""
        self.record = {**position, **scores}
        if write:
            storage.write_json(self._path, self.record)
